//! Sums, products, scales, activations and gated activations, element by element.

use super::Matrix;
use super::norm::each;
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
    // SAFETY: the caller vouches for the rows; each arm gets its own loop.
    unsafe {
        match args.operation {
            Operation::Add => map::<V>(args, rows, |a, b| a.add(b)),
            Operation::Mul => map::<V>(args, rows, |a, b| a.mul(b)),
            Operation::Scale(by) => map::<V>(args, rows, |a, _| a.mul(V::splat(by))),
            Operation::Glu(kind) => map::<V>(args, rows, |a, b| kind.apply(a).mul(b)),
            Operation::Activate(kind) => map::<V>(args, rows, |a, _| kind.apply(a)),
        }
    }
}

#[inline(always)]
unsafe fn map<V: Simd>(args: &Elementwise, rows: Range<usize>, f: impl Fn(V, V) -> V) {
    for row in rows {
        // SAFETY: the caller vouches for the row.
        unsafe {
            let (a, b, out) = (args.a.row(row), args.b.row(row), args.out.row(row));
            each::<V>(args.width, |i, n| {
                f(V::load_first(a.add(i), n), V::load_first(b.add(i), n)).store_first(out.add(i), n);
            });
        }
    }
}
