//! How many fused multiply-adds a core can do: independent chains in registers and nothing else.

use crate::simd::Simd;

/// Chains; enough to hide the latency of one multiply-add behind the others.
const CHAINS: usize = 12;

/// Floating point operations of one round.
pub const fn operations(lanes: usize) -> usize {
    2 * CHAINS * lanes
}

/// Does `rounds` rounds and returns something that depends on all of them.
///
/// # Safety
/// See [`super::Kernels`].
#[inline(always)]
pub unsafe fn peak<V: Simd>(rounds: usize) -> f32 {
    let (factor, addend) = (
        V::splat(std::hint::black_box(0.999)),
        V::splat(std::hint::black_box(0.001)),
    );
    let mut chains = [V::splat(1.0); CHAINS];
    for _ in 0..rounds {
        for chain in &mut chains {
            *chain = chain.fma(factor, addend);
        }
    }
    chains.iter().fold(0.0, |sum, chain| sum + chain.sum())
}
