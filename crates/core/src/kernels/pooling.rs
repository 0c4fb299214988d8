//! From a text's tokens to one vector, and vectors to length 1.

use super::Matrix;
use super::loops::{each, total};
use crate::simd::Simd;
use std::ops::Range;

/// How tokens become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Mean of all tokens.
    Mean,
    /// First token.
    Cls,
    /// Last token.
    Last,
    /// Largest value of each feature.
    Max,
}

/// One pooling.
pub struct Pool {
    /// How.
    pub kind: Kind,
    /// Token rows.
    pub x: Matrix,
    /// One row a text.
    pub out: Matrix,
    /// Features.
    pub width: usize,
}

/// The tokens of one text and its place in the batch.
#[derive(Clone, Copy)]
pub struct Text {
    /// First token.
    pub start: usize,
    /// Tokens; none only where the program takes that, see [`crate::Model::start`].
    pub len: usize,
    /// Row of the output.
    pub row: usize,
}

/// Pools one text, token by token from its own first.
///
/// # Safety
/// See [`super::Kernels`]. The vector of a text without tokens is zero.
#[inline(always)]
pub unsafe fn pool<V: Simd>(args: &Pool, text: Text) {
    let one = if args.kind == Kind::Last {
        (text.start + text.len).saturating_sub(1)
    } else {
        text.start
    };
    // SAFETY: the caller vouches for the text's rows and for the output row; a text without tokens has no row to read.
    unsafe {
        let out = args.out.row(text.row);
        if text.len == 0 {
            std::slice::from_raw_parts_mut(out, args.width).fill(0.0);
            return;
        }
        each!(V, args.width, |i, n| {
            let mut value = V::load_first(args.x.row(one).add(i), n);
            if matches!(args.kind, Kind::Mean | Kind::Max) {
                for token in text.start + 1..text.start + text.len {
                    let next = V::load_first(args.x.row(token).add(i), n);
                    value = if args.kind == Kind::Mean {
                        value.add(next)
                    } else {
                        value.max(next)
                    };
                }
            }
            if args.kind == Kind::Mean {
                value = value.div(V::splat(text.len as f32));
            }
            value.store_first(out.add(i), n);
        });
    }
}

/// Rows to length 1, in place or not.
pub struct Normalise {
    /// Input rows.
    pub x: Matrix,
    /// Output rows; may be `x`.
    pub out: Matrix,
    /// Features.
    pub width: usize,
}

/// Divides the given rows by their Euclidean norm, at least 1e-12.
///
/// # Safety
/// See [`super::Kernels`].
#[inline(always)]
pub unsafe fn normalise<V: Simd>(args: &Normalise, rows: Range<usize>) {
    for row in rows {
        // SAFETY: the caller vouches for the row.
        unsafe {
            let (x, out) = (args.x.row(row), args.out.row(row));
            let square = total!(V, args.width, |i, n| {
                let v = V::load_first(x.add(i), n);
                v.mul(v)
            });
            let length = if square.is_nan() {
                square
            } else {
                square.sqrt().max(1e-12)
            };
            let length = V::splat(length);
            each!(V, args.width, |i, n| {
                V::load_first(x.add(i), n).div(length).store_first(out.add(i), n)
            });
        }
    }
}
