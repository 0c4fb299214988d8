//! Register tiles of the matrix products: what a tile reads, and its inner loops over K in plain [`Simd`] operations.
//!
//! An instruction set may replace an inner loop by one of its own ([`Simd::tile_f32`] and its siblings). Every version
//! executes the operations of one output in the same order, so the bits of a result do not depend on the version.

use super::Simd;

/// Vectors in a row of a tile. With six rows they fill 12 of 16 registers.
pub const VECTORS: usize = 2;

/// Values along K that share a scale in products with 8-bit weights, in rows and in weights.
pub const INT8_GROUP: usize = 128;

/// How an instruction set takes the rows of products with 8-bit weights. The integers are the same, from -127 to 127.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Int8Rows {
    /// 16-bit integers. One instruction multiplies pairs, and the weights are widened.
    Pairs,
    /// Unsigned bytes, 128 more than the integers. One instruction multiplies four.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "only instruction sets of x86-64 multiply unsigned bytes")
    )]
    UnsignedQuads,
    /// Signed bytes. One instruction multiplies four.
    #[cfg_attr(
        not(any(target_arch = "aarch64", target_arch = "x86_64")),
        expect(dead_code, reason = "only ARM and AMX multiply signed bytes by signed bytes")
    )]
    SignedQuads,
    /// Signed bytes. One instruction multiplies eight, of two rows and two columns.
    #[cfg_attr(
        not(target_arch = "aarch64"),
        expect(
            dead_code,
            reason = "only instruction sets of ARM multiply signed bytes by signed bytes"
        )
    )]
    SignedOctets,
}

impl Int8Rows {
    /// Returns the values along K that one multiplication takes.
    pub const fn step(self) -> usize {
        match self {
            Self::Pairs => 2,
            Self::UnsignedQuads | Self::SignedQuads => 4,
            Self::SignedOctets => 8,
        }
    }

    /// Returns the values of a row in the memory of one f32.
    pub const fn in_f32(self) -> usize {
        match self {
            Self::Pairs => 2,
            Self::UnsignedQuads | Self::SignedQuads | Self::SignedOctets => 4,
        }
    }
}

/// How an instruction set takes the rows, and the weights, of products of 16-bit integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Int16Rows {
    /// Pairs of 16-bit integers. One instruction multiplies pairs.
    Pairs,
    /// The upper bytes of 64 integers, signed, then their lower bytes, unsigned. Weights alternate every four integers of
    /// a column. An integer is 256 times its upper byte plus its lower byte, so four products of bytes make one.
    SplitBytes,
}

impl Int16Rows {
    /// Returns the values of K up to whose multiple a row is filled with zeros: whole cache lines, so that every row
    /// begins on one.
    pub const fn unit(self) -> usize {
        match self {
            Self::Pairs => 32,
            Self::SplitBytes => 64,
        }
    }
}

/// How an instruction set takes the rows, and the weights, of products with bfloat16 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bfloat16Rows {
    /// Rows of f32. A weight is widened to f32.
    Floats,
    /// Rows of bfloat16 numbers, rounded from f32. One instruction multiplies pairs.
    Pairs,
}

/// Values of K up to whose multiple rows of bfloat16 numbers and their weights are filled with zeros: those of a cache
/// line, and of a row of a matrix tile.
pub const BFLOAT16_UNIT: usize = 32;

/// One register tile: up to [`Simd::TILE`] rows of x times one panel of weights.
///
/// In products of integers `x` and `b` point to pairs of 16-bit integers, which have the size of an f32, or to 8-bit
/// integers as [`Int8Rows`] says. In products of bfloat16 numbers they point to pairs as [`Bfloat16Rows`] says.
#[derive(Clone, Copy)]
pub struct Tile {
    /// Steps along K. In products of integers a step is a pair of values, or as many 8-bit integers as [`Int8Rows`] says;
    /// in products of bfloat16 numbers it is a pair.
    pub k: usize,
    /// First element of the first row of x.
    pub x: *const f32,
    /// Elements from one row of x to the next.
    pub x_stride: usize,
    /// The panel of weights, K major.
    pub b: *const f32,
    /// Memory that will be read after this tile. An inner loop in assembly prefetches one or two cache lines of it every
    /// fourth step of K. It may point outside any allocation.
    pub prefetch: *const f32,
    /// Bytes from there to other memory that the inner loops of AVX-512 prefetch likewise; 0 for none.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "only inner loops of AVX-512 prefetch at two addresses")
    )]
    pub further: usize,
    /// First element of the first row of the result.
    pub out: *mut f32,
    /// Elements from one row of the result to the next.
    pub out_stride: usize,
    /// Columns of the result.
    pub columns: usize,
}

/// Returns what one of several passes over a panel prefetches of the next panel, of `len` values: the address, and the bytes
/// from it to the [`Tile::further`] memory.
///
/// An inner loop prefetches a quarter of a panel at each address. With fewer than four passes a pass takes two quarters, on
/// instruction sets that prefetch at two addresses, or else the loop would wait for the rest.
pub fn next_panel<V: Simd>(next: *const f32, len: usize, pass: usize, passes: usize) -> (*const f32, usize) {
    let (quarters, further) = if V::PREFETCHES_FURTHER && passes < 4 {
        (2 * pass, len)
    } else {
        (pass, 0)
    };
    (next.wrapping_add(quarters * len / 4), further)
}

/// Adds x · b to the sums of a tile of f32.
///
/// # Safety
/// `tile` must describe `ROWS` rows of x with `k` elements each, and `k` rows of b with [`VECTORS`] vectors each. The
/// processor must have the instruction set of `V`.
#[inline(always)]
pub unsafe fn tile_f32<V: Simd, const ROWS: usize>(sums: &mut [[V; VECTORS]; ROWS], tile: &Tile) {
    // SAFETY: x[r] starts at row r < ROWS and advances by one for each of k steps; b advances by one row for each step.
    // Both ranges are inside the tile by this function's contract.
    unsafe {
        let mut x: [*const f32; ROWS] = std::array::from_fn(|r| tile.x.add(r * tile.x_stride));
        let mut b = tile.b;
        for _ in 0..tile.k {
            let b0 = V::load(b);
            let b1 = V::load(b.add(V::LANES));
            b = b.add(VECTORS * V::LANES);
            for r in 0..ROWS {
                let factor = V::splat(*x[r]);
                x[r] = x[r].add(1);
                sums[r][0] = factor.fma(b0, sums[r][0]);
                sums[r][1] = factor.fma(b1, sums[r][1]);
            }
        }
    }
}

/// Adds x · b to the sums of a tile, where x points to f32 and b to bfloat16 numbers.
///
/// # Safety
/// `tile` must describe `ROWS` rows of x with `k` elements each, and `k` rows of b with [`VECTORS`] vectors of bfloat16
/// each. The processor must have the instruction set of `V`.
#[inline(always)]
pub unsafe fn tile_bf16<V: Simd, const ROWS: usize>(sums: &mut [[V; VECTORS]; ROWS], tile: &Tile) {
    // SAFETY: row r < ROWS and step i < k, which are inside x and b by this function's contract.
    unsafe {
        for i in 0..tile.k {
            let b = tile.b.cast::<u16>().add(i * VECTORS * V::LANES);
            let (b0, b1) = (V::load_bf16(b), V::load_bf16(b.add(V::LANES)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let factor = V::splat(*tile.x.add(r * tile.x_stride + i));
                *sums = [factor.fma(b0, sums[0]), factor.fma(b1, sums[1])];
            }
        }
    }
}

/// Adds x · b to the sums of a tile of 16-bit integers. `k` counts pairs.
///
/// # Safety
/// `tile` must describe `ROWS` rows of x with `k` pairs each, and `k` rows of b with [`VECTORS`] vectors of pairs each.
/// The processor must have the instruction set of `V`.
#[inline(always)]
pub unsafe fn tile_int16<V: Simd, const ROWS: usize>(sums: &mut [[V::Int; VECTORS]; ROWS], tile: &Tile) {
    // SAFETY: row r < ROWS and pair i < k, which are inside x and b by this function's contract; a pair of 16-bit
    // integers has the size and alignment of the f32 that the pointers count in.
    unsafe {
        for i in 0..tile.k {
            let b = tile.b.add(i * VECTORS * V::LANES);
            for (r, sums) in sums.iter_mut().enumerate() {
                let pair = *tile.x.add(r * tile.x_stride + i).cast::<i32>();
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = V::int_fma(*sum, pair, b.add(v * V::LANES).cast());
                }
            }
        }
    }
}

/// Adds x · b to the sums of a tile, where x points to pairs of 16-bit integers and b to pairs of bytes. `k` counts
/// pairs.
///
/// # Safety
/// `tile` must describe `ROWS` rows of x with `k` pairs each, and `k` rows of b with [`VECTORS`] vectors of pairs of bytes
/// each. The processor must have the instruction set of `V`.
#[inline(always)]
pub unsafe fn tile_int8<V: Simd, const ROWS: usize>(sums: &mut [[V::Int; VECTORS]; ROWS], tile: &Tile) {
    // SAFETY: row r < ROWS and pair i < k, which are inside x and b by this function's contract.
    unsafe {
        let pairs = tile.b.cast::<i8>();
        for i in 0..tile.k {
            let b = pairs.add(i * 2 * VECTORS * V::LANES);
            for (r, sums) in sums.iter_mut().enumerate() {
                let pair = *tile.x.add(r * tile.x_stride + i).cast::<i32>();
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = V::byte_fma(*sum, pair, b.add(v * 2 * V::LANES));
                }
            }
        }
    }
}

/// Returns the f32 values that one group of a panel takes: for each column a scale, a sum of 16 bits, and the weights.
pub const fn group_len(width: usize) -> usize {
    width + width / 2 + width * INT8_GROUP / 4
}

/// Adds the products of one group of 8-bit integers to `floats`.
///
/// b points to the scales of the columns, which are followed by the negated sums of their integers, and the integers.
/// `scales` are the address of the first row's scale and the values from one row's scale to the next.
///
/// # Safety
/// `tile` must describe `ROWS` rows of x with [`INT8_GROUP`] integers each, and b one group of a panel; the scales must be
/// valid for `ROWS` reads. The processor must have the instruction set of `V`.
#[inline(always)]
pub unsafe fn group_int8<V: Simd, const ROWS: usize>(
    floats: &mut [[V; VECTORS]],
    tile: &Tile,
    (scales, stride): (*const f32, usize),
) {
    let width = VECTORS * V::LANES;
    // SAFETY: a group has a scale and a sum for each column and then its integers, and there are ROWS scales, by this
    // function's contract.
    unsafe {
        let start = match V::INT8_ROWS {
            Int8Rows::Pairs | Int8Rows::SignedQuads | Int8Rows::SignedOctets => [V::int_zero(); VECTORS],
            Int8Rows::UnsignedQuads => {
                // Rows are 128 too large, so a sum begins with -128 times the sum of the weights.
                let negated = tile.b.add(width).cast::<i16>();
                [V::int16_times_128(negated), V::int16_times_128(negated.add(V::LANES))]
            }
        };
        let mut sums = [start; ROWS];
        let integers = Tile {
            b: tile.b.add(width + width / 2),
            ..*tile
        };
        V::tile_int8::<ROWS>(&mut sums, &integers);
        let column_scales = [V::load(tile.b), V::load(tile.b.add(V::LANES))];
        for (r, sums) in sums.iter().enumerate() {
            let row_scale = V::splat(*scales.add(r * stride));
            for ((float, sum), column_scale) in floats[r].iter_mut().zip(sums).zip(column_scales) {
                *float = V::from_int(*sum).fma(row_scale.mul(column_scale), *float);
            }
        }
    }
}
