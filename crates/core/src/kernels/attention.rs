//! Attention within each text, in f32.
//!
//! Keys and values are packed once. Then each tile of queries computes its scores, their softmax, and the weighted sum
//! of the values. Tiles begin at the text's first token, so a text gets the same bits in any batch.

use super::Matrix;
use super::gemm::multiply_unfinished;
use super::loops::for_each_vector;
use crate::simd::Simd;
use crate::simd::math::{INTERLEAVED, exp2_negative};
use crate::simd::tile::{self, VECTORS};
use std::f32::consts::LOG2_E;
use std::ops::Range;

/// Queries of a tile: a multiple of the rows of a register tile on every instruction set.
pub const TILE_QUERIES: usize = 24;

/// Arguments of an attention step.
pub struct Attention<'a> {
    /// Query rows of `heads` · `head_dim` values.
    pub q: Matrix,
    /// Key rows of `kv_heads` · `head_dim` values.
    pub k: Matrix,
    /// Value rows of `kv_heads` · `head_dim` values.
    pub v: Matrix,
    /// Output rows of `heads` · `head_dim` values.
    pub out: Matrix,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads. Each belongs to `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// A query attends only to keys at its own position or before it.
    pub causal: bool,
    /// A query attends only to keys at most this many positions away.
    pub radius: Option<usize>,
    /// Added to the scores.
    pub bias: Option<Bias<'a>>,
    /// Memory for packed keys and values; see [`packed_len`].
    pub packed: Matrix,
}

/// Biases by the distance of key and query.
#[derive(Clone, Copy)]
pub struct Bias<'a> {
    /// For each head `2 · span - 1` values. The value for a key and a query has the index key - query + span - 1.
    pub values: &'a [f32],
    /// Largest distance plus 1.
    pub span: usize,
}

/// The tokens of one text, and the offset of its packed keys and values.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Index of the first token in the batch.
    pub start: usize,
    /// Number of tokens.
    pub len: usize,
    /// Offset into `packed`, in f32 values.
    pub packed: usize,
}

/// A tile of queries of one text.
#[derive(Clone, Copy, Debug)]
pub struct QueryTile {
    /// The text.
    pub span: Span,
    /// Position of the first query in the text. The tile has at most [`TILE_QUERIES`] queries from there on.
    pub first: usize,
}

/// Returns the f32 values that one text's packed keys and values take, over all heads.
pub fn packed_len(len: usize, kv_heads: usize, head_dim: usize, panel: usize) -> usize {
    len.next_multiple_of(panel) * (head_dim + head_dim.next_multiple_of(panel)) * kv_heads
}

/// Returns the f32 values of scratch memory that a tile needs for texts of up to `len` tokens.
pub fn scratch_len(len: usize, _head_dim: usize, panel: usize) -> usize {
    TILE_QUERIES * (len.next_multiple_of(panel) + 1)
}

/// Addresses of one head's packed keys (panels of keys, feature major) and values (panels of features, key major).
struct PackedHead {
    keys: *mut f32,
    values: *mut f32,
    /// Number of keys, rounded up to whole panels.
    padded: usize,
}

fn packed_head(args: &Attention<'_>, span: Span, kv_head: usize, panel: usize) -> PackedHead {
    let padded = span.len.next_multiple_of(panel);
    let keys = padded * args.head_dim;
    let both = keys + padded * args.head_dim.next_multiple_of(panel);
    // SAFETY: the executor sized `packed` by `packed_len` for all texts. The heads of a text follow each other inside
    // its part.
    unsafe {
        let start = args.packed.data.add(span.packed + kv_head * both);
        PackedHead {
            keys: start,
            values: start.add(keys),
            padded,
        }
    }
}

/// Packs the keys and values of one text and head. Elements past the end of the text are zero.
///
/// # Safety
/// `k` and `v` must cover the text with all heads, and `packed` must have been sized by [`packed_len`] for all texts.
/// No other thread may access the packed memory of this text and head, and the processor must have the instruction set
/// of `V`.
#[inline(always)]
pub unsafe fn pack<V: Simd>(args: &Attention<'_>, span: Span, kv_head: usize) {
    let panel = VECTORS * V::LANES;
    let packed = packed_head(args, span, kv_head, panel);
    let d = args.head_dim;
    // SAFETY: k and v cover the text's rows by this function's contract: the row index stays below the end of the text,
    // and past the end no lane is loaded. `packed` has room for `padded` keys and values.
    unsafe {
        for key in 0..packed.padded {
            let column = packed.keys.add(key / panel * panel * d + key % panel);
            let row = args.k.row(span.start + key.min(span.len - 1)).add(kv_head * d);
            for i in 0..d {
                *column.add(i * panel) = if key < span.len { *row.add(i) } else { 0.0 };
            }
        }
        for first in (0..d).step_by(panel) {
            let features = panel.min(d - first);
            let chunk = packed.values.add(first * packed.padded);
            for key in 0..packed.padded {
                let row = args.v.row(span.start + key.min(span.len - 1)).add(kv_head * d + first);
                for v in 0..VECTORS {
                    let lanes = features.saturating_sub(v * V::LANES).min(V::LANES);
                    let lanes = if key < span.len { lanes } else { 0 };
                    V::load_first(row.wrapping_add(v * V::LANES), lanes).store(chunk.add(key * panel + v * V::LANES));
                }
            }
        }
    }
}

/// Computes attention for one tile of queries and one query head. `scratch` has at least [`scratch_len`] values.
///
/// # Safety
/// `q` and `out` must cover the text with all heads, and the text must have been packed for the instruction set of `V`,
/// which the processor must have. No other thread may access these rows and this head of `out`.
#[inline(always)]
pub unsafe fn tile<V: Simd>(args: &Attention<'_>, tile: QueryTile, head: usize, scratch: &mut [f32]) {
    let panel = VECTORS * V::LANES;
    let kv_head = head / (args.heads / args.kv_heads);
    let span = tile.span;
    let packed = packed_head(args, span, kv_head, panel);
    let d = args.head_dim;
    let queries = tile.first..(tile.first + TILE_QUERIES).min(span.len);
    let keys = visible_panels(args, span.len, &queries, panel);
    let stride = keys.len();
    let (scores, factors) = scratch.split_at_mut(TILE_QUERIES * stride);
    let (scores, factors) = (scores.as_mut_ptr(), factors[..TILE_QUERIES].as_mut_ptr());

    // SAFETY: q and out cover the text's rows, and keys and values are packed, by this function's contract. `scores`
    // has `TILE_QUERIES` rows of `stride`, `factors` as many values, and `padded` is at least the end of `keys`.
    unsafe {
        for key in keys.clone().step_by(panel) {
            for query in queries.clone().step_by(V::TILE) {
                let tile = tile::Tile {
                    k: d,
                    x: args.q.row(span.start + query).add(head * d),
                    x_stride: args.q.stride,
                    b: packed.keys.add(key * d),
                    prefetch: packed.keys.wrapping_add((key + panel) * d),
                    further: 0,
                    out: scores.add((query - queries.start) * stride + key - keys.start),
                    out_stride: stride,
                    columns: panel,
                };
                multiply_unfinished::<V>(V::TILE.min(queries.end - query), &tile, None);
            }
        }
        for (number, query) in queries.clone().enumerate() {
            let row = std::slice::from_raw_parts_mut(scores.add(number * stride), stride);
            let (sum, _) = softmax_weights::<V>(args, head, span, query, &keys, row);
            *factors.add(number) = 1.0 / sum;
        }
        for first in (0..d).step_by(panel) {
            let features = panel.min(d - first);
            for query in queries.clone().step_by(V::TILE) {
                let tile = tile::Tile {
                    k: stride,
                    x: scores.add((query - queries.start) * stride),
                    x_stride: stride,
                    b: packed.values.add(first * packed.padded + keys.start * panel),
                    prefetch: packed
                        .values
                        .wrapping_add((first + panel) * packed.padded + keys.start * panel),
                    further: 0,
                    out: args.out.row(span.start + query).add(head * d + first),
                    out_stride: args.out.stride,
                    columns: features,
                };
                let factors = factors.add(query - queries.start);
                multiply_unfinished::<V>(V::TILE.min(queries.end - query), &tile, Some(factors));
            }
        }
    }
}

/// Returns the keys that at least one of the queries attends to, rounded to whole panels.
pub(super) fn visible_panels(args: &Attention<'_>, len: usize, queries: &Range<usize>, panel: usize) -> Range<usize> {
    let first = visible(args, len, queries.start).start;
    let last = visible(args, len, queries.end - 1).end;
    first / panel * panel..last.next_multiple_of(panel)
}

/// Replaces a query's scores by the weights of their softmax, not yet divided by their sum: the largest weight is 1.
///
/// `scores` has one value for each of `keys`. Returns the sum of the weights and the sum of their squares.
#[inline(always)]
pub(super) fn softmax_weights<V: Simd>(
    args: &Attention<'_>,
    head: usize,
    span: Span,
    query: usize,
    keys: &Range<usize>,
    scores: &mut [f32],
) -> (f32, f32) {
    let visible = visible(args, span.len, query);
    let visible_scores = visible.start - keys.start..visible.end - keys.start;
    if let Some(bias) = args.bias {
        add_bias(args, bias, head, query, visible, &mut scores[visible_scores.clone()]);
    }
    let scale = if args.bias.is_some() { 1.0 } else { args.scale };
    exponentials::<V>(scores, visible_scores, scale * LOG2_E)
}

/// Returns the keys that a query attends to.
fn visible(args: &Attention<'_>, len: usize, query: usize) -> Range<usize> {
    let radius = args.radius.unwrap_or(len);
    let end = if args.causal {
        query + 1
    } else {
        query.saturating_add(radius).saturating_add(1).min(len)
    };
    query.saturating_sub(radius)..end
}

/// Replaces the scores by score · scale + bias.
fn add_bias(args: &Attention<'_>, bias: Bias<'_>, head: usize, query: usize, keys: Range<usize>, scores: &mut [f32]) {
    let of_head = &bias.values[head * (2 * bias.span - 1)..];
    for (key, score) in keys.zip(scores) {
        *score = *score * args.scale + of_head[key + bias.span - 1 - query];
    }
}

/// Replaces each score in `visible` by 2^(scale · (score - largest score)), and all others by 0.
///
/// Returns the sum of the new values and the sum of their squares.
#[inline(always)]
fn exponentials<V: Simd>(row: &mut [f32], visible: Range<usize>, scale: f32) -> (f32, f32) {
    row[..visible.start].fill(0.0);
    row[visible.end..].fill(0.0);
    let n = visible.len();
    let p = row[visible].as_mut_ptr();
    // SAFETY: p points to the n scores of `visible`, and every load and store below stays inside them.
    unsafe {
        let mut largest = V::splat(f32::NEG_INFINITY);
        let mut tail = f32::NEG_INFINITY;
        for_each_vector!(V, n, |i, lanes| {
            if lanes == V::LANES {
                largest = largest.max(V::load(p.add(i)));
            } else {
                tail = (0..lanes).map(|j| *p.add(i + j)).fold(tail, f32::max);
            }
        });
        let shift = V::splat(-largest.largest().max(tail) * scale);
        let scale = V::splat(scale);
        let (mut sums, mut squares) = ([V::splat(0.0); INTERLEAVED], [V::splat(0.0); INTERLEAVED]);
        let mut at = 0;
        while at + INTERLEAVED * V::LANES <= n {
            let mut x = sums;
            for (v, x) in x.iter_mut().enumerate() {
                *x = V::load(p.add(at + v * V::LANES)).fma(scale, shift);
            }
            for (v, e) in exp2_negative(x).into_iter().enumerate() {
                e.store(p.add(at + v * V::LANES));
                sums[v] = sums[v].add(e);
                squares[v] = e.fma(e, squares[v]);
            }
            at += INTERLEAVED * V::LANES;
        }
        for_each_vector!(V, n - at, |i, lanes| {
            let [e] = exp2_negative([V::load_first(p.add(at + i), lanes).fma(scale, shift)]);
            e.store_first(p.add(at + i), lanes);
            let e = V::load_first(p.add(at + i), lanes); // lanes past the end are zero
            sums[0] = sums[0].add(e);
            squares[0] = e.fma(e, squares[0]);
        });
        let all = |of: [V; INTERLEAVED]| of[0].add(of[1]).add(of[2].add(of[3])).sum();
        (all(sums), all(squares))
    }
}

/// Returns the values of [`Bias`] for texts of up to `span` tokens, from a table of relative position buckets (buckets,
/// heads).
///
/// The buckets are those of T5 in both directions: half of them for keys after the query. Small distances have a bucket
/// each, larger ones share buckets on a logarithmic scale up to `furthest`. Source: Raffel et al. 2020, section 2.1, as MPNet
/// uses it.
pub fn bias_by_distance(buckets: &[f32], heads: usize, span: usize, furthest: usize) -> Vec<f32> {
    let side = buckets.len() / heads / 2;
    let exact = side / 2;
    let bucket = |distance: isize| {
        let absolute = distance.unsigned_abs();
        let index = if absolute < exact {
            absolute
        } else {
            let growth =
                (absolute as f32 / exact as f32).ln() / (furthest as f32 / exact as f32).ln() * (side - exact) as f32;
            (exact + growth as usize).min(side - 1)
        };
        index + if distance > 0 { side } else { 0 }
    };
    let last = span as isize - 1;
    let buckets_by_distance: Vec<usize> = (-last..=last).map(bucket).collect();
    (0..heads)
        .flat_map(|head| {
            buckets_by_distance
                .iter()
                .map(move |bucket| buckets[bucket * heads + head])
        })
        .collect()
}
