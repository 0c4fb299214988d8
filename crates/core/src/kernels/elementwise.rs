//! Sums, products, scales, activations and gated activations, element by element.

use super::Matrix;
use super::loops::each;
use crate::simd::Simd;
use crate::simd::math::Activation;
use std::ops::Range;

/// What to compute of a and b.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// a + b
    Add,
    /// a · b
    Mul,
    /// activation(a) · b
    Glu(Activation),
    /// activation(a)
    Activate(Activation),
    /// a times a number
    Scale(f32),
}

/// One operation.
pub struct Elementwise {
    /// What to compute.
    pub operation: Operation,
    /// First operand.
    pub a: Matrix,
    /// Second operand; the first one again where there is none.
    pub b: Matrix,
    /// Result; may be either operand.
    pub out: Matrix,
    /// Features.
    pub width: usize,
}

/// Computes the given rows.
///
/// # Safety
/// See [`super::Kernels`].
#[inline(always)]
pub unsafe fn elementwise<V: Simd>(args: &Elementwise, rows: Range<usize>) {
    // One loop for each operation: a macro, for the reason that `loops` gives.
    macro_rules! map {
        (|$a:ident, $b:ident| $value:expr) => {
            for row in rows {
                // SAFETY: the caller vouches for the row.
                unsafe {
                    let (a, b, out) = (args.a.row(row), args.b.row(row), args.out.row(row));
                    each!(V, args.width, |i, n| {
                        let ($a, $b) = (V::load_first(a.add(i), n), V::load_first(b.add(i), n));
                        $value.store_first(out.add(i), n);
                    });
                }
            }
        };
    }
    match args.operation {
        Operation::Add => map!(|a, b| a.add(b)),
        Operation::Mul => map!(|a, b| a.mul(b)),
        Operation::Scale(by) => map!(|a, _b| a.mul(V::splat(by))),
        Operation::Glu(Activation::GeluTanh) => map!(|a, b| Activation::GeluTanh.apply(a).mul(b)),
        Operation::Glu(Activation::GeluErf) => map!(|a, b| Activation::GeluErf.apply(a).mul(b)),
        Operation::Glu(Activation::Silu) => map!(|a, b| Activation::Silu.apply(a).mul(b)),
        Operation::Glu(kind) => map!(|a, b| kind.apply(a).mul(b)),
        Operation::Activate(kind) => map!(|a, _b| kind.apply(a)),
    }
}
