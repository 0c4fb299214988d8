//! Pooling of a text's tokens to one vector, and scaling of vectors to length 1.

use super::Matrix;
use super::loops::{for_each_vector, sum_vectors};
use crate::simd::Simd;
use std::ops::Range;

/// How the tokens of a text become one vector.
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

/// Arguments of a pooling.
pub struct Pool {
    /// How the tokens of a text become one vector.
    pub kind: Kind,
    /// Input: one row for each token.
    pub x: Matrix,
    /// Output: one row for each text.
    pub out: Matrix,
    /// Features of a row.
    pub width: usize,
}

/// The tokens of one text and its row in the batch.
#[derive(Clone, Copy)]
pub struct Text {
    /// First token.
    pub start: usize,
    /// Number of tokens. It may be 0 only for a program that averages rows of a table.
    pub len: usize,
    /// Row of the text in the output.
    pub row: usize,
}

/// Pools one text, from its first token to its last. The vector of a text without tokens is zero.
///
/// # Safety
/// `x` must cover the tokens of the text and `out` its row, both with `width` columns. No other thread may access that
/// row, and the processor must have the instruction set of `V`.
#[inline(always)]
pub unsafe fn pool<V: Simd>(args: &Pool, text: Text) {
    let first = if args.kind == Kind::Last {
        (text.start + text.len).saturating_sub(1)
    } else {
        text.start
    };
    // SAFETY: x covers the text's tokens and out its row by this function's contract; the early return reads no token
    // of an empty text.
    unsafe {
        let out = args.out.row(text.row);
        if text.len == 0 {
            std::slice::from_raw_parts_mut(out, args.width).fill(0.0);
            return;
        }
        for_each_vector!(V, args.width, |i, n| {
            let mut value = V::load_first(args.x.row(first).add(i), n);
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

/// Arguments of a scaling to length 1.
pub struct Normalise {
    /// Input rows.
    pub x: Matrix,
    /// Output rows. It may be the same matrix as `x`.
    pub out: Matrix,
    /// Features of a row.
    pub width: usize,
}

/// Divides the given rows by their Euclidean norm, at least 1e-12.
///
/// # Safety
/// `x` and `out` must cover the rows with `width` columns, and must be equal or not overlap. No other thread may access
/// these rows of `out`, and the processor must have the instruction set of `V`.
#[inline(always)]
pub unsafe fn normalise<V: Simd>(args: &Normalise, rows: Range<usize>) {
    for row in rows {
        // SAFETY: x and out cover the row with `width` columns by this function's contract, and `for_each_vector` and
        // `sum_vectors` access no element past the width.
        unsafe {
            let (x, out) = (args.x.row(row), args.out.row(row));
            let square = sum_vectors!(V, args.width, |i, n| {
                let v = V::load_first(x.add(i), n);
                v.mul(v)
            });
            let length = if square.is_nan() {
                square
            } else {
                square.sqrt().max(1e-12)
            };
            let length = V::splat(length);
            for_each_vector!(V, args.width, |i, n| {
                V::load_first(x.add(i), n).div(length).store_first(out.add(i), n)
            });
        }
    }
}
