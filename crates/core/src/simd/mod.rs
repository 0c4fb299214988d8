//! Vectors of f32, one type per instruction set, and the functions on them that the kernels need.
//!
//! A kernel is written once, generic over [`Simd`]. Each lane goes through the same operations whatever its place, so a
//! result does not depend on where in a batch an element happens to stand.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
pub mod math;
pub mod portable;

use crate::kernels::gemm::{Product, VECTORS, chains};

/// A vector of f32.
///
/// The arithmetic methods are safe to call only in code that runs after the instruction set was detected; the kernels
/// reach them solely through [`crate::kernels::Kernels`], whose constructors check that. Hence the trait is not public
/// outside this crate.
pub trait Simd: Copy + 'static {
    /// Number of lanes.
    const LANES: usize;

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
    /// The inner loop of a full tile of the matrix product; see [`chains`].
    ///
    /// # Safety
    /// As for [`chains`], and the instruction set must be there.
    unsafe fn six_chains(sums: &mut [[Self; VECTORS]; 6], tile: &Product) {
        // SAFETY: the caller vouches for the tile.
        unsafe { chains(sums, tile) }
    }
}
