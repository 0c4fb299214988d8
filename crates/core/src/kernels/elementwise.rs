//! Elementwise operations: sums, scaling, activations and gated activations.

use super::Matrix;
use super::loops::for_each_vector;
use crate::simd::Simd;
use crate::simd::math::Activation;
use std::ops::Range;

/// What to compute from the elements a and b.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// a + b
    Add,
    /// activation(a) · b
    Glu(Activation),
    /// activation(a)
    Activate(Activation),
    /// a · number
    Scale(f32),
}

/// Arguments of an elementwise operation.
pub struct Elementwise {
    /// What to compute.
    pub operation: Operation,
    /// First operand.
    pub a: Matrix,
    /// Second operand. For operations with one operand it is the same matrix as `a`.
    pub b: Matrix,
    /// Result. It may be the same matrix as either operand.
    pub out: Matrix,
    /// Features of a row.
    pub width: usize,
}

/// Computes the given rows.
///
/// # Safety
/// `a`, `b` and `out` must cover the rows with `width` columns; `out` may be equal to an operand but not overlap it
/// otherwise. No other thread may access these rows of `out`, and the processor must have the instruction set of `V`.
#[inline(always)]
pub unsafe fn elementwise<V: Simd>(args: &Elementwise, rows: Range<usize>) {
    // A macro, because a closure would be compiled without the kernel's instruction set (see `loops`).
    macro_rules! map {
        (|$a:ident, $b:ident| $value:expr) => {
            for row in rows {
                // SAFETY: all operands cover the row with `width` columns by this function's contract, and
                // `for_each_vector` accesses no element past the width.
                unsafe {
                    let (a, b, out) = (args.a.row(row), args.b.row(row), args.out.row(row));
                    for_each_vector!(V, args.width, |i, n| {
                        let ($a, $b) = (V::load_first(a.add(i), n), V::load_first(b.add(i), n));
                        $value.store_first(out.add(i), n);
                    });
                }
            }
        };
    }
    match args.operation {
        Operation::Add => map!(|a, b| a.add(b)),
        Operation::Scale(by) => map!(|a, _b| a.mul(V::splat(by))),
        Operation::Glu(Activation::GeluTanh) => map!(|a, b| Activation::GeluTanh.apply(a).mul(b)),
        Operation::Glu(Activation::GeluErf) => map!(|a, b| Activation::GeluErf.apply(a).mul(b)),
        Operation::Glu(Activation::Silu) => map!(|a, b| Activation::Silu.apply(a).mul(b)),
        Operation::Glu(kind) => map!(|a, b| kind.apply(a).mul(b)),
        Operation::Activate(kind) => map!(|a, _b| kind.apply(a)),
    }
}
