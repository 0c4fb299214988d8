//! Peak rate of a core: independent chains of fused multiply-adds on registers.

use crate::simd::Simd;

/// Number of chains: enough to hide the latency of one multiply-add behind the others.
const CHAINS: usize = 12;

/// Returns the floating point operations of one round.
pub const fn operations(lanes: usize) -> usize {
    2 * CHAINS * lanes
}

/// Executes `rounds` rounds and returns a value that depends on all of them, so that the compiler keeps them.
///
/// # Safety
/// The processor must have the instruction set of `V`.
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
