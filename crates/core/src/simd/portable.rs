//! Vectors of eight f32 in plain Rust, for machines without a faster instruction set. The other sets are compared with
//! it.

use super::Simd;

/// Eight f32.
#[derive(Clone, Copy)]
pub struct Portable([f32; 8]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Simd for Portable {
    const LANES: usize = 8;
    type Int = [i32; 8];

    #[inline(always)]
    fn int_zero() -> Self::Int {
        [0; 8]
    }
    #[inline(always)]
    unsafe fn int_fma(sum: Self::Int, pair: i32, b: *const i32) -> Self::Int {
        // SAFETY: the pointer is valid for eight reads by the method's contract.
        let b = unsafe { b.cast::<[i32; 8]>().read_unaligned() };
        let halves = |pair: i32| (i32::from(pair as i16), pair >> 16);
        let (x0, x1) = halves(pair);
        std::array::from_fn(|i| {
            let (b0, b1) = halves(b[i]);
            sum[i].wrapping_add(x0 * b0 + x1 * b1)
        })
    }
    #[inline(always)]
    fn from_int(int: Self::Int) -> Self {
        Self(int.map(|lane| lane as f32))
    }
    #[inline(always)]
    unsafe fn store_int16(self, p: *mut i16) {
        // SAFETY: the pointer is valid for eight writes by the method's contract.
        unsafe {
            p.cast::<[i16; 8]>()
                .write_unaligned(self.0.map(|lane| lane.round_ties_even() as i16))
        }
    }

    #[inline(always)]
    unsafe fn byte_fma(sum: Self::Int, pair: i32, b: *const i8) -> Self::Int {
        // SAFETY: the pointer is valid for sixteen reads by the method's contract.
        let b = unsafe { b.cast::<[[i8; 2]; 8]>().read_unaligned() };
        let (x0, x1) = (i32::from(pair as i16), pair >> 16);
        std::array::from_fn(|i| sum[i].wrapping_add(x0 * i32::from(b[i][0]) + x1 * i32::from(b[i][1])))
    }
    #[inline(always)]
    fn butterfly<const DISTANCE: usize>(self) -> Self {
        Self(std::array::from_fn(|i| {
            let (lane, other) = (self.0[i], self.0[i ^ DISTANCE]);
            if i & DISTANCE == 0 { other + lane } else { other - lane }
        }))
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self {
        // SAFETY: the pointer is valid for eight reads by the method's contract.
        let halves = unsafe { p.cast::<[u16; 8]>().read_unaligned() };
        Self(halves.map(|half| f32::from_bits(u32::from(half) << 16)))
    }
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; 8])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the pointer is valid for eight reads by the method's contract.
        Self(unsafe { p.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the pointer is valid for eight writes by the method's contract.
        unsafe { p.cast::<[f32; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        let mut lanes = [0.0; 8];
        for (i, lane) in lanes.iter_mut().enumerate().take(n) {
            // SAFETY: i < n, and the pointer is valid for n reads by the method's contract.
            *lane = unsafe { *p.add(i) };
        }
        Self(lanes)
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        for (i, lane) in self.0.iter().enumerate().take(n) {
            // SAFETY: i < n, and the pointer is valid for n writes by the method's contract.
            unsafe { *p.add(i) = *lane };
        }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        // Two roundings, because without the instruction a fused multiply-add is a slow library call.
        self.mul(b).add(c)
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn round(self) -> Self {
        Self(self.0.map(f32::round_ties_even))
    }
    #[inline(always)]
    fn exp2_integral(self) -> Self {
        // Wrapping, because the lanes may be NaN or infinite; the other instruction sets wrap too.
        Self(
            self.0
                .map(|n| f32::from_bits(((n as i32).wrapping_add(127) as u32) << 23)),
        )
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        self.0
            .into_iter()
            .fold(f32::NEG_INFINITY, |a, b| if a > b { a } else { b })
    }
}
