//! Matrix tiles of AMX: one instruction multiplies 16 rows of x with 16 columns of weights, 64 bytes deep.
//!
//! Eight tile registers hold 16 rows of 64 bytes each. The compiler does not know them, so all code that depends on
//! their content is in one block of assembly, and only their sizes last from one block to the next. Sums are written
//! to memory as integers, and scaled by the vector units while the tile unit computes the next ones. The integers and
//! their sums are those of the other instruction sets, so the bits of a result are, too.
//!
//! Products of bfloat16 numbers are rounded, and no other instruction set adds them in this order. One instruction adds
//! the products of the first numbers of 16 pairs one after the other, those of the second numbers likewise, then both
//! sums, and the result to the sum of the tile. Denormal numbers count as zeros, and a denormal sum becomes zero.
//!
//! Instructions and the layout of a tile: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1,
//! chapter 18.

use super::Avx512;
use crate::simd::tile::{BFLOAT16_UNIT, INT8_GROUP, Tile, VECTORS, group_len};
use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::slice::ChunksExactMut;
use std::sync::LazyLock;

/// Rows of x in one tile register.
pub const TILE_ROWS: usize = 16;
/// Columns of a panel: those of two tile registers.
const WIDTH: usize = 32;
/// Bytes of a row of sums, and of four rows of 8-bit weights.
const STRIDE: usize = 4 * WIDTH;

/// The operand of `ldtilecfg`.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

/// Sets the sizes of the tile registers: `rows` rows for registers 0 to 5, which have sums and rows of x, and all 16 for
/// registers 6 and 7, which have weights.
///
/// # Safety
/// The processor must have AMX, and the process the permission to use it.
pub unsafe fn configure(rows: usize) {
    assert!((1..=TILE_ROWS).contains(&rows));
    let mut configuration = Configuration {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        bytes: [0; 16],
        rows: [0; 16],
    };
    configuration.bytes[..8].fill(64);
    configuration.rows[..6].fill(rows as u8);
    configuration.rows[6..8].fill(16);
    // SAFETY: the operand has the layout of palette 1; the processor has AMX by this function's contract.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly));
    }
}

/// Empties the tile registers, so that a switch to another thread need not save them.
///
/// # Safety
/// The processor must have AMX, and the process the permission to use it.
pub unsafe fn release() {
    // SAFETY: the processor has AMX by this function's contract.
    unsafe { asm!("tilerelease", options(nostack, nomem)) }
}

/// The tile registers, which a block of assembly overwrites.
macro_rules! clobbers {
    ($($code:tt)*) => {
        asm!(
            $($code)*
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

/// 32-bit sums of one tile of rows and a panel, row by row.
#[repr(C, align(64))]
struct PanelSums([i32; TILE_ROWS * WIDTH]);

/// Multiplies a tile of rows of x, and that at `second`, with one group of 8-bit weights.
///
/// # Safety
/// `x` and `second` must be valid for a row of [`INT8_GROUP`] bytes every `stride` bytes, as many as [`configure`] was
/// told, and `b` for the integers of a group. The processor must have AMX, and the process the permission to use it.
#[inline(always)]
unsafe fn multiply_int8(
    sums: *mut [PanelSums; 2],
    (x, second, stride): (*const u8, Option<*const u8>, usize),
    b: *const u8,
) {
    // SAFETY: the tiles read the configured rows of x and 32 rows of b, and write the configured rows of the sums, by this
    // function's contract.
    unsafe {
        if let Some(second) = second {
            clobbers!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "tileloadd tmm4, [{x} + {stride}]",
                "tileloadd tmm6, [{b} + {columns}]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {columns} + 64]",
                "tdpbssd tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{second} + {stride}]",
                "tdpbssd tmm2, tmm5, tmm6",
                "tdpbssd tmm3, tmm5, tmm7",
                "tileloadd tmm4, [{x} + {stride} + 64]",
                "tileloadd tmm6, [{b} + {columns} + 2048]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {columns} + 2112]",
                "tdpbssd tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{second} + {stride} + 64]",
                "tdpbssd tmm2, tmm5, tmm6",
                "tdpbssd tmm3, tmm5, tmm7",
                "tilestored [{sums} + {columns}], tmm0",
                "tilestored [{sums} + {columns} + 64], tmm1",
                "tilestored [{sums} + {columns} + 2048], tmm2",
                "tilestored [{sums} + {columns} + 2112], tmm3",
                x = in(reg) x,
                second = in(reg) second,
                stride = in(reg) stride,
                b = in(reg) b,
                columns = in(reg) STRIDE,
                sums = in(reg) sums,
            );
        } else {
            clobbers!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tileloadd tmm4, [{x} + {stride}]",
                "tileloadd tmm6, [{b} + {columns}]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {columns} + 64]",
                "tdpbssd tmm1, tmm4, tmm7",
                "tileloadd tmm4, [{x} + {stride} + 64]",
                "tileloadd tmm6, [{b} + {columns} + 2048]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {columns} + 2112]",
                "tdpbssd tmm1, tmm4, tmm7",
                "tilestored [{sums} + {columns}], tmm0",
                "tilestored [{sums} + {columns} + 64], tmm1",
                x = in(reg) x,
                stride = in(reg) stride,
                b = in(reg) b,
                columns = in(reg) STRIDE,
                sums = in(reg) sums,
            );
        }
    }
}

/// Scales the sums of one group and adds them to `floats`, or to 0 if it is the `FIRST` group, like
/// `simd::tile::group_int8`.
///
/// # Safety
/// `sums` must have been written for the rows of `floats`, and the scales, which are `stride` values apart, must be valid
/// for each row. The processor must have AVX-512 F.
#[inline(always)]
unsafe fn scale_and_add<const LEVEL: u8, const FIRST: bool>(
    floats: &mut [[Avx512<LEVEL>; VECTORS]],
    sums: *const PanelSums,
    column_scales: [__m512; VECTORS],
    (scales, stride): (*const f32, usize),
    (prefetch, lines): (*const f32, usize),
) {
    // SAFETY: the reads are inside the sums and scales by this function's contract; a prefetch of any address is harmless.
    unsafe {
        let sums = sums.cast::<i32>();
        for (row, floats) in floats.iter_mut().enumerate() {
            let row_scale = _mm512_set1_ps(*scales.add(row * stride));
            for line in 0..lines {
                _mm_prefetch::<_MM_HINT_T1>(prefetch.wrapping_add((lines * row + line) * 16).cast());
            }
            for (v, float) in floats.iter_mut().enumerate() {
                let sum = _mm512_cvtepi32_ps(_mm512_load_si512(sums.add(WIDTH * row + 16 * v).cast()));
                let before = if FIRST { _mm512_setzero_ps() } else { float.0 };
                float.0 = _mm512_fmadd_ps(sum, _mm512_mul_ps(row_scale, column_scales[v]), before);
            }
        }
    }
}

/// Writes the products of one or two tiles of rows with all groups of a panel of 8-bit weights to the sums of each tile.
///
/// b points to the first group of the panel, see [`group_len`]; `scales` are the address of the first scale of row 0 and
/// the values from one row's scales to the next. Beside each row of each group as many cache lines are prefetched as
/// `lines` says.
///
/// # Safety
/// [`configure`] must have been called for `size` rows, and `floats` must have as many for each of `first_rows`. `tile`
/// must describe row 0 of x and the panel; x and the scales must be valid for the rows from each of `first_rows` on. The
/// processor must have AVX-512 F and AMX, and the process the permission to use AMX.
#[inline]
#[target_feature(enable = "avx512f")]
pub unsafe fn tiles_int8<const LEVEL: u8>(
    floats: &mut [[Avx512<LEVEL>; VECTORS]],
    (first_rows, size): (&[usize], usize),
    tile: &Tile,
    (scales, stride): (*const f32, usize),
    lines: usize,
) {
    const { assert!(INT8_GROUP == 128) };
    assert!((1..=2).contains(&first_rows.len()) && floats.len() == size * first_rows.len());
    let len = group_len(WIDTH);
    let mut buffers = [const { MaybeUninit::<[PanelSums; 2]>::uninit() }; 2];
    let [mut now, mut next] = buffers.each_mut().map(MaybeUninit::as_mut_ptr);
    let x = |row: usize| tile.x.wrapping_add(row * tile.x_stride);
    let (first, second) = (x(first_rows[0]), first_rows.get(1).map(|row| x(*row)));
    let mut prefetch = tile.prefetch;
    // SAFETY: the groups are inside the panel and rows, and the sums are written before they are read, by this function's
    // contract.
    unsafe {
        let multiply = |sums, group: usize| {
            let of_group = |x: *const f32| x.wrapping_add(group * INT8_GROUP / 4).cast();
            let integers = tile.b.wrapping_add(group * len + WIDTH + WIDTH / 2);
            multiply_int8(
                sums,
                (of_group(first), second.map(of_group), 4 * tile.x_stride),
                integers.cast(),
            );
        };
        multiply(now, 0);
        for group in 0..tile.k {
            // The tile unit computes the next sums while the vector units scale these.
            if group + 1 < tile.k {
                multiply(next, group + 1);
            }
            let column_scales = tile.b.wrapping_add(group * len);
            let column_scales = [_mm512_loadu_ps(column_scales), _mm512_loadu_ps(column_scales.add(16))];
            for (number, (row, floats)) in first_rows.iter().zip(floats.chunks_mut(size)).enumerate() {
                let sums = now.cast::<PanelSums>().add(number);
                let scales = (scales.wrapping_add(row * stride + group), stride);
                if group == 0 {
                    scale_and_add::<LEVEL, true>(floats, sums, column_scales, scales, (prefetch, lines));
                } else {
                    scale_and_add::<LEVEL, false>(floats, sums, column_scales, scales, (prefetch, lines));
                }
                prefetch = prefetch.wrapping_add(16 * lines * size);
            }
            std::mem::swap(&mut now, &mut next);
        }
    }
}

/// Multiplies up to 16 rows of x with 16 columns of 16-bit weights.
///
/// An integer is 256 · upper + lower, so a product is the sum of four products of bytes: 65,536 · upper · upper, 256 ·
/// upper · lower twice, and lower · lower. The three kinds are summed apart, each over all of K. Modulo 2³² their
/// weighted sum is the sum of the products, which fits 32 bits.
///
/// # Safety
/// `x` must be valid for `units` units of 128 bytes every `stride` bytes, for as many rows as [`configure`] was told, and
/// `b` for as many units of 16 quads. The processor must have AMX, and the process the permission to use it.
#[inline(always)]
unsafe fn multiply_int16(sums: *mut [TileSums; 3], x: *const u8, stride: usize, b: *const u8, units: usize) {
    // SAFETY: the tiles read the configured rows of x and 16 quads of b for each unit, and write the configured rows of
    // the sums, by this function's contract.
    unsafe {
        clobbers!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            ".p2align 5",
            "2:",
            "tileloadd tmm4, [{x} + {stride}]",
            "tileloadd tmm6, [{b} + {quad}]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {quad} + 64]",
            "tdpbsud tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{x} + {stride} + 64]",
            "tdpbusd tmm1, tmm5, tmm6",
            "tdpbuud tmm2, tmm5, tmm7",
            "add {x}, 128",
            "add {b}, 2048",
            "dec {units}",
            "jnz 2b",
            "tilestored [{sums} + {row}], tmm0",
            "tilestored [{sums} + {row} + 1024], tmm1",
            "tilestored [{sums} + {row} + 2048], tmm2",
            x = inout(reg) x => _,
            stride = in(reg) stride,
            b = inout(reg) b => _,
            quad = in(reg) 128usize,
            units = inout(reg) units => _,
            sums = in(reg) sums,
            row = in(reg) 64usize,
        );
    }
}

/// 32-bit sums of one tile.
#[repr(C, align(64))]
struct TileSums([i32; TILE_ROWS * TILE_ROWS]);

/// Writes the products of tiles of rows with 16 columns of 16-bit weights, times the scales of row and column, to a vector
/// of the sums of each tile.
///
/// # Safety
/// [`configure`] must have been called for as many rows as a chunk of `floats` has. `tile` must describe row 0 of x and
/// the columns, with `k` units of 64 values; x and `row_scales` must be valid for the rows from each of `first_rows` on,
/// and there must be a scale for each column. The processor must have AVX-512 F and AMX, and the process the permission
/// to use AMX.
#[inline]
#[target_feature(enable = "avx512f")]
pub unsafe fn tiles_int16<const LEVEL: u8>(
    floats: ChunksExactMut<'_, [Avx512<LEVEL>; VECTORS]>,
    first_rows: &[usize],
    vector: usize,
    tile: &Tile,
    row_scales: *const f32,
    column_scales: *const f32,
) {
    let mut buffers = [const { MaybeUninit::<[TileSums; 3]>::uninit() }; 2];
    let [mut now, mut next] = buffers.each_mut().map(MaybeUninit::as_mut_ptr);
    // SAFETY: the units are inside rows and columns, and the sums of the rows are written before they are read, by this
    // function's contract.
    unsafe {
        let multiply = |sums, first: usize| {
            let x = tile.x.wrapping_add(first * tile.x_stride);
            multiply_int16(sums, x.cast(), 4 * tile.x_stride, tile.b.cast(), tile.k);
        };
        let column_scales = _mm512_loadu_ps(column_scales);
        multiply(now, first_rows[0]);
        for (number, (floats, first)) in floats.zip(first_rows).enumerate() {
            // The tile unit computes the next tile while the vector units scale this one.
            if let Some(first) = first_rows.get(number + 1) {
                multiply(next, *first);
            }
            let sums = now.cast::<i32>();
            for (row, floats) in floats.iter_mut().enumerate() {
                let sum = |part: usize| _mm512_load_si512(sums.add((part * TILE_ROWS + row) * TILE_ROWS).cast());
                let upper = _mm512_add_epi32(_mm512_slli_epi32::<16>(sum(0)), _mm512_slli_epi32::<8>(sum(1)));
                let whole = _mm512_add_epi32(upper, sum(2));
                let scale = _mm512_mul_ps(_mm512_set1_ps(*row_scales.add(first + row)), column_scales);
                floats[vector].0 = _mm512_mul_ps(_mm512_cvtepi32_ps(whole), scale);
            }
            std::mem::swap(&mut now, &mut next);
        }
    }
}

/// Prefetches 512 bytes to the second-level cache.
macro_rules! prefetch_8_lines {
    () => {
        concat!(
            "prefetcht1 [{prefetch}]\n",
            "prefetcht1 [{prefetch} + 64]\n",
            "prefetcht1 [{prefetch} + 128]\n",
            "prefetcht1 [{prefetch} + 192]\n",
            "prefetcht1 [{prefetch} + 256]\n",
            "prefetcht1 [{prefetch} + 320]\n",
            "prefetcht1 [{prefetch} + 384]\n",
            "prefetcht1 [{prefetch} + 448]",
        )
    };
}

/// Adds the products of one or two tiles of rows of bfloat16 numbers with a part of a panel to their sums, which begin
/// with zeros if `begin` is set.
///
/// `second` has the distance to the second tile, in rows, and its sums. Each unit prefetches a quarter of its length.
///
/// # Safety
/// [`configure`] must have been called for as many rows as `floats` has. `tile` must describe these rows of x and the
/// part of the panel, with `k` units of 32 values, at least one. The processor must have AVX-512 F and AMX, and the process the
/// permission to use AMX.
#[inline]
#[target_feature(enable = "avx512f")]
pub unsafe fn tiles_bf16<const LEVEL: u8>(
    floats: &mut [[Avx512<LEVEL>; VECTORS]],
    second: Option<(usize, &mut [[Avx512<LEVEL>; VECTORS]])>,
    tile: &Tile,
    begin: bool,
) {
    const { assert!(BFLOAT16_UNIT == 32) };
    // SAFETY: the tiles read the configured rows of x and of the sums, and 16 pairs of b for each unit, and write the
    // configured rows of the sums, by this function's contract. A prefetch of any address is harmless.
    unsafe {
        if let Some((distance, others)) = second {
            clobbers!(
                "test {begin}, {begin}",
                "jz 2f",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "jmp 3f",
                "2:",
                "tileloadd tmm0, [{sums} + {columns}]",
                "tileloadd tmm1, [{sums} + {columns} + 64]",
                "tileloadd tmm2, [{others} + {columns}]",
                "tileloadd tmm3, [{others} + {columns} + 64]",
                ".p2align 5",
                "3:",
                prefetch_8_lines!(),
                "tileloadd tmm4, [{x} + {stride}]",
                "tileloadd tmm6, [{b} + {columns}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {columns} + 64]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{second} + {stride}]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {x}, 64",
                "add {second}, 64",
                "add {b}, 2048",
                "add {prefetch}, 512",
                "dec {units}",
                "jnz 3b",
                "tilestored [{sums} + {columns}], tmm0",
                "tilestored [{sums} + {columns} + 64], tmm1",
                "tilestored [{others} + {columns}], tmm2",
                "tilestored [{others} + {columns} + 64], tmm3",
                x = inout(reg) tile.x => _,
                second = inout(reg) tile.x.wrapping_add(distance * tile.x_stride) => _,
                stride = in(reg) 4 * tile.x_stride,
                b = inout(reg) tile.b => _,
                columns = in(reg) STRIDE,
                units = inout(reg) tile.k => _,
                prefetch = inout(reg) tile.prefetch => _,
                begin = in(reg) usize::from(begin),
                sums = in(reg) floats.as_mut_ptr(),
                others = in(reg) others.as_mut_ptr(),
            );
        } else {
            clobbers!(
                "test {begin}, {begin}",
                "jz 2f",
                "tilezero tmm0",
                "tilezero tmm1",
                "jmp 3f",
                "2:",
                "tileloadd tmm0, [{sums} + {columns}]",
                "tileloadd tmm1, [{sums} + {columns} + 64]",
                ".p2align 5",
                "3:",
                prefetch_8_lines!(),
                "tileloadd tmm4, [{x} + {stride}]",
                "tileloadd tmm6, [{b} + {columns}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {columns} + 64]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "add {x}, 64",
                "add {b}, 2048",
                "add {prefetch}, 512",
                "dec {units}",
                "jnz 3b",
                "tilestored [{sums} + {columns}], tmm0",
                "tilestored [{sums} + {columns} + 64], tmm1",
                x = inout(reg) tile.x => _,
                stride = in(reg) 4 * tile.x_stride,
                b = inout(reg) tile.b => _,
                columns = in(reg) STRIDE,
                units = inout(reg) tile.k => _,
                prefetch = inout(reg) tile.prefetch => _,
                begin = in(reg) usize::from(begin),
                sums = in(reg) floats.as_mut_ptr(),
            );
        }
    }
}

/// Returns whether the processor has AMX for integers and bfloat16 numbers, and the system lets this process use it.
///
/// Linux keeps the tile registers of a process only after the process asked for it, once.
pub fn is_permitted() -> bool {
    static PERMITTED: LazyLock<bool> = LazyLock::new(|| {
        const TILES: u32 = 0b1101 << 22;
        let has_tiles = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & TILES == TILES;
        has_tiles && request()
    });
    *PERMITTED
}

/// Asks Linux to keep the tile registers.
#[cfg(target_os = "linux")]
fn request() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XTILEDATA: libc::c_long = 18;
    // SAFETY: the call only changes which registers the system keeps for this process. An older system returns an error.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0 }
}

/// Other systems are not asked.
#[cfg(not(target_os = "linux"))]
fn request() -> bool {
    false
}
