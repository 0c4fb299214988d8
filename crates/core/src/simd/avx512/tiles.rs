//! Inner loops of the tiles of integers and of bfloat16 numbers for AVX-512 with VNNI and BF16, in assembly.
//!
//! The compiler splits most of the `vpdpwssd` intrinsics of a tile into `vpmaddwd` and `vpaddd` to shorten the chain of
//! dependent additions. A tile of twelve rows has 24 independent sums, so the latency does not matter and the second
//! instruction costs a third of the speed.

use crate::simd::tile::{INT8_GROUP, Tile, VECTORS};
use std::arch::asm;
use std::arch::x86_64::{__m512, __m512i};

/// Sets the registers x3, x6 and x9 to the third, sixth and ninth row after x. An address can add one or two rows to
/// them.
macro_rules! every_third_row {
    () => {
        concat!(
            "lea {x3}, [{x} + 2*{stride}]\n",
            "add {x3}, {stride}\n",
            "lea {x6}, [{x3} + 2*{stride}]\n",
            "add {x6}, {stride}\n",
            "lea {x9}, [{x6} + 2*{stride}]\n",
            "add {x9}, {stride}\n",
        )
    };
}

/// One step along K: multiplies the rows of x, at a byte offset, with two vectors of b, at byte offsets.
macro_rules! step {
    ($multiply_add:tt, $x:tt, [$b0:tt $b1:tt], $([$row:tt $address:tt $first:tt $second:tt])+) => {
        concat!(
            "vmovdqu32 zmm24, [{b} + ",
            $b0,
            "]\n",
            "vmovdqu32 zmm25, [{b} + ",
            $b1,
            "]\n",
            $(
                "vpbroadcastd zmm26, [",
                $address,
                " + ",
                $x,
                "]\n",
                $multiply_add,
                " ",
                $first,
                ", zmm26, zmm24\n",
                $multiply_add,
                " ",
                $second,
                ", zmm26, zmm25\n",
            )+
        )
    };
}

/// The loop over K: four steps at a time, then single steps. Each four steps prefetch as much as one row of b, at two
/// addresses.
macro_rules! rows {
    (($sums:ident, $tile:ident, $multiply_add:tt), $([$row:tt $address:tt $first:tt $second:tt])+) => {
        asm!(
            every_third_row!(),
            "sub {k}, 4",
            "jb 3f",
            ".p2align 5",
            "2:",
            "prefetcht1 [{prefetch}]",
            "prefetcht1 [{prefetch} + 64]",
            "prefetcht1 [{prefetch} + {further}]",
            "prefetcht1 [{prefetch} + {further} + 64]",
            step!($multiply_add, "0", ["0" "64"], $([$row $address $first $second])+),
            step!($multiply_add, "4", ["128" "192"], $([$row $address $first $second])+),
            step!($multiply_add, "8", ["256" "320"], $([$row $address $first $second])+),
            step!($multiply_add, "12", ["384" "448"], $([$row $address $first $second])+),
            "add {x}, 16",
            "add {x3}, 16",
            "add {x6}, 16",
            "add {x9}, 16",
            "add {b}, 512",
            "add {prefetch}, 128",
            "sub {k}, 4",
            "jae 2b",
            "3:",
            "add {k}, 4",
            "jz 5f",
            "4:",
            step!($multiply_add, "0", ["0" "64"], $([$row $address $first $second])+),
            "add {x}, 4",
            "add {x3}, 4",
            "add {x6}, 4",
            "add {x9}, 4",
            "add {b}, 128",
            "dec {k}",
            "jnz 4b",
            "5:",
            x = inout(reg) $tile.x => _,
            x3 = out(reg) _,
            x6 = out(reg) _,
            x9 = out(reg) _,
            stride = in(reg) 4 * $tile.x_stride,
            b = inout(reg) $tile.b => _,
            prefetch = inout(reg) $tile.prefetch => _,
            further = in(reg) $tile.further,
            k = inout(reg) $tile.k => _,
            $(inout($first) $sums[$row][0], inout($second) $sums[$row][1],)+
            out("zmm24") _, out("zmm25") _, out("zmm26") _,
            options(nostack, readonly),
        )
    };
}

/// Selects the code of `$code!` for `$count` rows. Each row follows the number of rows up to it, and has its index, its
/// address and the registers of its sums.
macro_rules! for_rows {
    ($code:ident, $count:expr, $operands:tt) => {
        for_rows!(@ $code, $count, $operands, [], [],
            1 [0 "{x}" "zmm0" "zmm1"]
            2 [1 "{x} + {stride}" "zmm2" "zmm3"]
            3 [2 "{x} + 2*{stride}" "zmm4" "zmm5"]
            4 [3 "{x3}" "zmm6" "zmm7"]
            5 [4 "{x3} + {stride}" "zmm8" "zmm9"]
            6 [5 "{x3} + 2*{stride}" "zmm10" "zmm11"]
            7 [6 "{x6}" "zmm12" "zmm13"]
            8 [7 "{x6} + {stride}" "zmm14" "zmm15"]
            9 [8 "{x6} + 2*{stride}" "zmm16" "zmm17"]
            10 [9 "{x9}" "zmm18" "zmm19"]
            11 [10 "{x9} + {stride}" "zmm20" "zmm21"]
            12 [11 "{x9} + 2*{stride}" "zmm22" "zmm23"]
        )
    };
    (@ $code:ident, $count:expr, $operands:tt, [$($arms:tt)*], [$($before:tt)*], $upto:tt $row:tt $($rest:tt)*) => {
        for_rows!(
            @ $code, $count, $operands,
            [$($arms)* $upto => $code!($operands, $($before)* $row),], [$($before)* $row], $($rest)*
        )
    };
    (@ $code:ident, $count:expr, $operands:tt, [$($arms:tt)*], [$($before:tt)*],) => {
        match $count {
            $($arms)*
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
}

/// Computes a tile of one to twelve rows of 16-bit integers.
///
/// # Safety
/// `tile` must describe `ROWS` rows of x with k pairs each and k rows of b. The processor must have AVX-512 F and VNNI.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) unsafe fn tile_int16<const ROWS: usize>(sums: &mut [[__m512i; VECTORS]; ROWS], tile: &Tile) {
    // A slice, because a constant index beyond an array of fewer rows does not compile, even in an arm that is not
    // selected.
    let sums = sums.as_mut_slice();
    // SAFETY: the loop reads k pairs of ROWS rows of x and k rows of b, which the tile covers by this function's
    // contract. Addresses of further rows are computed and not read. A prefetch of any address is harmless.
    unsafe { for_rows!(rows, ROWS, (sums, tile, "vpdpwssd")) }
}

/// Computes a tile of one to twelve rows of bfloat16 numbers.
///
/// Each step adds the product of the second numbers of two pairs to a sum and then the product of the first, and rounds
/// after each. Denormal numbers count as zeros, and a denormal sum becomes zero.
///
/// # Safety
/// `tile` must describe `ROWS` rows of x with k pairs each and k rows of b. The processor must have AVX-512 F and BF16.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn tile_bf16<const ROWS: usize>(sums: &mut [[__m512; VECTORS]; ROWS], tile: &Tile) {
    let sums = sums.as_mut_slice();
    // SAFETY: the loop reads k pairs of ROWS rows of x and k rows of b, which the tile covers by this function's
    // contract. Addresses of further rows are computed and not read. A prefetch of any address is harmless.
    unsafe { for_rows!(rows, ROWS, (sums, tile, "vdpbf16ps")) }
}

/// Computes a tile of one to twelve rows of f32.
///
/// # Safety
/// `tile` must describe `ROWS` rows of x with k elements each and k rows of b. The processor must have AVX-512 F.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn tile_f32<const ROWS: usize>(sums: &mut [[__m512; VECTORS]; ROWS], tile: &Tile) {
    let sums = sums.as_mut_slice();
    // SAFETY: the loop reads k elements of ROWS rows of x and k rows of b, which the tile covers by this function's
    // contract. Addresses of further rows are computed and not read. A prefetch of any address is harmless.
    unsafe { for_rows!(rows, ROWS, (sums, tile, "vfmadd231ps")) }
}

/// One group of 8-bit integers: the sums start with their offsets, and are scaled and added to `floats` in memory.
macro_rules! group {
    (($floats:ident, $tile:ident, $scales:ident, $scale_stride:ident),
     $([$row:tt $address:tt $first:tt $second:tt])+) => {
        asm!(
            "vpmovsxwd zmm24, [{b} + 128]",
            "vpmovsxwd zmm25, [{b} + 160]",
            "vpslld zmm24, zmm24, 7",
            "vpslld zmm25, zmm25, 7",
            $(
                concat!("vmovdqa64 ", $first, ", zmm24"),
                concat!("vmovdqa64 ", $second, ", zmm25"),
            )+
            every_third_row!(),
            "mov {k:e}, 8",
            ".p2align 5",
            "2:",
            "prefetcht1 [{prefetch}]",
            "prefetcht1 [{prefetch} + 64]",
            "prefetcht1 [{prefetch} + {further}]",
            "prefetcht1 [{prefetch} + {further} + 64]",
            step!("vpdpbusd", "0", ["192" "256"], $([$row $address $first $second])+),
            step!("vpdpbusd", "4", ["320" "384"], $([$row $address $first $second])+),
            step!("vpdpbusd", "8", ["448" "512"], $([$row $address $first $second])+),
            step!("vpdpbusd", "12", ["576" "640"], $([$row $address $first $second])+),
            "add {x}, 16",
            "add {x3}, 16",
            "add {x6}, 16",
            "add {x9}, 16",
            "add {b}, 512",
            "add {prefetch}, 128",
            "dec {k:e}",
            "jnz 2b",
            "vmovups zmm24, [{b} - 4096]",
            "vmovups zmm25, [{b} - 4032]",
            // The scales are addressed like the rows of x.
            "mov {x}, {scales}",
            "mov {stride}, {scale_stride}",
            every_third_row!(),
            $(
                concat!("vcvtdq2ps ", $first, ", ", $first),
                concat!("vcvtdq2ps ", $second, ", ", $second),
                concat!("vmulps zmm26, zmm24, dword ptr [", $address, "]{{1to16}}"),
                concat!("vmulps zmm27, zmm25, dword ptr [", $address, "]{{1to16}}"),
                concat!("vfmadd213ps ", $first, ", zmm26, [{floats} + 128*", $row, "]"),
                concat!("vfmadd213ps ", $second, ", zmm27, [{floats} + 128*", $row, " + 64]"),
                concat!("vmovups [{floats} + 128*", $row, "], ", $first),
                concat!("vmovups [{floats} + 128*", $row, " + 64], ", $second),
            )+
            x = inout(reg) $tile.x => _,
            x3 = out(reg) _,
            x6 = out(reg) _,
            x9 = out(reg) _,
            stride = inout(reg) 4 * $tile.x_stride => _,
            b = inout(reg) $tile.b => _,
            prefetch = inout(reg) $tile.prefetch => _,
            further = in(reg) $tile.further,
            k = out(reg) _,
            scales = in(reg) $scales,
            scale_stride = in(reg) 4 * $scale_stride,
            floats = in(reg) $floats.as_mut_ptr(),
            $(out($first) _, out($second) _,)+
            out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _,
            options(nostack),
        )
    };
}

/// Adds the products of one to twelve rows of unsigned bytes with one group of 8-bit weights to `floats`, like
/// `simd::tile::group_int8`.
///
/// With the loop alone in assembly, as in [`tile_int16`], the kernel was about 3 % slower (docs/performance.md).
///
/// # Safety
/// `tile` must describe `ROWS` rows of x with 128 bytes each and b one group of a panel; the scales, which are `stride`
/// values apart, must be valid for `ROWS` reads. The processor must have AVX-512 F and VNNI.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) unsafe fn group_int8<const ROWS: usize, V>(
    floats: &mut [V],
    tile: &Tile,
    (scales, stride): (*const f32, usize),
) {
    const { assert!(INT8_GROUP == 128 && size_of::<V>() == 64) };
    assert!(floats.len() >= VECTORS * ROWS);
    // SAFETY: the code reads 128 bytes of ROWS rows of x, one group of b and ROWS scales, which are there by this
    // function's contract; the assertion checks that `floats` has two vectors for each row. Addresses of further rows are
    // computed and not read. A prefetch of any address is harmless.
    unsafe { for_rows!(group, ROWS, (floats, tile, scales, stride)) }
}
