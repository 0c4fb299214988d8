//! Inner loops of the products for NEON. A tile of twelve rows and eight columns takes 24 of the 32 registers.
//!
//! Loops count indices and nothing is a closure: sums in a function that the compiler does not inline would be in
//! memory.

use super::Neon;
use crate::simd::tile::{Tile, VECTORS};
use std::arch::aarch64::*;
use std::arch::asm;

/// Prefetches the cache line at `p`. Each tile of a panel prefetches a quarter of the next panel.
#[inline(always)]
pub(in crate::simd) fn prefetch(p: *const f32) {
    // SAFETY: a prefetch of any address is harmless; it changes neither registers nor memory.
    unsafe { asm!("prfm pldl2keep, [{p}]", p = in(reg) p, options(nostack, preserves_flags, readonly)) }
}

/// Returns the addresses of the rows of x.
///
/// # Safety
/// `tile` must describe `ROWS` rows of x.
#[inline(always)]
pub(super) unsafe fn rows<T, const ROWS: usize>(tile: &Tile) -> [*const T; ROWS] {
    let mut x = [tile.x.cast(); ROWS];
    let mut r = 0;
    while r < ROWS {
        // SAFETY: row r < ROWS is one of the rows that the tile describes by this function's contract.
        x[r] = unsafe { tile.x.add(r * tile.x_stride).cast() };
        r += 1;
    }
    x
}

/// Reads eight f32 weights.
///
/// # Safety
/// `b` must be valid for eight reads.
#[inline(always)]
unsafe fn eight_f32(b: *const f32) -> [float32x4_t; 2] {
    // SAFETY: b is valid for eight reads by this function's contract.
    unsafe { [vld1q_f32(b), vld1q_f32(b.add(4))] }
}

/// Reads eight bfloat16 weights.
///
/// # Safety
/// `b` must be valid for eight reads.
#[inline(always)]
unsafe fn eight_bf16(b: *const u16) -> [float32x4_t; 2] {
    // SAFETY: b is valid for eight reads by this function's contract.
    unsafe {
        let halves = vld1q_u16(b);
        let (low, high) = (vshll_n_u16::<16>(vget_low_u16(halves)), vshll_high_n_u16::<16>(halves));
        [vreinterpretq_f32_u32(low), vreinterpretq_f32_u32(high)]
    }
}

/// Executes two steps along K of a tile of f32.
///
/// One load reads two elements of a row, and the multiply-add instruction broadcasts one of them. A broadcasting load
/// would occupy the ports of the multipliers.
///
/// # Safety
/// Each x must be valid for two reads at index `i`.
#[inline(always)]
unsafe fn two_steps<const STEP: usize, const ROWS: usize>(
    sums: &mut [[Neon<STEP>; VECTORS]; ROWS],
    x: &[*const f32; ROWS],
    i: usize,
    [b0, b1, c0, c1]: [float32x4_t; 4],
) {
    for r in 0..ROWS {
        // SAFETY: x[r] is valid for two reads at index i by this function's contract.
        unsafe {
            let two = vld1_f32(x[r].add(i));
            let [first, second] = &mut sums[r];
            first.0 = vfmaq_lane_f32::<0>(first.0, b0, two);
            second.0 = vfmaq_lane_f32::<0>(second.0, b1, two);
            first.0 = vfmaq_lane_f32::<1>(first.0, c0, two);
            second.0 = vfmaq_lane_f32::<1>(second.0, c1, two);
        }
    }
}

/// Executes one step along K of a tile of f32.
///
/// # Safety
/// Each x must be valid for a read at index `i`.
#[inline(always)]
unsafe fn one_step<const STEP: usize, const ROWS: usize>(
    sums: &mut [[Neon<STEP>; VECTORS]; ROWS],
    x: &[*const f32; ROWS],
    i: usize,
    [b0, b1]: [float32x4_t; 2],
) {
    for r in 0..ROWS {
        // SAFETY: x[r] is valid for a read at index i by this function's contract.
        unsafe {
            let one = *x[r].add(i);
            let [first, second] = &mut sums[r];
            first.0 = vfmaq_n_f32(first.0, b0, one);
            second.0 = vfmaq_n_f32(second.0, b1, one);
        }
    }
}

/// Computes a tile of f32, like `simd::tile::tile_f32`.
///
/// # Safety
/// `tile` must describe `ROWS` rows of x with k elements each and k rows of b.
#[inline(always)]
pub(super) unsafe fn tile_f32<const STEP: usize, const ROWS: usize>(
    sums: &mut [[Neon<STEP>; VECTORS]; ROWS],
    tile: &Tile,
) {
    // SAFETY: i and, in the loop, i + 1 stay below k, so reads stay inside the rows of x and b that the tile describes.
    unsafe {
        let x = rows::<f32, ROWS>(tile);
        let mut i = 0;
        while i + 2 <= tile.k {
            prefetch(tile.prefetch.wrapping_add(2 * i));
            let ([b0, b1], [c0, c1]) = (eight_f32(tile.b.add(8 * i)), eight_f32(tile.b.add(8 * i + 8)));
            two_steps(sums, &x, i, [b0, b1, c0, c1]);
            i += 2;
        }
        if i < tile.k {
            one_step(sums, &x, i, eight_f32(tile.b.add(8 * i)));
        }
    }
}

/// Computes a tile of f32 with bfloat16 weights, like `simd::tile::tile_bf16`.
///
/// # Safety
/// `tile` must describe `ROWS` rows of x with k elements each and k rows of bfloat16 numbers.
#[inline(always)]
pub(super) unsafe fn tile_bf16<const STEP: usize, const ROWS: usize>(
    sums: &mut [[Neon<STEP>; VECTORS]; ROWS],
    tile: &Tile,
) {
    // SAFETY: i and, in the loop, i + 1 stay below k, so reads stay inside the rows of x and b that the tile describes.
    unsafe {
        let x = rows::<f32, ROWS>(tile);
        let b = tile.b.cast::<u16>();
        let mut i = 0;
        while i + 2 <= tile.k {
            prefetch(tile.prefetch.wrapping_add(i));
            let ([b0, b1], [c0, c1]) = (eight_bf16(b.add(8 * i)), eight_bf16(b.add(8 * i + 8)));
            two_steps(sums, &x, i, [b0, b1, c0, c1]);
            i += 2;
        }
        if i < tile.k {
            one_step(sums, &x, i, eight_bf16(b.add(8 * i)));
        }
    }
}

/// Adds the products of eight columns of each b with one number of x, by its lane, to two vectors of sums.
///
/// In one block of assembly, because the compiler counts the intrinsics as so many operations that it does not unroll the
/// loop over rows. The sums would then be in memory.
macro_rules! smlal {
    ($first:expr, $second:expr, $x:expr, $($name:ident: $b:expr, $lane:literal);+) => {
        asm!(
            $(
                concat!("smlal {first:v}.4s, {", stringify!($name), ":v}.4h, {x:v}.h[", $lane, "]"),
                concat!("smlal2 {second:v}.4s, {", stringify!($name), ":v}.8h, {x:v}.h[", $lane, "]"),
            )+
            first = inout(vreg) $first,
            second = inout(vreg) $second,
            x = in(vreg_low16) $x,
            $($name = in(vreg) $b,)+
            options(pure, nomem, nostack, preserves_flags),
        )
    };
}

/// Executes two steps along K, of one pair each, of a tile of integers.
///
/// b has, for eight columns, the first numbers of a pair, the second numbers, and both of the next pair, so that no sum
/// across lanes is needed.
///
/// # Safety
/// Each x must be valid for four reads at pair `i`.
#[inline(always)]
unsafe fn two_pairs<const ROWS: usize>(
    sums: &mut [[int32x4_t; VECTORS]; ROWS],
    x: &[*const i16; ROWS],
    i: usize,
    [b0, b1, b2, b3]: [int16x8_t; 4],
) {
    for r in 0..ROWS {
        // SAFETY: x[r] is valid for four reads at pair i by this function's contract.
        unsafe {
            let four = vld1_s16(x[r].add(2 * i));
            let [first, second] = &mut sums[r];
            smlal!(*first, *second, four, b0: b0, 0; b1: b1, 1; b2: b2, 2; b3: b3, 3);
        }
    }
}

/// Computes a tile of 16-bit integers, like `simd::tile::tile_int16`. The load of b separates the numbers of the pairs.
///
/// # Safety
/// `tile` must describe `ROWS` rows of x with k pairs each and k rows of b.
#[inline(always)]
pub(super) unsafe fn tile_int16<const ROWS: usize>(sums: &mut [[int32x4_t; VECTORS]; ROWS], tile: &Tile) {
    // SAFETY: pair i and, in the loop, i + 1 stay below k, so reads stay inside the rows of x and b that the tile
    // describes. A pair has the size of an f32.
    unsafe {
        let x = rows::<i16, ROWS>(tile);
        let b = tile.b.cast::<i16>();
        let mut i = 0;
        while i + 2 <= tile.k {
            prefetch(tile.prefetch.wrapping_add(2 * i));
            let (int16x8x2_t(b0, b1), int16x8x2_t(b2, b3)) = (vld2q_s16(b.add(16 * i)), vld2q_s16(b.add(16 * i + 16)));
            two_pairs(sums, &x, i, [b0, b1, b2, b3]);
            i += 2;
        }
        if i < tile.k {
            let int16x8x2_t(b0, b1) = vld2q_s16(b.add(16 * i));
            for r in 0..ROWS {
                let two = vreinterpret_s16_s32(vdup_n_s32(*x[r].add(2 * i).cast()));
                let [first, second] = &mut sums[r];
                smlal!(*first, *second, two, b0: b0, 0; b1: b1, 1);
            }
        }
    }
}

/// Adds the products of a tile with 8-bit weights, like `simd::tile::tile_int8`.
///
/// One load reads two pairs of all columns and separates their numbers, which are widened once for all rows of the
/// tile.
///
/// # Safety
/// `tile` must describe `ROWS` rows of x with k pairs each, an even number, and k rows of b.
#[inline(always)]
pub(super) unsafe fn tile_int8<const ROWS: usize>(sums: &mut [[int32x4_t; VECTORS]; ROWS], tile: &Tile) {
    debug_assert!(tile.k.is_multiple_of(2));
    // SAFETY: the loop reads k pairs of each row of x and k pairs of bytes for each of eight columns, which the tile
    // describes by this function's contract.
    unsafe {
        let pairs = tile.b.cast::<i8>();
        let x = rows::<i16, ROWS>(tile);
        let mut i = 0;
        while i < tile.k {
            if i.is_multiple_of(8) {
                prefetch(tile.prefetch.wrapping_add(2 * i));
            }
            let int8x16x2_t(first, second) = vld2q_s8(pairs.add(16 * i));
            let b = [
                vmovl_s8(vget_low_s8(first)),
                vmovl_s8(vget_low_s8(second)),
                vmovl_high_s8(first),
                vmovl_high_s8(second),
            ];
            two_pairs(sums, &x, i, b);
            i += 2;
        }
    }
}
