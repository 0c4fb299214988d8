//! Eight lanes with AVX2 and FMA; products of integers with AVX-VNNI where the machine has it.

use super::Simd;
use crate::kernels::gemm::{Product, VECTORS, chains};
use crate::kernels::int16::int_chains;
use std::arch::asm;
use std::arch::x86_64::*;

/// Eight f32 in a ymm register; `VNNI` multiplies and adds pairs of integers in one instruction.
#[derive(Clone, Copy)]
pub struct Avx2<const VNNI: bool>(__m256);

/// Eight ones in front of eight zeros: the eight entries from place 8 - n have their first n set.
static FIRST: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[inline(always)]
fn mask(n: usize) -> __m256i {
    debug_assert!(n <= 8);
    // SAFETY: n is at most 8, so eight entries from place 8 - n lie inside the table.
    unsafe { _mm256_loadu_si256(FIRST.as_ptr().add(8 - n).cast()) }
}

/// One step along K for six rows, of floats or of pairs of integers: x at a byte offset, b at two. Written out because the compiler's own loop spends a
/// third of its instructions on addresses; the order of the multiply-adds in each chain is that of the plain loop.
macro_rules! step_of {
    ($multiply_add:literal, $x:literal, $b0:literal, $b1:literal) => {
        concat!(
            "vmovups ymm12, [{b} + ",
            $b0,
            "]\n",
            "vmovups ymm13, [{b} + ",
            $b1,
            "]\n",
            "vbroadcastss ymm14, [{low} + ",
            $x,
            "]\n",
            "vbroadcastss ymm15, [{low} + {stride} + ",
            $x,
            "]\n",
            $multiply_add,
            " ymm0, ymm14, ymm12\n",
            $multiply_add,
            " ymm1, ymm14, ymm13\n",
            "vbroadcastss ymm14, [{low} + 2*{stride} + ",
            $x,
            "]\n",
            $multiply_add,
            " ymm2, ymm15, ymm12\n",
            $multiply_add,
            " ymm3, ymm15, ymm13\n",
            "vbroadcastss ymm15, [{high} + ",
            $x,
            "]\n",
            $multiply_add,
            " ymm4, ymm14, ymm12\n",
            $multiply_add,
            " ymm5, ymm14, ymm13\n",
            "vbroadcastss ymm14, [{high} + {stride} + ",
            $x,
            "]\n",
            $multiply_add,
            " ymm6, ymm15, ymm12\n",
            $multiply_add,
            " ymm7, ymm15, ymm13\n",
            "vbroadcastss ymm15, [{high} + 2*{stride} + ",
            $x,
            "]\n",
            $multiply_add,
            " ymm8, ymm14, ymm12\n",
            $multiply_add,
            " ymm9, ymm14, ymm13\n",
            $multiply_add,
            " ymm10, ymm15, ymm12\n",
            $multiply_add,
            " ymm11, ymm15, ymm13\n",
        )
    };
}

/// With floats.
macro_rules! step {
    ($x:literal, $b0:literal, $b1:literal) => {
        step_of!("vfmadd231ps", $x, $b0, $b1)
    };
}

/// With pairs of 16-bit integers and AVX-VNNI. The encoding is named: AVX-512's has the same name.
macro_rules! vnni_step {
    ($x:literal, $b0:literal, $b1:literal) => {
        step_of!("{{vex}} vpdpwssd", $x, $b0, $b1)
    };
}

/// The same for pairs of 16-bit integers without it. The register of the broadcast takes the second product: there is no other left.
macro_rules! int_step {
    ($x:literal, $b0:literal, $b1:literal) => {
        concat!(
            "vmovdqu ymm12, [{b} + ",
            $b0,
            "]\n",
            "vmovdqu ymm13, [{b} + ",
            $b1,
            "]\n",
            "vpbroadcastd ymm14, [{low} + ",
            $x,
            "]\n",
            "vpmaddwd ymm15, ymm14, ymm12\n",
            "vpmaddwd ymm14, ymm14, ymm13\n",
            "vpaddd ymm0, ymm0, ymm15\n",
            "vpaddd ymm1, ymm1, ymm14\n",
            "vpbroadcastd ymm14, [{low} + {stride} + ",
            $x,
            "]\n",
            "vpmaddwd ymm15, ymm14, ymm12\n",
            "vpmaddwd ymm14, ymm14, ymm13\n",
            "vpaddd ymm2, ymm2, ymm15\n",
            "vpaddd ymm3, ymm3, ymm14\n",
            "vpbroadcastd ymm14, [{low} + 2*{stride} + ",
            $x,
            "]\n",
            "vpmaddwd ymm15, ymm14, ymm12\n",
            "vpmaddwd ymm14, ymm14, ymm13\n",
            "vpaddd ymm4, ymm4, ymm15\n",
            "vpaddd ymm5, ymm5, ymm14\n",
            "vpbroadcastd ymm14, [{high} + ",
            $x,
            "]\n",
            "vpmaddwd ymm15, ymm14, ymm12\n",
            "vpmaddwd ymm14, ymm14, ymm13\n",
            "vpaddd ymm6, ymm6, ymm15\n",
            "vpaddd ymm7, ymm7, ymm14\n",
            "vpbroadcastd ymm14, [{high} + {stride} + ",
            $x,
            "]\n",
            "vpmaddwd ymm15, ymm14, ymm12\n",
            "vpmaddwd ymm14, ymm14, ymm13\n",
            "vpaddd ymm8, ymm8, ymm15\n",
            "vpaddd ymm9, ymm9, ymm14\n",
            "vpbroadcastd ymm14, [{high} + 2*{stride} + ",
            $x,
            "]\n",
            "vpmaddwd ymm15, ymm14, ymm12\n",
            "vpmaddwd ymm14, ymm14, ymm13\n",
            "vpaddd ymm10, ymm10, ymm15\n",
            "vpaddd ymm11, ymm11, ymm14\n",
        )
    };
}

/// The loop over K around such a step: four at a time, then one, with what comes next fetched meanwhile.
macro_rules! six_rows {
    ($step:ident, $tile:ident, $s0:expr, $s1:expr, $s2:expr, $s3:expr, $s4:expr, $s5:expr, $s6:expr, $s7:expr, $s8:expr,
     $s9:expr, $s10:expr, $s11:expr) => {
        asm!(
            "sub {k}, 4",
            "jb 3f",
            ".p2align 5",
            "2:",
            "prefetcht1 [{ahead}]",
            $step!("0", "0", "32"),
            $step!("4", "64", "96"),
            $step!("8", "128", "160"),
            $step!("12", "192", "224"),
            "add {low}, 16",
            "add {high}, 16",
            "add {b}, 256",
            "add {ahead}, 64",
            "sub {k}, 4",
            "jae 2b",
            "3:",
            "add {k}, 4",
            "jz 5f",
            "4:",
            $step!("0", "0", "32"),
            "add {low}, 4",
            "add {high}, 4",
            "add {b}, 64",
            "dec {k}",
            "jnz 4b",
            "5:",
            low = inout(reg) $tile.x => _,
            high = inout(reg) $tile.x.add(3 * $tile.x_stride) => _,
            stride = in(reg) 4 * $tile.x_stride,
            b = inout(reg) $tile.b => _,
            ahead = inout(reg) $tile.ahead => _,
            k = inout(reg) $tile.k => _,
            inout("ymm0") $s0, inout("ymm1") $s1, inout("ymm2") $s2, inout("ymm3") $s3,
            inout("ymm4") $s4, inout("ymm5") $s5, inout("ymm6") $s6, inout("ymm7") $s7,
            inout("ymm8") $s8, inout("ymm9") $s9, inout("ymm10") $s10, inout("ymm11") $s11,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nostack, readonly),
        )
    };
}

impl<const VNNI: bool> Simd for Avx2<VNNI> {
    const LANES: usize = 8;
    type Int = __m256i;

    #[inline(always)]
    fn int_zero() -> Self::Int {
        // SAFETY: see `splat`.
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn int_fma(sum: Self::Int, pair: i32, b: *const i32) -> Self::Int {
        // SAFETY: the caller vouches for eight reads.
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
        // SAFETY: see `splat`.
        Self(unsafe { _mm256_cvtepi32_ps(int) })
    }
    #[inline(always)]
    unsafe fn store_int16(self, p: *mut i16) {
        // SAFETY: the caller vouches for eight writes.
        unsafe {
            let wide = _mm256_cvtps_epi32(self.0);
            let narrow = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256::<1>(wide));
            _mm_storeu_si128(p.cast(), narrow);
        }
    }
    #[inline(always)]
    unsafe fn int_chains<const ROWS: usize>(sums: &mut [[Self::Int; VECTORS]; ROWS], tile: &Product) {
        // SAFETY: the caller vouches for the tile.
        unsafe {
            match sums.as_mut_slice().try_into() {
                Ok(six) if VNNI => six_vnni_chains(six, tile),
                Ok(six) => six_int_chains(six, tile),
                Err(_) => int_chains::<Self, ROWS>(sums, tile),
            }
        }
    }

    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: here and below, kernels over this type run only after AVX2 and FMA were detected.
        Self(unsafe { _mm256_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller vouches for eight reads.
        Self(unsafe { _mm256_loadu_ps(p) })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller vouches for eight writes.
        unsafe { _mm256_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        if n == Self::LANES {
            // SAFETY: the caller vouches for n reads.
            return unsafe { Self::load(p) };
        }
        // SAFETY: masked lanes are not read; the caller vouches for the first n.
        Self(unsafe { _mm256_maskload_ps(p, mask(n)) })
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        if n == Self::LANES {
            // A masked store is many times slower than a plain one on some processors.
            // SAFETY: the caller vouches for n writes.
            return unsafe { self.store(p) };
        }
        // SAFETY: masked lanes are not written; the caller vouches for the first n.
        unsafe { _mm256_maskstore_ps(p, mask(n), self.0) }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        Self(unsafe { _mm256_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        Self(unsafe { _mm256_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        Self(unsafe { _mm256_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        Self(unsafe { _mm256_div_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: see `splat`.
        Self(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        Self(unsafe { _mm256_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: see `splat`.
        Self(unsafe { _mm256_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: see `splat`.
        Self(unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
    }
    #[inline(always)]
    fn exp2_integral(self) -> Self {
        // SAFETY: see `splat`.
        Self(unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        })
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: see `splat`.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    unsafe fn chains<const ROWS: usize>(sums: &mut [[Self; VECTORS]; ROWS], tile: &Product) {
        // SAFETY: the caller vouches for the tile.
        unsafe {
            match sums.as_mut_slice().try_into() {
                Ok(six) => six_chains(six, tile),
                Err(_) => chains(sums, tile),
            }
        }
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: see `splat`.
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }
}

/// The whole tile of six rows.
///
/// # Safety
/// The tile must cover six rows of x and k rows of b; AVX2 and FMA must be there.
#[target_feature(enable = "avx2,fma")]
unsafe fn six_chains<const VNNI: bool>(sums: &mut [[Avx2<VNNI>; VECTORS]; 6], tile: &Product) {
    let [[s0, s1], [s2, s3], [s4, s5], [s6, s7], [s8, s9], [s10, s11]] = sums;
    // SAFETY: the caller vouches for six rows of x and k rows of b, which is all that is read; prefetches may go
    // anywhere.
    unsafe {
        six_rows!(
            step, tile, s0.0, s1.0, s2.0, s3.0, s4.0, s5.0, s6.0, s7.0, s8.0, s9.0, s10.0, s11.0
        )
    }
}

/// The whole tile of six rows of integers.
///
/// # Safety
/// The tile must cover six rows of x and k rows of b; AVX2 and FMA must be there.
#[target_feature(enable = "avx2,fma")]
unsafe fn six_int_chains(sums: &mut [[__m256i; VECTORS]; 6], tile: &Product) {
    let [[s0, s1], [s2, s3], [s4, s5], [s6, s7], [s8, s9], [s10, s11]] = sums;
    // SAFETY: as in `six_chains`; a pair has the size of a float.
    unsafe {
        six_rows!(
            int_step, tile, *s0, *s1, *s2, *s3, *s4, *s5, *s6, *s7, *s8, *s9, *s10, *s11
        )
    }
}

/// The same with AVX-VNNI.
///
/// # Safety
/// The tile must cover six rows of x and k rows of b; AVX2, FMA and AVX-VNNI must be there.
#[target_feature(enable = "avx2,fma,avxvnni")]
unsafe fn six_vnni_chains(sums: &mut [[__m256i; VECTORS]; 6], tile: &Product) {
    let [[s0, s1], [s2, s3], [s4, s5], [s6, s7], [s8, s9], [s10, s11]] = sums;
    // SAFETY: as in `six_int_chains`.
    unsafe {
        six_rows!(
            vnni_step, tile, *s0, *s1, *s2, *s3, *s4, *s5, *s6, *s7, *s8, *s9, *s10, *s11
        )
    }
}
