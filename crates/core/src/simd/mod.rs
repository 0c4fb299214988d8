//! Vectors of f32, one type per instruction set, and the functions on them that the kernels need.
//!
//! A kernel is written once, generic over [`Simd`]. Each lane goes through the same operations whatever its place, so a
//! result does not depend on where in a batch an element happens to stand.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
pub mod math;
#[cfg(target_arch = "aarch64")]
pub mod neon;
pub mod portable;

use crate::kernels::bfloat16::bf16_chains;
use crate::kernels::gemm::{Product, chains};
use crate::kernels::int8::byte_group;
use crate::kernels::int16::int_chains;
use crate::kernels::panels::VECTORS;

/// A vector of f32.
///
/// The arithmetic methods are safe to call only in code that runs after the instruction set was detected; the kernels
/// reach them solely through [`crate::kernels::Kernels`], whose constructors check that. Hence the trait is not public
/// outside this crate.
pub trait Simd: Copy + 'static {
    /// Number of lanes.
    const LANES: usize;
    /// Rows of a register tile of the matrix product: what the registers hold at [`VECTORS`] sums a row.
    const TILE: usize = 6;
    /// A vector of as many i32.
    type Int: Copy;

    /// All lanes `x`.
    fn splat(x: f32) -> Self;
    /// Reads `LANES` values.
    ///
    /// # Safety
    /// `p` must be valid for that many reads; no alignment is needed.
    unsafe fn load(p: *const f32) -> Self;
    /// Writes `LANES` values.
    ///
    /// # Safety
    /// `p` must be valid for that many writes; no alignment is needed.
    unsafe fn store(self, p: *mut f32);
    /// Reads the first `n` lanes, at most `LANES`; the others are zero.
    ///
    /// # Safety
    /// `p` must be valid for `n` reads.
    unsafe fn load_first(p: *const f32, n: usize) -> Self;
    /// Writes the first `n` lanes, at most `LANES`.
    ///
    /// # Safety
    /// `p` must be valid for `n` writes.
    unsafe fn store_first(self, p: *mut f32, n: usize);
    /// self + other
    fn add(self, other: Self) -> Self;
    /// self - other
    fn sub(self, other: Self) -> Self;
    /// self · other
    fn mul(self, other: Self) -> Self;
    /// self / other
    fn div(self, other: Self) -> Self;
    /// self · b + c
    fn fma(self, b: Self, c: Self) -> Self;
    /// Lane by lane self where self < other, else other: a NaN in `other` passes through.
    fn min(self, other: Self) -> Self;
    /// Lane by lane self where self > other, else other: a NaN in `other` passes through.
    fn max(self, other: Self) -> Self;
    /// Nearest integer, ties to even.
    fn round(self) -> Self;
    /// 2^self for integral lanes from -126 to 127.
    fn exp2_integral(self) -> Self;
    /// Sum of the lanes in a fixed order.
    fn sum(self) -> f32;
    /// Largest lane.
    fn largest(self) -> f32;
    /// All lanes 0.
    fn int_zero() -> Self::Int;
    /// sum + pair.0 · b.0 + pair.1 · b.1, where pairs of 16-bit integers stand in 32 bits; b gives a pair a lane.
    ///
    /// # Safety
    /// `b` must be valid for `LANES` reads.
    unsafe fn int_fma(sum: Self::Int, pair: i32, b: *const i32) -> Self::Int;
    /// Each lane as a float, to the nearest.
    fn from_int(int: Self::Int) -> Self;
    /// Rounds to the nearest (ties to even) and writes `LANES` 16-bit integers.
    ///
    /// # Safety
    /// `p` must be valid for that many writes.
    unsafe fn store_int16(self, p: *mut i16);
    /// The inner loop of a tile of the product of integers; see [`int_chains`].
    ///
    /// # Safety
    /// As for [`int_chains`], and the instruction set must be there.
    #[inline(always)]
    unsafe fn int_chains<const ROWS: usize>(sums: &mut [[Self::Int; VECTORS]; ROWS], tile: &Product) {
        // SAFETY: the caller vouches for the tile.
        unsafe { int_chains::<Self, ROWS>(sums, tile) }
    }
    /// The inner loop of a tile of the matrix product; see [`chains`].
    ///
    /// # Safety
    /// As for [`chains`], and the instruction set must be there.
    #[inline(always)]
    unsafe fn chains<const ROWS: usize>(sums: &mut [[Self; VECTORS]; ROWS], tile: &Product) {
        // SAFETY: the caller vouches for the tile.
        unsafe { chains(sums, tile) }
    }
    /// As [`Simd::int_fma`], where b gives a pair of 8-bit integers a lane.
    ///
    /// # Safety
    /// `b` must be valid for twice `LANES` reads.
    unsafe fn byte_fma(sum: Self::Int, pair: i32, b: *const i8) -> Self::Int;
    /// One group of a tile of the product with 8-bit weights; see [`byte_group`].
    ///
    /// # Safety
    /// As for [`byte_group`], and the instruction set must be there.
    #[inline(always)]
    unsafe fn byte_group<const ROWS: usize>(floats: &mut [[Self; VECTORS]], tile: &Product) {
        // SAFETY: the caller vouches for the tile.
        unsafe { byte_group::<Self, ROWS>(floats, tile) }
    }
    /// Reads `LANES` upper halves of floats.
    ///
    /// # Safety
    /// `p` must be valid for that many reads; no alignment is needed.
    unsafe fn load_bf16(p: *const u16) -> Self;
    /// The inner loop of a tile of the product with bfloat16 weights; see [`bf16_chains`].
    ///
    /// # Safety
    /// As for [`bf16_chains`], and the instruction set must be there.
    #[inline(always)]
    unsafe fn bf16_chains<const ROWS: usize>(sums: &mut [[Self; VECTORS]; ROWS], tile: &Product) {
        // SAFETY: the caller vouches for the tile.
        unsafe { bf16_chains(sums, tile) }
    }
}
