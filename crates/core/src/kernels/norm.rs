//! RMS and layer norm, over whole rows or over groups of features (heads), with the residual folded in.

use super::Matrix;
use super::loops::{each, total};
use crate::simd::Simd;
use std::ops::Range;

/// Which statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// x / √(mean x² + ε)
    Rms,
    /// (x - mean) / √(variance + ε)
    Layer,
}

/// Where a residual enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// norm(x + residual)
    Before,
    /// residual + norm(x)
    After,
}

/// One norm.
pub struct Norm<'a> {
    /// Statistics.
    pub kind: Kind,
    /// Added to the mean square or variance.
    pub eps: f32,
    /// Input rows.
    pub x: Matrix,
    /// Output rows; may be `x` or the residual.
    pub out: Matrix,
    /// The residual and where it enters.
    pub residual: Option<(Matrix, Residual)>,
    /// Features that are normalised together.
    pub group: usize,
    /// Groups of a row.
    pub groups: usize,
    /// One a feature of a group.
    pub weight: Option<&'a [f32]>,
    /// One a feature of a group.
    pub bias: Option<&'a [f32]>,
}

/// Normalises the given rows.
///
/// # Safety
/// See [`super::Kernels`].
#[inline(always)]
pub unsafe fn norm<V: Simd>(args: &Norm<'_>, rows: Range<usize>) {
    for row in rows {
        for group in 0..args.groups {
            let at = group * args.group;
            // SAFETY: the caller vouches for the row, which holds `groups` groups.
            unsafe {
                let residual = args
                    .residual
                    .map(|(matrix, place)| (matrix.row(row).add(at).cast_const(), place));
                one::<V>(args, args.x.row(row).add(at), args.out.row(row).add(at), residual);
            }
        }
    }
}

#[inline(always)]
unsafe fn one<V: Simd>(args: &Norm<'_>, x: *const f32, out: *mut f32, residual: Option<(*const f32, Residual)>) {
    let n = args.group;
    let before = matches!(residual, Some((_, Residual::Before)));
    let after = matches!(residual, Some((_, Residual::After)));
    let extra = residual.map_or(x, |(p, _)| p);
    // SAFETY: x, out and the residual hold n floats each, and so do weight and bias.
    unsafe {
        if before {
            each!(V, n, |i, m| {
                V::load_first(x.add(i), m)
                    .add(V::load_first(extra.add(i), m))
                    .store_first(out.add(i), m);
            });
        }
        let x = if before { out.cast_const() } else { x };
        let count = n as f32;
        let mut mean = 0.0;
        if args.kind == Kind::Layer {
            mean = total!(V, n, |i, m| V::load_first(x.add(i), m)) / count;
        }
        let square = if args.kind == Kind::Layer {
            total!(V, n, |i, m| {
                // The lanes past the end would count as -mean: blank them by the same masked load of a difference.
                let d = V::load_first(x.add(i), m).sub(V::splat(mean));
                blank(d, m).mul(blank(d, m))
            })
        } else {
            total!(V, n, |i, m| {
                let v = V::load_first(x.add(i), m);
                v.mul(v)
            })
        };
        let factor = V::splat(1.0 / (square / count + args.eps).sqrt());
        let mean = V::splat(mean);
        each!(V, n, |i, m| {
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

/// Zeroes the lanes from `n` on.
#[inline(always)]
fn blank<V: Simd>(v: V, n: usize) -> V {
    if n == V::LANES {
        return v;
    }
    let mut lanes = [0.0f32; 16];
    // SAFETY: no vector has more than sixteen lanes.
    unsafe {
        v.store(lanes.as_mut_ptr());
        V::load_first(lanes.as_ptr(), n)
    }
}
