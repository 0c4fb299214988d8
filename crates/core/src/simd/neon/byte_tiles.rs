//! Inner loops of the int8 products for ARM processors that multiply bytes: `sdot` and `smmla`. A tile of twelve rows and
//! eight columns takes 24 of the 32 registers.
//!
//! The intrinsics of both instructions are unstable, so each is one instruction in assembly. The compiler still chooses
//! registers and order.

use super::tiles::{prefetch, rows};
use crate::simd::tile::{Tile, VECTORS};
use std::arch::aarch64::*;
use std::arch::asm;

/// Most rows of a tile.
const MAX_ROWS: usize = 12;

/// Adds, to each of the four sums, the products of four bytes of b with the first or the second four bytes of x.
macro_rules! sdot {
    ($sum:expr, $b:expr, $x:expr, $quad:literal) => {
        asm!(
            concat!("sdot {sum:v}.4s, {b:v}.16b, {x:v}.4b[", $quad, "]"),
            sum = inout(vreg) $sum,
            b = in(vreg) $b,
            x = in(vreg) $x,
            options(pure, nomem, nostack, preserves_flags),
        )
    };
}

/// Adds the product of two rows of eight bytes with two columns of eight bytes to four sums, row by row.
macro_rules! smmla {
    ($sums:expr, $rows:expr, $columns:expr) => {
        asm!(
            "smmla {sums:v}.4s, {rows:v}.16b, {columns:v}.16b",
            sums = inout(vreg) $sums,
            rows = in(vreg) $rows,
            columns = in(vreg) $columns,
            options(pure, nomem, nostack, preserves_flags),
        )
    };
}

/// Adds the products of a tile of bytes, like `simd::tile::tile_int8`, four at a time.
///
/// # Safety
/// `tile` must describe `ROWS` rows of x with k quads each, an even number, and k rows of b. The processor must have
/// `sdot`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn quads<const ROWS: usize>(sums: &mut [[int32x4_t; VECTORS]; ROWS], tile: &Tile) {
    debug_assert!(tile.k.is_multiple_of(2));
    // A copy, so that the sums are in registers if the compiler does not inline this function.
    let mut local = *sums;
    // SAFETY: the loop reads k quads of each row of x and k quads for each of eight columns, which the tile describes by
    // this function's contract. The processor has the instruction.
    unsafe {
        let x = rows::<i8, ROWS>(tile);
        let mut i = 0;
        while i < tile.k {
            if i.is_multiple_of(8) {
                prefetch(tile.prefetch.wrapping_add(2 * i));
            }
            let b = tile.b.cast::<i8>().add(32 * i);
            let (b0, b1) = (vld1q_s8(b), vld1q_s8(b.add(16)));
            let (c0, c1) = (vld1q_s8(b.add(32)), vld1q_s8(b.add(48)));
            for r in 0..ROWS {
                let two = vld1_s8(x[r].add(4 * i));
                let [first, second] = &mut local[r];
                sdot!(*first, b0, two, 0);
                sdot!(*second, b1, two, 0);
                sdot!(*first, c0, two, 1);
                sdot!(*second, c1, two, 1);
            }
            i += 2;
        }
    }
    *sums = local;
}

/// Reads eight bytes of each of two rows.
///
/// In assembly, because the compiler loads the second half into a register of its own, for which twelve rows leave no
/// room.
///
/// # Safety
/// Both must be valid for eight reads.
#[inline(always)]
unsafe fn two_rows(low: *const i8, high: *const i8) -> int8x16_t {
    let two;
    // SAFETY: both are valid for eight reads by this function's contract.
    unsafe {
        asm!(
            "ldr {two:d}, [{low}]",
            "ld1 {{ {two:v}.d }}[1], [{high}]",
            two = out(vreg) two,
            low = in(reg) low,
            high = in(reg) high,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    two
}

/// Adds the products of a tile of bytes, like `simd::tile::tile_int8`, eight at a time.
///
/// The sums are in blocks of two rows and two columns until the end. With an odd number of rows the last one is multiplied
/// twice.
///
/// # Safety
/// `tile` must describe `ROWS` rows of x with k octets each and k rows of b. The processor must have `smmla`.
#[inline]
#[target_feature(enable = "neon,i8mm")]
pub(super) unsafe fn octets<const ROWS: usize>(sums: &mut [[int32x4_t; VECTORS]; ROWS], tile: &Tile) {
    const { assert!(ROWS <= MAX_ROWS) };
    let mut blocks = [[vdupq_n_s32(0); 4]; MAX_ROWS / 2];
    // SAFETY: the loop reads k octets of each row of x and k octets for each of eight columns, which the tile describes by
    // this function's contract. The processor has the instruction.
    unsafe {
        let x = rows::<i8, ROWS>(tile);
        for i in 0..tile.k {
            if i.is_multiple_of(4) {
                prefetch(tile.prefetch.wrapping_add(4 * i));
            }
            let b = tile.b.cast::<i8>().add(64 * i);
            let b = [
                vld1q_s8(b),
                vld1q_s8(b.add(16)),
                vld1q_s8(b.add(32)),
                vld1q_s8(b.add(48)),
            ];
            for pair in 0..ROWS.div_ceil(2) {
                let (low, high) = (x[2 * pair], x[(2 * pair + 1).min(ROWS - 1)]);
                let two = two_rows(low.add(8 * i), high.add(8 * i));
                for column in 0..4 {
                    smmla!(blocks[pair][column], two, b[column]);
                }
            }
        }
    }
    for r in 0..ROWS {
        for v in 0..VECTORS {
            let low = vreinterpretq_s64_s32(blocks[r / 2][2 * v]);
            let high = vreinterpretq_s64_s32(blocks[r / 2][2 * v + 1]);
            let row = if r % 2 == 0 {
                vzip1q_s64(low, high)
            } else {
                vzip2q_s64(low, high)
            };
            sums[r][v] = vaddq_s32(sums[r][v], vreinterpretq_s32_s64(row));
        }
    }
}
