//! Vectors of sixteen f32 with AVX-512 (F, BW, DQ, VL). Products of integers and of bfloat16 numbers use VNNI, BF16 and
//! AMX if the processor has them.

pub mod amx;
mod tiles;

use super::Simd;
use super::tile::{self, Bfloat16Rows, Int8Rows, Int16Rows, Tile, VECTORS};
use std::arch::x86_64::*;

/// Sixteen f32 in a zmm register. `LEVEL` is the last of [`BASE`], [`VNNI`], [`BF16`] and [`AMX`] whose instructions are
/// used; each level has those of the levels before it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Avx512<const LEVEL: u8>(__m512);

/// AVX-512 F, BW, DQ and VL.
pub const BASE: u8 = 0;
/// One instruction multiplies pairs or quads of integers and adds the products.
pub const VNNI: u8 = 1;
/// One instruction multiplies pairs of bfloat16 numbers and adds the products.
pub const BF16: u8 = 2;
/// One instruction multiplies two tiles of 16 rows of 64 bytes, of integers or of bfloat16 numbers.
pub const AMX: u8 = 3;

/// Returns whether Intel made the processor.
pub fn is_intel() -> bool {
    let vendor = __cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx]
        .map(u32::to_le_bytes)
        .as_flattened()
        == b"GenuineIntel"
}

/// Returns a mask of the first `n` lanes.
#[inline(always)]
fn mask(n: usize) -> __mmask16 {
    debug_assert!(n <= 16);
    ((1u32 << n) - 1) as __mmask16
}

impl<const LEVEL: u8> Simd for Avx512<LEVEL> {
    const LANES: usize = 16;
    const TILE: usize = 12;
    const PREFETCHES_FURTHER: bool = true;
    const INT8_ROWS: Int8Rows = match LEVEL {
        BASE => Int8Rows::Pairs,
        VNNI | BF16 => Int8Rows::UnsignedQuads,
        _ => Int8Rows::SignedQuads,
    };
    const INT16_ROWS: Int16Rows = if LEVEL >= AMX {
        Int16Rows::SplitBytes
    } else {
        Int16Rows::Pairs
    };
    const BFLOAT16_ROWS: Bfloat16Rows = if LEVEL >= BF16 {
        Bfloat16Rows::Pairs
    } else {
        Bfloat16Rows::Floats
    };
    const MATRIX_ROWS: Option<usize> = if LEVEL >= AMX { Some(amx::TILE_ROWS) } else { None };
    type Int = __m512i;

    #[inline(always)]
    fn int_zero() -> Self::Int {
        // SAFETY: kernels over this type run only on processors with AVX-512.
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn int_fma(sum: Self::Int, pair: i32, b: *const i32) -> Self::Int {
        // SAFETY: the pointer is valid for sixteen reads by the method's contract.
        unsafe {
            let (pair, b) = (_mm512_set1_epi32(pair), _mm512_loadu_si512(b.cast()));
            if LEVEL >= VNNI {
                _mm512_dpwssd_epi32(sum, pair, b)
            } else {
                _mm512_add_epi32(sum, _mm512_madd_epi16(pair, b))
            }
        }
    }
    #[inline(always)]
    unsafe fn tile_int16<const ROWS: usize>(sums: &mut [[Self::Int; VECTORS]; ROWS], tile: &Tile) {
        // SAFETY: the tile has ROWS rows of x and k rows of b by the method's contract. The kernels of a level run only on
        // processors with its instructions.
        unsafe {
            if LEVEL >= VNNI {
                tiles::tile_int16(sums, tile);
            } else {
                tile::tile_int16::<Self, ROWS>(sums, tile);
            }
        }
    }
    #[inline(always)]
    fn from_int(int: Self::Int) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX-512.
        Self(unsafe { _mm512_cvtepi32_ps(int) })
    }
    #[inline(always)]
    unsafe fn store_int16(self, p: *mut i16) {
        // SAFETY: the pointer is valid for sixteen writes by the method's contract.
        unsafe { _mm256_storeu_si256(p.cast(), _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(self.0))) }
    }
    #[inline(always)]
    unsafe fn byte_fma(sum: Self::Int, pair: i32, b: *const i8) -> Self::Int {
        // SAFETY: the pointer is valid for thirty-two reads by the method's contract.
        unsafe {
            let b = _mm512_cvtepi8_epi16(_mm256_loadu_si256(b.cast()));
            let pair = _mm512_set1_epi32(pair);
            if LEVEL >= VNNI {
                _mm512_dpwssd_epi32(sum, pair, b)
            } else {
                _mm512_add_epi32(sum, _mm512_madd_epi16(pair, b))
            }
        }
    }
    #[inline(always)]
    unsafe fn group_int8<const ROWS: usize>(floats: &mut [[Self; VECTORS]], tile: &Tile, scales: (*const f32, usize)) {
        // SAFETY: the rows, the group and the scales are there by the method's contract. The kernels of a level run only on
        // processors with its instructions.
        unsafe {
            if LEVEL >= VNNI {
                tiles::group_int8::<ROWS, _>(floats.as_flattened_mut(), tile, scales);
            } else {
                tile::group_int8::<Self, ROWS>(floats, tile, scales);
            }
        }
    }
    #[inline(always)]
    unsafe fn int16_times_128(p: *const i16) -> Self::Int {
        // SAFETY: the pointer is valid for sixteen reads by the method's contract.
        unsafe { _mm512_slli_epi32::<7>(_mm512_cvtepi16_epi32(_mm256_loadu_si256(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn store_int8(self, p: *mut i8) {
        // SAFETY: the pointer is valid for sixteen writes by the method's contract.
        unsafe {
            let signed = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(self.0));
            let signs = if LEVEL >= AMX { 0 } else { i8::MIN };
            _mm_storeu_si128(p.cast(), _mm_xor_si128(signed, _mm_set1_epi8(signs)));
        }
    }
    #[inline(always)]
    unsafe fn store_split_int16(self, upper: *mut i8) {
        // SAFETY: the pointer is valid for eighty writes by the method's contract.
        unsafe {
            let integers = _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(self.0));
            _mm_storeu_si128(upper.cast(), _mm256_cvtepi16_epi8(_mm256_srai_epi16::<8>(integers)));
            _mm_storeu_si128(upper.add(64).cast(), _mm256_cvtepi16_epi8(integers));
        }
    }
    #[inline(always)]
    unsafe fn begin_matrix(rows: usize) {
        // SAFETY: kernels with AMX run only on processors with it, after the permission was granted.
        unsafe { amx::configure(rows) }
    }
    #[inline(always)]
    unsafe fn end_matrix() {
        // SAFETY: kernels with AMX run only on processors with it, after the permission was granted.
        unsafe { amx::release() }
    }
    #[inline(always)]
    unsafe fn matrix_int8(
        sums: &mut [[Self; VECTORS]],
        tiles: (&[usize], usize),
        tile: &Tile,
        scales: (*const f32, usize),
        lines: usize,
    ) {
        // SAFETY: rows, panel and scales are there by the method's contract. Kernels with AMX run only on processors with
        // it, after the permission was granted.
        unsafe { amx::tiles_int8(sums, tiles, tile, scales, lines) }
    }
    #[inline(always)]
    unsafe fn matrix_int16(
        sums: std::slice::ChunksExactMut<'_, [Self; VECTORS]>,
        first_rows: &[usize],
        vector: usize,
        tile: &Tile,
        row_scales: *const f32,
        column_scales: *const f32,
    ) {
        // SAFETY: rows, columns and scales are there by the method's contract. Kernels with AMX run only on processors
        // with it, after the permission was granted.
        unsafe { amx::tiles_int16(sums, first_rows, vector, tile, row_scales, column_scales) }
    }
    #[inline(always)]
    unsafe fn matrix_bf16(
        sums: &mut [[Self; VECTORS]],
        second: Option<(usize, &mut [[Self; VECTORS]])>,
        tile: &Tile,
        begin: bool,
    ) {
        // SAFETY: rows and panel are there by the method's contract. Kernels with AMX run only on processors with it,
        // after the permission was granted.
        unsafe { amx::tiles_bf16(sums, second, tile, begin) }
    }
    #[inline(always)]
    fn butterfly<const DISTANCE: usize>(self) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX-512.
        unsafe {
            let (other, negated) = match DISTANCE {
                1 => (_mm512_permute_ps::<0xb1>(self.0), 0xaaaa),
                2 => (_mm512_permute_ps::<0x4e>(self.0), 0xcccc),
                4 => (_mm512_shuffle_f32x4::<0xb1>(self.0, self.0), 0xf0f0),
                _ => (_mm512_shuffle_f32x4::<0x4e>(self.0, self.0), 0xff00),
            };
            // A product with 1 or -1 is exact. For a masked subtraction the compiler would shuffle twice.
            let signs = _mm512_mask_blend_ps(negated, _mm512_set1_ps(1.0), _mm512_set1_ps(-1.0));
            Self(_mm512_fmadd_ps(self.0, signs, other))
        }
    }
    #[inline(always)]
    unsafe fn transpose((from, from_stride): (*const u32, usize), (to, to_stride): (*mut u32, usize)) {
        // SAFETY: both squares are valid by the method's contract.
        unsafe {
            let row = |i: usize| _mm512_loadu_ps(from.add(i * from_stride).cast());
            let rows: [__m512; 16] = std::array::from_fn(row);
            let pairs: [__m512; 16] = std::array::from_fn(|i| {
                let (a, b) = (rows[i & !1], rows[i | 1]);
                if i & 1 == 0 {
                    _mm512_unpacklo_ps(a, b)
                } else {
                    _mm512_unpackhi_ps(a, b)
                }
            });
            // Row 4 g + j has, in each quarter q, column 4 q + j of the rows 4 g to 4 g + 3.
            let quads: [__m512; 16] = std::array::from_fn(|i| {
                let first = i & !3 | i >> 1 & 1;
                let (a, b) = (_mm512_castps_pd(pairs[first]), _mm512_castps_pd(pairs[first + 2]));
                let quad = if i & 1 == 0 {
                    _mm512_unpacklo_pd(a, b)
                } else {
                    _mm512_unpackhi_pd(a, b)
                };
                _mm512_castpd_ps(quad)
            });
            // Row 8 h + 4 p + j has the quarters of parity p: first those of rows 8 h to 8 h + 3, then of the next four.
            let octets: [__m512; 16] = std::array::from_fn(|i| {
                let (a, b) = (quads[i & 8 | i & 3], quads[i & 8 | 4 | i & 3]);
                if i & 4 == 0 {
                    _mm512_shuffle_f32x4::<0x88>(a, b)
                } else {
                    _mm512_shuffle_f32x4::<0xdd>(a, b)
                }
            });
            for i in 0..16 {
                // Column 4 q + j: its parity is that of q.
                let from = i & 3 | i & 4;
                let (a, b) = (octets[from], octets[8 | from]);
                let column = if i & 8 == 0 {
                    _mm512_shuffle_f32x4::<0x88>(a, b)
                } else {
                    _mm512_shuffle_f32x4::<0xdd>(a, b)
                };
                _mm512_storeu_ps(to.add(i * to_stride).cast(), column);
            }
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self {
        // SAFETY: the pointer is valid for sixteen reads by the method's contract.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide)))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16) {
        // SAFETY: the pointer is valid for sixteen writes by the method's contract. The kernels of a level run only on
        // processors with its instructions.
        unsafe {
            if LEVEL >= BF16 {
                // `vcvtneps2bf16` has the results of `round_to_bf16`.
                _mm256_storeu_si256(
                    p.cast(),
                    std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(self.0)),
                );
            } else {
                super::store_bf16_one_by_one(self, p);
            }
        }
    }
    #[inline(always)]
    unsafe fn tile_f32<const ROWS: usize>(sums: &mut [[Self; VECTORS]; ROWS], tile: &Tile) {
        // SAFETY: the tile has ROWS rows of x and k rows of b by the method's contract, and this type has the layout of
        // the register that it wraps.
        unsafe {
            let registers = &mut *(&raw mut *sums).cast::<[[__m512; VECTORS]; ROWS]>();
            tiles::tile_f32(registers, tile);
        }
    }
    #[inline(always)]
    unsafe fn tile_bf16<const ROWS: usize>(sums: &mut [[Self; VECTORS]; ROWS], tile: &Tile) {
        // SAFETY: the tile has ROWS rows of x and k rows of b by the method's contract. The kernels of a level run only on
        // processors with its instructions.
        unsafe {
            if LEVEL >= BF16 {
                // A vector is its register and nothing else (`repr(transparent)`).
                let registers = &mut *(&raw mut *sums).cast::<[[__m512; VECTORS]; ROWS]>();
                tiles::tile_bf16(registers, tile);
            } else {
                tile::tile_bf16(sums, tile);
            }
        }
    }
    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX-512.
        Self(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the pointer is valid for sixteen reads by the method's contract.
        Self(unsafe { _mm512_loadu_ps(p) })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the pointer is valid for sixteen writes by the method's contract.
        unsafe { _mm512_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        // SAFETY: masked lanes are not read, and the pointer is valid for n reads by the method's contract.
        Self(unsafe { _mm512_maskz_loadu_ps(mask(n), p) })
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        if n == Self::LANES {
            // SAFETY: the pointer is valid for n = LANES writes by the method's contract.
            return unsafe { self.store(p) };
        }
        // SAFETY: masked lanes are not written, and the pointer is valid for n writes by the method's contract.
        unsafe { _mm512_mask_storeu_ps(p, mask(n), self.0) }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX-512.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX-512.
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX-512.
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX-512.
        Self(unsafe { _mm512_div_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX-512.
        Self(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX-512.
        Self(unsafe { _mm512_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX-512.
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX-512.
        Self(unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
    }
    #[inline(always)]
    fn exp2_integral(self) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX-512.
        Self(unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        })
    }
    #[inline(always)]
    fn times_exp2(self, n: Self) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX-512.
        Self(unsafe { _mm512_scalef_ps(self.0, n.0) })
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: kernels over this type run only on processors with AVX-512. The intrinsic adds in a fixed
        // order: halves, quarters, and so on.
        unsafe { _mm512_reduce_add_ps(self.0) }
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: kernels over this type run only on processors with AVX-512.
        unsafe { _mm512_reduce_max_ps(self.0) }
    }
}
