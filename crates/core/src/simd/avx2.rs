//! Vectors of eight f32 with AVX2 and FMA. Products of integers use AVX-VNNI if the processor has it.

mod tiles;

use self::tiles::{
    rows_int8_vnni, six_rows_bf16, six_rows_f32, six_rows_int8, six_rows_int8_vnni, six_rows_int16, six_rows_int16_vnni,
};
use super::Simd;
use super::tile::{self, Int8Rows, Tile, VECTORS};
use std::arch::x86_64::*;

/// Eight f32 in a ymm register. With `VNNI` one instruction multiplies pairs of integers and adds the products.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Avx2<const VNNI: bool>(pub(super) __m256);

/// Masks: the eight entries from index 8 - n on have their first n set.
static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// Returns a mask of the first `n` lanes.
#[inline(always)]
fn mask(n: usize) -> __m256i {
    debug_assert!(n <= 8);
    // SAFETY: n is at most 8, so the eight entries from index 8 - n on lie inside the sixteen entries of the table.
    unsafe { _mm256_loadu_si256(MASKS.as_ptr().add(8 - n).cast()) }
}

impl<const VNNI: bool> Simd for Avx2<VNNI> {
    const LANES: usize = 8;
    const INT8_ROWS: Int8Rows = if VNNI { Int8Rows::UnsignedQuads } else { Int8Rows::Pairs };
    type Int = __m256i;

    #[inline(always)]
    fn int_zero() -> Self::Int {
        // SAFETY: kernels over this type run only on processors with AVX2 and FMA.
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn int_fma(sum: Self::Int, pair: i32, b: *const i32) -> Self::Int {
        // SAFETY: the pointer is valid for eight reads by the method's contract.
        unsafe {
            let (pair, b) = (_mm256_set1_epi32(pair), _mm256_loadu_si256(b.cast()));
            if VNNI {
                _mm256_dpwssd_avx_epi32(sum, pair, b)
            } else {
                _mm256_add_epi32(sum, _mm256_madd_epi16(pair, b))
            }
        }
    }
    #[inline(always)]
    fn from_int(int: Self::Int) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX2 and FMA.
        Self(unsafe { _mm256_cvtepi32_ps(int) })
    }
    #[inline(always)]
    unsafe fn store_int16(self, p: *mut i16) {
        // SAFETY: the pointer is valid for eight writes by the method's contract.
        unsafe {
            let wide = _mm256_cvtps_epi32(self.0);
            let narrow = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256::<1>(wide));
            _mm_storeu_si128(p.cast(), narrow);
        }
    }
    #[inline(always)]
    unsafe fn tile_int16<const ROWS: usize>(sums: &mut [[Self::Int; VECTORS]; ROWS], tile: &Tile) {
        // SAFETY: the tile has ROWS rows of x and k rows of b by the method's contract. AVX-VNNI is there if VNNI is
        // set: the kernels of `Avx2<true>` run only on processors with it.
        unsafe {
            match sums.as_mut_slice().try_into() {
                Ok(six) if VNNI => six_rows_int16_vnni(six, tile),
                Ok(six) => six_rows_int16(six, tile),
                Err(_) => tile::tile_int16::<Self, ROWS>(sums, tile),
            }
        }
    }

    #[inline(always)]
    unsafe fn byte_fma(sum: Self::Int, pair: i32, b: *const i8) -> Self::Int {
        // SAFETY: the pointer is valid for sixteen reads by the method's contract.
        unsafe {
            let b = _mm256_cvtepi8_epi16(_mm_loadu_si128(b.cast()));
            let pair = _mm256_set1_epi32(pair);
            if VNNI {
                _mm256_dpwssd_avx_epi32(sum, pair, b)
            } else {
                _mm256_add_epi32(sum, _mm256_madd_epi16(pair, b))
            }
        }
    }
    #[inline(always)]
    unsafe fn tile_int8<const ROWS: usize>(sums: &mut [[Self::Int; VECTORS]; ROWS], tile: &Tile) {
        // SAFETY: the tile has ROWS rows of x and k rows of b by the method's contract. AVX-VNNI is there if VNNI is
        // set: the kernels of `Avx2<true>` run only on processors with it.
        unsafe {
            match sums.as_mut_slice().try_into() {
                Ok(six) if VNNI => six_rows_int8_vnni(six, tile),
                Ok(six) => six_rows_int8(six, tile),
                Err(_) if VNNI => rows_int8_vnni(sums, tile),
                Err(_) => tile::tile_int8::<Self, ROWS>(sums, tile),
            }
        }
    }
    #[inline(always)]
    unsafe fn int16_times_128(p: *const i16) -> Self::Int {
        // SAFETY: the pointer is valid for eight reads by the method's contract.
        unsafe { _mm256_slli_epi32::<7>(_mm256_cvtepi16_epi32(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn store_int8(self, p: *mut i8) {
        // SAFETY: the pointer is valid for eight writes by the method's contract.
        unsafe {
            let wide = _mm256_cvtps_epi32(self.0);
            let half = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256::<1>(wide));
            let unsigned = _mm_xor_si128(_mm_packs_epi16(half, half), _mm_set1_epi8(i8::MIN));
            _mm_storel_epi64(p.cast(), unsigned);
        }
    }
    #[inline(always)]
    fn butterfly<const DISTANCE: usize>(self) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX2 and FMA. A product with 1 or -1 is exact.
        unsafe {
            let (other, signs) = match DISTANCE {
                1 => (
                    _mm256_permute_ps::<0xb1>(self.0),
                    _mm256_setr_ps(1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0),
                ),
                2 => (
                    _mm256_permute_ps::<0x4e>(self.0),
                    _mm256_setr_ps(1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0),
                ),
                _ => (
                    _mm256_permute2f128_ps::<0x01>(self.0, self.0),
                    _mm256_setr_ps(1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0),
                ),
            };
            Self(_mm256_fmadd_ps(self.0, signs, other))
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self {
        // SAFETY: the pointer is valid for eight reads by the method's contract.
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide)))
        }
    }
    #[inline(always)]
    unsafe fn tile_bf16<const ROWS: usize>(sums: &mut [[Self; VECTORS]; ROWS], tile: &Tile) {
        // SAFETY: the tile has ROWS rows of x and k rows of b by the method's contract.
        unsafe {
            match sums.as_mut_slice().try_into() {
                Ok(six) => six_rows_bf16(six, tile),
                Err(_) => tile::tile_bf16(sums, tile),
            }
        }
    }

    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX2 and FMA.
        Self(unsafe { _mm256_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the pointer is valid for eight reads by the method's contract.
        Self(unsafe { _mm256_loadu_ps(p) })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the pointer is valid for eight writes by the method's contract.
        unsafe { _mm256_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        if n == Self::LANES {
            // SAFETY: the pointer is valid for n = LANES reads by the method's contract.
            return unsafe { Self::load(p) };
        }
        // SAFETY: masked lanes are not read, and the pointer is valid for n reads by the method's contract.
        Self(unsafe { _mm256_maskload_ps(p, mask(n)) })
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        if n == Self::LANES {
            // A masked store is many times slower than a plain one on some processors.
            // SAFETY: the pointer is valid for n = LANES writes by the method's contract.
            return unsafe { self.store(p) };
        }
        // SAFETY: masked lanes are not written, and the pointer is valid for n writes by the method's contract.
        unsafe { _mm256_maskstore_ps(p, mask(n), self.0) }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX2 and FMA.
        Self(unsafe { _mm256_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX2 and FMA.
        Self(unsafe { _mm256_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX2 and FMA.
        Self(unsafe { _mm256_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX2 and FMA.
        Self(unsafe { _mm256_div_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX2 and FMA.
        Self(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX2 and FMA.
        Self(unsafe { _mm256_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX2 and FMA.
        Self(unsafe { _mm256_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX2 and FMA.
        Self(unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
    }
    #[inline(always)]
    fn exp2_integral(self) -> Self {
        // SAFETY: kernels over this type run only on processors with AVX2 and FMA.
        Self(unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        })
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: kernels over this type run only on processors with AVX2 and FMA.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    unsafe fn tile_f32<const ROWS: usize>(sums: &mut [[Self; VECTORS]; ROWS], tile: &Tile) {
        // SAFETY: the tile has ROWS rows of x and k rows of b by the method's contract.
        unsafe {
            match sums.as_mut_slice().try_into() {
                Ok(six) => six_rows_f32(six, tile),
                Err(_) => tile::tile_f32(sums, tile),
            }
        }
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: kernels over this type run only on processors with AVX2 and FMA.
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }
}
