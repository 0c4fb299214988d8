//! Vectors of four f32 with NEON, which every 64-bit ARM processor has. Products of bytes use `sdot` or `smmla` if the
//! processor has it.

mod byte_tiles;
mod tiles;

pub(super) use tiles::prefetch;

use super::Simd;
use super::tile::{Int8Rows, Tile, VECTORS};
use std::arch::aarch64::*;

/// Four f32 in a q register. `STEP` 8-bit integers of a row are multiplied at a time: two, which are widened first, four
/// by `sdot`, or eight by `smmla`.
#[derive(Clone, Copy)]
pub struct Neon<const STEP: usize>(float32x4_t);

impl<const STEP: usize> Simd for Neon<STEP> {
    const LANES: usize = 4;
    const TILE: usize = 12;
    const INT8_ROWS: Int8Rows = match STEP {
        2 => Int8Rows::Pairs,
        4 => Int8Rows::SignedQuads,
        _ => Int8Rows::SignedOctets,
    };
    type Int = int32x4_t;

    #[inline(always)]
    fn int_zero() -> Self::Int {
        // SAFETY: every 64-bit ARM processor has NEON.
        unsafe { vdupq_n_s32(0) }
    }
    #[inline(always)]
    unsafe fn int_fma(sum: Self::Int, pair: i32, b: *const i32) -> Self::Int {
        // SAFETY: the pointer is valid for four reads by the method's contract. The load separates the
        // first and the second numbers of the pairs.
        unsafe {
            let int16x4x2_t(first, second) = vld2_s16(b.cast());
            vmlal_n_s16(vmlal_n_s16(sum, first, pair as i16), second, (pair >> 16) as i16)
        }
    }
    #[inline(always)]
    fn from_int(int: Self::Int) -> Self {
        // SAFETY: every 64-bit ARM processor has NEON.
        Self(unsafe { vcvtq_f32_s32(int) })
    }
    #[inline(always)]
    unsafe fn store_int16(self, p: *mut i16) {
        // SAFETY: the pointer is valid for four writes by the method's contract.
        unsafe { vst1_s16(p, vqmovn_s32(vcvtnq_s32_f32(self.0))) }
    }
    #[inline(always)]
    unsafe fn tile_int16<const ROWS: usize>(sums: &mut [[Self::Int; VECTORS]; ROWS], tile: &Tile) {
        // SAFETY: the tile has ROWS rows of x and k rows of b by the method's contract.
        unsafe { tiles::tile_int16(sums, tile) }
    }

    #[inline(always)]
    unsafe fn byte_fma(sum: Self::Int, pair: i32, b: *const i8) -> Self::Int {
        // SAFETY: the pointer is valid for eight reads by the method's contract. The first and the second
        // numbers of the pairs are separated after widening.
        unsafe {
            let wide = vmovl_s8(vld1_s8(b));
            let (low, high) = (vget_low_s16(wide), vget_high_s16(wide));
            let (first, second) = (vuzp1_s16(low, high), vuzp2_s16(low, high));
            vmlal_n_s16(vmlal_n_s16(sum, first, pair as i16), second, (pair >> 16) as i16)
        }
    }
    #[inline(always)]
    unsafe fn tile_int8<const ROWS: usize>(sums: &mut [[Self::Int; VECTORS]; ROWS], tile: &Tile) {
        // SAFETY: the tile has ROWS rows of x and k rows of b by the method's contract. The kernels of `Neon<4>` and
        // `Neon<8>` run only on processors with the instruction.
        unsafe {
            match Self::INT8_ROWS {
                Int8Rows::SignedQuads => byte_tiles::quads(sums, tile),
                Int8Rows::SignedOctets => byte_tiles::octets(sums, tile),
                _ => tiles::tile_int8(sums, tile),
            }
        }
    }
    #[inline(always)]
    unsafe fn store_int8(self, p: *mut i8) {
        // SAFETY: the pointer is valid for four writes by the method's contract.
        unsafe {
            let halves = vqmovn_s32(vcvtnq_s32_f32(self.0));
            let bytes = vqmovn_s16(vcombine_s16(halves, halves));
            p.cast::<i32>()
                .write_unaligned(vget_lane_s32::<0>(vreinterpret_s32_s8(bytes)));
        }
    }
    #[inline(always)]
    fn butterfly<const DISTANCE: usize>(self) -> Self {
        // SAFETY: every 64-bit ARM processor has NEON. A product with 1 or -1 is exact.
        unsafe {
            if DISTANCE == 1 {
                let signs = vld1q_f32([1.0, -1.0, 1.0, -1.0].as_ptr());
                Self(vfmaq_f32(vrev64q_f32(self.0), self.0, signs))
            } else {
                let signs = vld1q_f32([1.0, 1.0, -1.0, -1.0].as_ptr());
                Self(vfmaq_f32(vextq_f32::<2>(self.0, self.0), self.0, signs))
            }
        }
    }
    #[inline(always)]
    unsafe fn tile_bf16<const ROWS: usize>(sums: &mut [[Self; VECTORS]; ROWS], tile: &Tile) {
        // SAFETY: the tile has ROWS rows of x and k rows of b by the method's contract.
        unsafe { tiles::tile_bf16(sums, tile) }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self {
        // SAFETY: the pointer is valid for four reads by the method's contract.
        Self(unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(p))) })
    }

    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: every 64-bit ARM processor has NEON.
        Self(unsafe { vdupq_n_f32(x) })
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the pointer is valid for four reads by the method's contract.
        Self(unsafe { vld1q_f32(p) })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the pointer is valid for four writes by the method's contract.
        unsafe { vst1q_f32(p, self.0) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        // SAFETY: the pointer is valid for n reads by the method's contract, and no arm reads more.
        Self(unsafe {
            let zero = vdup_n_f32(0.0);
            match n {
                0 => vcombine_f32(zero, zero),
                1 => vcombine_f32(vld1_lane_f32::<0>(p, zero), zero),
                2 => vcombine_f32(vld1_f32(p), zero),
                3 => vcombine_f32(vld1_f32(p), vld1_lane_f32::<0>(p.add(2), zero)),
                _ => vld1q_f32(p),
            }
        })
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        // SAFETY: the pointer is valid for n writes by the method's contract, and no arm writes more.
        unsafe {
            match n {
                0 => {}
                1 => vst1q_lane_f32::<0>(p, self.0),
                2 => vst1_f32(p, vget_low_f32(self.0)),
                3 => {
                    vst1_f32(p, vget_low_f32(self.0));
                    vst1q_lane_f32::<2>(p.add(2), self.0);
                }
                _ => vst1q_f32(p, self.0),
            }
        }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: every 64-bit ARM processor has NEON.
        Self(unsafe { vaddq_f32(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: every 64-bit ARM processor has NEON.
        Self(unsafe { vsubq_f32(self.0, other.0) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: every 64-bit ARM processor has NEON.
        Self(unsafe { vmulq_f32(self.0, other.0) })
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: every 64-bit ARM processor has NEON.
        Self(unsafe { vdivq_f32(self.0, other.0) })
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: every 64-bit ARM processor has NEON.
        Self(unsafe { vfmaq_f32(c.0, self.0, b.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // Not `vminq_f32`, which also returns a NaN in self: the other instruction sets return only one in other.
        // SAFETY: every 64-bit ARM processor has NEON.
        Self(unsafe { vbslq_f32(vcltq_f32(self.0, other.0), self.0, other.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: every 64-bit ARM processor has NEON.
        Self(unsafe { vbslq_f32(vcgtq_f32(self.0, other.0), self.0, other.0) })
    }
    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: every 64-bit ARM processor has NEON.
        Self(unsafe { vrndnq_f32(self.0) })
    }
    #[inline(always)]
    fn exp2_integral(self) -> Self {
        // SAFETY: every 64-bit ARM processor has NEON.
        Self(unsafe {
            let exponent = vaddq_s32(vcvtnq_s32_f32(self.0), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
        })
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: every 64-bit ARM processor has NEON. Adjacent lanes are added first, then the two sums.
        unsafe {
            let two = vpadd_f32(vget_low_f32(self.0), vget_high_f32(self.0));
            vaddv_f32(two)
        }
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: every 64-bit ARM processor has NEON.
        unsafe { vmaxvq_f32(self.0) }
    }
    #[inline(always)]
    unsafe fn tile_f32<const ROWS: usize>(sums: &mut [[Self; VECTORS]; ROWS], tile: &Tile) {
        // SAFETY: the tile has ROWS rows of x and k rows of b by the method's contract.
        unsafe { tiles::tile_f32(sums, tile) }
    }
}
