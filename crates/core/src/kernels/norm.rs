//! RMS norm and layer norm, over whole rows or over groups of features (heads), with an optional residual.

use super::Matrix;
use super::loops::{for_each_vector, sum_vectors};
use crate::simd::Simd;
use std::ops::Range;

/// Which statistics normalise a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// x / √(mean x² + ε)
    Rms,
    /// (x - mean) / √(variance + ε)
    Layer,
}

/// Where a residual is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// norm(x + residual)
    Before,
    /// residual + norm(x)
    After,
}

/// Arguments of a norm.
pub struct Norm<'a> {
    /// Which statistics normalise a group.
    pub kind: Kind,
    /// Added to the mean square or the variance.
    pub eps: f32,
    /// Input rows.
    pub x: Matrix,
    /// Output rows. It may be the same matrix as `x` or the residual.
    pub out: Matrix,
    /// The residual and where it is added.
    pub residual: Option<(Matrix, Residual)>,
    /// Number of adjacent features that are normalised together.
    pub group: usize,
    /// Groups of a row.
    pub groups: usize,
    /// One factor for each feature of a group.
    pub weight: Option<&'a [f32]>,
    /// One summand for each feature of a group.
    pub bias: Option<&'a [f32]>,
}

/// Normalises the given rows.
///
/// # Safety
/// `x`, `out` and the residual must cover the rows with `groups` · `group` columns; `out` may be equal to either but
/// not overlap it otherwise. No other thread may access these rows of `out`, and the processor must have the
/// instruction set of `V`.
#[inline(always)]
pub unsafe fn norm<V: Simd>(args: &Norm<'_>, rows: Range<usize>) {
    for row in rows {
        for group in 0..args.groups {
            let start = group * args.group;
            // SAFETY: all operands cover the row with `groups` groups by this function's contract.
            unsafe {
                let residual = args
                    .residual
                    .map(|(matrix, position)| (matrix.row(row).add(start).cast_const(), position));
                norm_group::<V>(args, args.x.row(row).add(start), args.out.row(row).add(start), residual);
            }
        }
    }
}

/// Normalises one group.
///
/// # Safety
/// `x`, `out` and the residual must be valid for `args.group` elements, and so must weight and bias. The processor must
/// have the instruction set of `V`.
#[inline(always)]
unsafe fn norm_group<V: Simd>(args: &Norm<'_>, x: *const f32, out: *mut f32, residual: Option<(*const f32, Residual)>) {
    let n = args.group;
    let before = matches!(residual, Some((_, Residual::Before)));
    let after = matches!(residual, Some((_, Residual::After)));
    let extra = residual.map_or(x, |(p, _)| p);
    // SAFETY: x, out, the residual, weight and bias have n elements each by this function's contract, and the loops
    // access no element past n.
    unsafe {
        if before {
            for_each_vector!(V, n, |i, m| {
                V::load_first(x.add(i), m)
                    .add(V::load_first(extra.add(i), m))
                    .store_first(out.add(i), m);
            });
        }
        let x = if before { out.cast_const() } else { x };
        let count = n as f32;
        let mut mean = 0.0;
        if args.kind == Kind::Layer {
            mean = sum_vectors!(V, n, |i, m| V::load_first(x.add(i), m)) / count;
        }
        let square = if args.kind == Kind::Layer {
            sum_vectors!(V, n, |i, m| {
                // Lanes past the end would contribute -mean, so they are set to zero.
                let d = V::load_first(x.add(i), m).sub(V::splat(mean));
                first_lanes(d, m).mul(first_lanes(d, m))
            })
        } else {
            sum_vectors!(V, n, |i, m| {
                let v = V::load_first(x.add(i), m);
                v.mul(v)
            })
        };
        let factor = V::splat(1.0 / (square / count + args.eps).sqrt());
        let mean = V::splat(mean);
        for_each_vector!(V, n, |i, m| {
            let mut y = V::load_first(x.add(i), m).sub(mean).mul(factor);
            if let Some(weight) = args.weight {
                y = y.mul(V::load_first(weight.as_ptr().add(i), m));
            }
            if let Some(bias) = args.bias {
                y = y.add(V::load_first(bias.as_ptr().add(i), m));
            }
            if after {
                y = V::load_first(extra.add(i), m).add(y);
            }
            y.store_first(out.add(i), m);
        });
    }
}

/// Sets the lanes from `n` on to zero.
#[inline(always)]
fn first_lanes<V: Simd>(v: V, n: usize) -> V {
    if n == V::LANES {
        return v;
    }
    let mut lanes = [0.0f32; 16];
    // SAFETY: no instruction set has more than sixteen lanes, so the array has room for the vector.
    unsafe {
        v.store(lanes.as_mut_ptr());
        V::load_first(lanes.as_ptr(), n)
    }
}
