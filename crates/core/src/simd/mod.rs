//! Vectors of f32, one type for each instruction set, and the functions on them that the kernels need.
//!
//! A kernel is written once, generic over [`Simd`]. Every lane goes through the same operations, so a result does not
//! depend on the position of an element in a batch.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64"), target_os = "linux"))]
mod instructions;
pub mod math;
#[cfg(target_arch = "aarch64")]
pub mod neon;
pub mod portable;
#[cfg(test)]
mod tests;
pub mod tile;

use tile::{Bfloat16Rows, Int8Rows, Int16Rows, Tile, VECTORS};

/// Most lanes of a vector on any instruction set.
const MAX_LANES: usize = 16;

/// Rounds to the nearest bfloat16, ties to even. A denormal number becomes a zero of its sign, and a NaN stays a NaN.
///
/// These are the results of `vcvtneps2bf16`. The instructions that multiply bfloat16 numbers take denormal numbers for
/// zeros too, so keeping them would change no product.
pub fn round_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = if value.is_nan() {
        bits | 1 << 22
    } else if value.is_subnormal() {
        bits & 1 << 31
    } else {
        bits.wrapping_add(0x7fff + (bits >> 16 & 1))
    };
    (rounded >> 16) as u16
}

/// Rounds a vector to bfloat16 without an instruction for it.
///
/// # Safety
/// `p` must be valid for `LANES` writes; it may be unaligned. The processor must have the instruction set of `V`.
#[inline(always)]
unsafe fn store_bf16_one_by_one<V: Simd>(vector: V, p: *mut u16) {
    let mut lanes = [0.0; MAX_LANES];
    // SAFETY: no instruction set has more lanes than the array, and p is valid for LANES writes by this function's
    // contract.
    unsafe {
        vector.store(lanes.as_mut_ptr());
        for (i, lane) in lanes[..V::LANES].iter().enumerate() {
            p.add(i).write_unaligned(round_to_bf16(*lane));
        }
    }
}

/// Asks the processor to read memory into its first-level cache.
#[inline(always)]
pub fn prefetch(bytes: &[u8]) {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    for line in bytes.chunks(64) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: every x86-64 processor has the instruction, and a prefetch of any address is harmless.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast());
        }
        #[cfg(target_arch = "aarch64")]
        neon::prefetch(line.as_ptr().cast());
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = bytes;
}

/// A vector of f32.
///
/// Methods that are not marked `unsafe` still execute instructions of the set. They may be called only from code that
/// runs after the set was detected. The table of kernels guarantees that: its constructors check the processor, and
/// nothing else in this crate names these types. The trait is therefore not public outside this crate.
pub trait Simd: Copy + 'static {
    /// Number of lanes.
    const LANES: usize;
    /// Rows of a register tile of the matrix products: as many as the registers hold with [`VECTORS`] sums a row.
    const TILE: usize = 6;
    /// Whether the inner loops prefetch the [`Tile::further`] memory, too.
    const PREFETCHES_FURTHER: bool = false;
    /// How the rows of products with 8-bit weights are stored.
    const INT8_ROWS: Int8Rows = Int8Rows::Pairs;
    /// How the rows and weights of products of 16-bit integers are stored.
    const INT16_ROWS: Int16Rows = Int16Rows::Pairs;
    /// How the rows and weights of products with bfloat16 weights are stored.
    const BFLOAT16_ROWS: Bfloat16Rows = Bfloat16Rows::Floats;
    /// Rows of a tile of matrix instructions, if the set has them. Then products with weights of integers and of bfloat16
    /// numbers are computed by [`Simd::matrix_int8`], [`Simd::matrix_int16`] and [`Simd::matrix_bf16`].
    const MATRIX_ROWS: Option<usize> = None;
    /// A vector of `LANES` i32.
    type Int: Copy;

    /// Returns a vector with `x` in all lanes.
    fn splat(x: f32) -> Self;
    /// Reads `LANES` values.
    ///
    /// # Safety
    /// `p` must be valid for `LANES` reads; it may be unaligned.
    unsafe fn load(p: *const f32) -> Self;
    /// Writes `LANES` values.
    ///
    /// # Safety
    /// `p` must be valid for `LANES` writes; it may be unaligned.
    unsafe fn store(self, p: *mut f32);
    /// Reads the first `n` lanes, at most `LANES`; the other lanes are zero.
    ///
    /// # Safety
    /// `p` must be valid for `n` reads.
    unsafe fn load_first(p: *const f32, n: usize) -> Self;
    /// Writes the first `n` lanes, at most `LANES`.
    ///
    /// # Safety
    /// `p` must be valid for `n` writes.
    unsafe fn store_first(self, p: *mut f32, n: usize);
    /// Returns self + other.
    fn add(self, other: Self) -> Self;
    /// Returns self - other.
    fn sub(self, other: Self) -> Self;
    /// Returns self · other.
    fn mul(self, other: Self) -> Self;
    /// Returns self / other.
    fn div(self, other: Self) -> Self;
    /// Returns self · b + c.
    fn fma(self, b: Self, c: Self) -> Self;
    /// Returns, for each lane, self where self < other, else other. A NaN in `other` is returned.
    fn min(self, other: Self) -> Self;
    /// Returns, for each lane, self where self > other, else other. A NaN in `other` is returned.
    fn max(self, other: Self) -> Self;
    /// Rounds to the nearest integer, ties to even.
    fn round(self) -> Self;
    /// Returns 2^self for integral lanes from -126 to 127.
    fn exp2_integral(self) -> Self;
    /// Returns self · 2^n for integral lanes of n from -126 to 127 and a normal result, which is exact.
    #[inline(always)]
    fn times_exp2(self, n: Self) -> Self {
        self.mul(n.exp2_integral())
    }
    /// Returns the sum of the lanes, added in a fixed order.
    fn sum(self) -> f32;
    /// Returns the largest lane.
    fn largest(self) -> f32;
    /// Returns a vector with 0 in all lanes.
    fn int_zero() -> Self::Int;
    /// Returns sum + pair.0 · b.0 + pair.1 · b.1, where a pair is two 16-bit integers in 32 bits and b has one pair a
    /// lane.
    ///
    /// # Safety
    /// `b` must be valid for `LANES` reads; it may be unaligned.
    unsafe fn int_fma(sum: Self::Int, pair: i32, b: *const i32) -> Self::Int;
    /// Converts each lane to the nearest f32.
    fn from_int(int: Self::Int) -> Self;
    /// Rounds to the nearest integer (ties to even) and writes `LANES` 16-bit integers.
    ///
    /// # Safety
    /// `p` must be valid for `LANES` writes; it may be unaligned.
    unsafe fn store_int16(self, p: *mut i16);
    /// Like [`Simd::int_fma`], where b has one pair of 8-bit integers a lane.
    ///
    /// # Safety
    /// `b` must be valid for 2 · `LANES` reads; it may be unaligned.
    unsafe fn byte_fma(sum: Self::Int, pair: i32, b: *const i8) -> Self::Int;
    /// Reads `LANES` 16-bit integers and returns them times 128. Only sets with [`Int8Rows::UnsignedQuads`] have it.
    ///
    /// # Safety
    /// `p` must be valid for `LANES` reads; it may be unaligned.
    unsafe fn int16_times_128(_p: *const i16) -> Self::Int {
        unreachable!("this instruction set has no unsigned rows")
    }
    /// Rounds to the nearest integer (ties to even) and writes `LANES` bytes, as [`Simd::INT8_ROWS`] says. Only sets with
    /// rows of bytes have it.
    ///
    /// # Safety
    /// `p` must be valid for `LANES` writes; it may be unaligned.
    unsafe fn store_int8(self, _p: *mut i8) {
        unreachable!("this instruction set has rows of pairs")
    }
    /// Rounds to the nearest integer (ties to even) and writes the upper bytes of `LANES` 16-bit integers to `upper` and
    /// the lower bytes 64 bytes after them. Only sets with [`Int16Rows::SplitBytes`] have it.
    ///
    /// # Safety
    /// `upper` must be valid for 64 + `LANES` writes; it may be unaligned.
    unsafe fn store_split_int16(self, _upper: *mut i8) {
        unreachable!("this instruction set has rows of pairs")
    }
    /// Prepares matrix instructions for tiles of `rows` rows, at most [`Simd::MATRIX_ROWS`].
    ///
    /// # Safety
    /// The processor must have this instruction set.
    unsafe fn begin_matrix(_rows: usize) {
        unreachable!("this instruction set has no matrix instructions")
    }
    /// Ends the use of matrix instructions.
    ///
    /// # Safety
    /// The processor must have this instruction set.
    unsafe fn end_matrix() {
        unreachable!("this instruction set has no matrix instructions")
    }
    /// Writes the products of one or two tiles of rows with all groups of a panel of 8-bit weights to the sums of the
    /// tiles, as [`Simd::group_int8`] adds them to 0 group by group. `tiles` has the first row of each tile, and the rows of
    /// one. Beside each row of each group `lines` cache lines from the tile's prefetch address on are prefetched.
    ///
    /// # Safety
    /// [`Simd::begin_matrix`] must have been called for the rows of a tile, and `sums` must have as many for each tile.
    /// `tile` must describe row 0 of x and the panel, with `k` groups. x and the scales, which are the address of the first
    /// scale of row 0 and the values from one row to the next, must be valid for the groups of all rows of the tiles. The
    /// processor must have this instruction set.
    unsafe fn matrix_int8(
        _sums: &mut [[Self; VECTORS]],
        _tiles: (&[usize], usize),
        _tile: &Tile,
        _scales: (*const f32, usize),
        _lines: usize,
    ) {
        unreachable!("this instruction set has no matrix instructions")
    }
    /// Writes the products of tiles of rows with a vector of columns of 16-bit weights, times the scales of row and
    /// column, to this vector of the sums of each tile.
    ///
    /// # Safety
    /// [`Simd::begin_matrix`] must have been called for as many rows as a chunk of `sums` has. `tile` must describe the
    /// row 0 of x and the vector of columns, with `k` units of [`Int16Rows::unit`] values; weights of the last unit that
    /// do not exist must be readable. x and `row_scales` must be valid for the rows from each of `first_rows` on, and
    /// there must be a scale for each column. The processor must have this instruction set.
    unsafe fn matrix_int16(
        _sums: std::slice::ChunksExactMut<'_, [Self; VECTORS]>,
        _first_rows: &[usize],
        _vector: usize,
        _tile: &Tile,
        _row_scales: *const f32,
        _column_scales: *const f32,
    ) {
        unreachable!("this instruction set has no matrix instructions")
    }
    /// Adds the products of one or two tiles of rows with a part of a panel of bfloat16 weights to the sums of each, which
    /// begin with zeros if `begin` is set.
    ///
    /// # Safety
    /// [`Simd::begin_matrix`] must have been called for as many rows as `sums` has. `tile` must describe the rows of the
    /// first tile, with `k` units of [`tile::BFLOAT16_UNIT`] values each, at least one, and the weights; `second` is the
    /// distance to the second tile, in rows. The processor must have this instruction set.
    unsafe fn matrix_bf16(
        _sums: &mut [[Self; VECTORS]],
        _second: Option<(usize, &mut [[Self; VECTORS]])>,
        _tile: &Tile,
        _begin: bool,
    ) {
        unreachable!("this instruction set has no matrix instructions")
    }
    /// One step of a Walsh-Hadamard transform: lane i becomes the sum of the lanes i and i + `DISTANCE` if i has a 0 at
    /// that bit, else the lane i - `DISTANCE` less the lane i. `DISTANCE` is a power of two below `LANES`.
    fn butterfly<const DISTANCE: usize>(self) -> Self;
    /// Writes the transpose of a square of `LANES` rows of `LANES` words of 32 bits. Strides are in words.
    ///
    /// # Safety
    /// `from` must be valid for reads, and `to` for writes, of `LANES` rows of `LANES` words.
    #[inline(always)]
    unsafe fn transpose((from, from_stride): (*const u32, usize), (to, to_stride): (*mut u32, usize)) {
        for row in 0..Self::LANES {
            for column in 0..Self::LANES {
                // SAFETY: the element is inside both squares by this method's contract.
                unsafe { *to.add(column * to_stride + row) = *from.add(row * from_stride + column) };
            }
        }
    }
    /// Reads `LANES` bfloat16 numbers.
    ///
    /// # Safety
    /// `p` must be valid for `LANES` reads; it may be unaligned.
    unsafe fn load_bf16(p: *const u16) -> Self;
    /// Rounds to bfloat16 as [`round_to_bf16`] and writes `LANES` numbers. Sets with [`Bfloat16Rows::Floats`] need it only
    /// for comparison.
    ///
    /// # Safety
    /// `p` must be valid for `LANES` writes; it may be unaligned.
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16) {
        // SAFETY: p is valid for LANES writes by this method's contract.
        unsafe { store_bf16_one_by_one(self, p) }
    }

    /// Inner loop of a tile of f32, see [`tile::tile_f32`].
    ///
    /// # Safety
    /// `tile` must describe `ROWS` rows of x with `k` elements each and `k` rows of b. The processor must have this
    /// instruction set.
    #[inline(always)]
    unsafe fn tile_f32<const ROWS: usize>(sums: &mut [[Self; VECTORS]; ROWS], tile: &Tile) {
        // SAFETY: the tile has ROWS rows of x and k rows of b by this method's contract.
        unsafe { tile::tile_f32(sums, tile) }
    }
    /// Inner loop of a tile with bfloat16 weights, see [`tile::tile_bf16`].
    ///
    /// # Safety
    /// `tile` must describe `ROWS` rows of x with `k` elements or pairs each, as [`Simd::BFLOAT16_ROWS`] says, and `k` rows
    /// of b. The processor must have this instruction set.
    #[inline(always)]
    unsafe fn tile_bf16<const ROWS: usize>(sums: &mut [[Self; VECTORS]; ROWS], tile: &Tile) {
        // SAFETY: the tile has ROWS rows of x and k rows of b by this method's contract.
        unsafe { tile::tile_bf16(sums, tile) }
    }
    /// Inner loop of a tile of 16-bit integers, see [`tile::tile_int16`].
    ///
    /// # Safety
    /// `tile` must describe `ROWS` rows of x with `k` pairs each and `k` rows of b. The processor must have this
    /// instruction set.
    #[inline(always)]
    unsafe fn tile_int16<const ROWS: usize>(sums: &mut [[Self::Int; VECTORS]; ROWS], tile: &Tile) {
        // SAFETY: the tile has ROWS rows of x and k rows of b by this method's contract.
        unsafe { tile::tile_int16::<Self, ROWS>(sums, tile) }
    }
    /// Inner loop of a tile with 8-bit weights, see [`tile::tile_int8`].
    ///
    /// # Safety
    /// `tile` must describe `ROWS` rows of x with `k` steps of [`Simd::INT8_ROWS`] each, and `k` rows of b. The processor
    /// must have this instruction set.
    #[inline(always)]
    unsafe fn tile_int8<const ROWS: usize>(sums: &mut [[Self::Int; VECTORS]; ROWS], tile: &Tile) {
        // SAFETY: the tile has ROWS rows of x and k rows of b by this method's contract.
        unsafe { tile::tile_int8::<Self, ROWS>(sums, tile) }
    }
    /// One group of a tile of 8-bit integers, see [`tile::group_int8`].
    ///
    /// # Safety
    /// `tile` must describe `ROWS` rows of x and b one group of a panel; the scales must be valid for `ROWS` reads. The
    /// processor must have this instruction set.
    #[inline(always)]
    unsafe fn group_int8<const ROWS: usize>(floats: &mut [[Self; VECTORS]], tile: &Tile, scales: (*const f32, usize)) {
        // SAFETY: the rows, the group and the scales are there by this method's contract.
        unsafe { tile::group_int8::<Self, ROWS>(floats, tile, scales) }
    }
}
