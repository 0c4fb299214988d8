//! Attention within each text: keys and values are packed once, then tiles of queries go through scores, softmax and
//! weighted sum. Tiles start at the text's own first token, so a text gets the same bits in any batch.

use super::Matrix;
use super::gemm::multiply_plain;
use super::loops::each;
use crate::simd::Simd;
use crate::simd::math::{ABREAST, exp2_negative};
use crate::simd::tile::{self, VECTORS};
use std::f32::consts::LOG2_E;
use std::ops::Range;

/// Queries of a tile; whole register tiles on every instruction set.
pub const TILE: usize = 24;

/// One attention step.
pub struct Attention<'a> {
    /// Query rows: `heads` times `head_dim`.
    pub q: Matrix,
    /// Key rows: `kv_heads` times `head_dim`.
    pub k: Matrix,
    /// Value rows: `kv_heads` times `head_dim`.
    pub v: Matrix,
    /// Output rows: `heads` times `head_dim`.
    pub out: Matrix,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Multiplies the scores.
    pub scale: f32,
    /// A query sees no later key.
    pub causal: bool,
    /// A query sees keys at most this far away.
    pub radius: Option<usize>,
    /// Added to the scores: for each head `2 · span - 1` numbers, by key place minus query place plus `span - 1`.
    pub bias: Option<Bias<'a>>,
    /// Where packed keys and values go; see [`packed_len`].
    pub packed: Matrix,
}

/// Relative position biases, spread out by distance.
#[derive(Clone, Copy)]
pub struct Bias<'a> {
    /// `heads` rows of `2 · span - 1` numbers.
    pub values: &'a [f32],
    /// Largest distance plus one.
    pub span: usize,
}

/// The tokens of one text, and where its packed keys and values begin.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// First token.
    pub start: usize,
    /// Tokens.
    pub len: usize,
    /// Float offset into `packed`.
    pub packed: usize,
}

/// Some queries of one text.
#[derive(Clone, Copy, Debug)]
pub struct Tile {
    /// The text.
    pub span: Span,
    /// First query, counted from the text's first token; at most [`TILE`] from here on.
    pub first: usize,
}

/// Floats that one text's packed keys and values take, over all heads.
pub fn packed_len(len: usize, kv_heads: usize, head_dim: usize, panel: usize) -> usize {
    len.next_multiple_of(panel) * (head_dim + head_dim.next_multiple_of(panel)) * kv_heads
}

/// Floats of scratch that a tile needs for texts of up to `len` tokens.
pub fn scratch_len(len: usize, _head_dim: usize, panel: usize) -> usize {
    TILE * (len.next_multiple_of(panel) + 1)
}

/// Where a head's packed keys (panels of keys, feature major) and values (panels of features, key major) are.
struct Place {
    keys: *mut f32,
    values: *mut f32,
    padded: usize,
}

fn place(args: &Attention<'_>, span: Span, kv_head: usize, panel: usize) -> Place {
    let padded = span.len.next_multiple_of(panel);
    let keys = padded * args.head_dim;
    let both = keys + padded * args.head_dim.next_multiple_of(panel);
    // SAFETY: `packed` was sized with `packed_len` for every text, and heads follow each other inside that.
    unsafe {
        let start = args.packed.data.add(span.packed + kv_head * both);
        Place {
            keys: start,
            values: start.add(keys),
            padded,
        }
    }
}

/// Packs the keys and values of one text and head; places past the end are zero.
///
/// # Safety
/// See [`super::Kernels`].
#[inline(always)]
pub unsafe fn pack<V: Simd>(args: &Attention<'_>, span: Span, kv_head: usize) {
    let panel = VECTORS * V::LANES;
    let place = place(args, span, kv_head, panel);
    let d = args.head_dim;
    // SAFETY: the caller vouches for the text's rows; `place` has room for `padded` keys and values.
    unsafe {
        for key in 0..place.padded {
            let column = place.keys.add(key / panel * panel * d + key % panel);
            let row = args.k.row(span.start + key.min(span.len - 1)).add(kv_head * d);
            for i in 0..d {
                *column.add(i * panel) = if key < span.len { *row.add(i) } else { 0.0 };
            }
        }
        for first in (0..d).step_by(panel) {
            let features = panel.min(d - first);
            let chunk = place.values.add(first * place.padded);
            for key in 0..place.padded {
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

/// Attends for one tile of queries and one query head. `scratch` is at least [`scratch_len`] floats.
///
/// # Safety
/// See [`super::Kernels`]; the text must have been packed.
#[inline(always)]
pub unsafe fn tile<V: Simd>(args: &Attention<'_>, tile: Tile, head: usize, scratch: &mut [f32]) {
    let panel = VECTORS * V::LANES;
    let kv_head = head / (args.heads / args.kv_heads);
    let span = tile.span;
    let place = place(args, span, kv_head, panel);
    let d = args.head_dim;
    let queries = tile.first..(tile.first + TILE).min(span.len);
    let keys = seen(args, span.len, &queries, panel);
    let stride = keys.len();
    let (scores, factors) = scratch.split_at_mut(TILE * stride);
    let (scores, factors) = (scores.as_mut_ptr(), factors[..TILE].as_mut_ptr());

    // SAFETY: the caller vouches for the text's rows; scores holds `TILE` rows of `stride`, and keys and values are
    // packed up to `padded`, which is at least the end of `keys`.
    unsafe {
        for key in keys.clone().step_by(panel) {
            for query in queries.clone().step_by(V::TILE) {
                let product = tile::Tile {
                    k: d,
                    x: args.q.row(span.start + query).add(head * d),
                    x_stride: args.q.stride,
                    b: place.keys.add(key * d),
                    prefetch: place.keys.wrapping_add((key + panel) * d),
                    out: scores.add((query - queries.start) * stride + key - keys.start),
                    out_stride: stride,
                    columns: panel,
                };
                multiply_plain::<V>(V::TILE.min(queries.end - query), &product, None);
            }
        }
        for (number, query) in queries.clone().enumerate() {
            let row = std::slice::from_raw_parts_mut(scores.add(number * stride), stride);
            let (sum, _) = weigh::<V>(args, head, span, query, &keys, row);
            *factors.add(number) = 1.0 / sum;
        }
        for first in (0..d).step_by(panel) {
            let features = panel.min(d - first);
            for query in queries.clone().step_by(V::TILE) {
                let product = tile::Tile {
                    k: stride,
                    x: scores.add((query - queries.start) * stride),
                    x_stride: stride,
                    b: place.values.add(first * place.padded + keys.start * panel),
                    prefetch: place
                        .values
                        .wrapping_add((first + panel) * place.padded + keys.start * panel),
                    out: args.out.row(span.start + query).add(head * d + first),
                    out_stride: args.out.stride,
                    columns: features,
                };
                let factors = factors.add(query - queries.start);
                multiply_plain::<V>(V::TILE.min(queries.end - query), &product, Some(factors));
            }
        }
    }
}

/// The keys that some of the queries see, in whole panels.
pub(super) fn seen(args: &Attention<'_>, len: usize, queries: &Range<usize>, panel: usize) -> Range<usize> {
    let first = visible(args, len, queries.start).start;
    let last = visible(args, len, queries.end - 1).end;
    first / panel * panel..last.next_multiple_of(panel)
}

/// A query's scores to the weights of a softmax before they are divided by their sum, the largest of them 1; there are as
/// many as `keys`. Returns their sum and the sum of their squares.
#[inline(always)]
pub(super) fn weigh<V: Simd>(
    args: &Attention<'_>,
    head: usize,
    span: Span,
    query: usize,
    keys: &Range<usize>,
    scores: &mut [f32],
) -> (f32, f32) {
    let visible = visible(args, span.len, query);
    let places = visible.start - keys.start..visible.end - keys.start;
    if let Some(bias) = args.bias {
        add_bias(args, bias, head, query, visible, &mut scores[places.clone()]);
    }
    let scale = if args.bias.is_some() { 1.0 } else { args.scale };
    exponentials::<V>(scores, places, scale * LOG2_E)
}

/// The keys that a query sees.
fn visible(args: &Attention<'_>, len: usize, query: usize) -> Range<usize> {
    let radius = args.radius.unwrap_or(len);
    let end = if args.causal {
        query + 1
    } else {
        query.saturating_add(radius).saturating_add(1).min(len)
    };
    query.saturating_sub(radius)..end
}

/// scores · scale + bias, where there is one.
fn add_bias(args: &Attention<'_>, bias: Bias<'_>, head: usize, query: usize, keys: Range<usize>, scores: &mut [f32]) {
    let of_head = &bias.values[head * (2 * bias.span - 1)..];
    for (key, score) in keys.zip(scores) {
        *score = *score * args.scale + of_head[key + bias.span - 1 - query];
    }
}

/// 2 to the power of `scale` times how far each score in `seen` lies below their largest; the others become 0. Returns
/// their sum and the sum of their squares.
#[inline(always)]
fn exponentials<V: Simd>(row: &mut [f32], seen: Range<usize>, scale: f32) -> (f32, f32) {
    row[..seen.start].fill(0.0);
    row[seen.end..].fill(0.0);
    let n = seen.len();
    let p = row[seen].as_mut_ptr();
    // SAFETY: p points to the n scores of `seen`.
    unsafe {
        let mut largest = V::splat(f32::NEG_INFINITY);
        let mut tail = f32::NEG_INFINITY;
        each!(V, n, |i, lanes| {
            if lanes == V::LANES {
                largest = largest.max(V::load(p.add(i)));
            } else {
                tail = (0..lanes).map(|j| *p.add(i + j)).fold(tail, f32::max);
            }
        });
        let shift = V::splat(-largest.largest().max(tail) * scale);
        let scale = V::splat(scale);
        let (mut sums, mut squares) = ([V::splat(0.0); ABREAST], [V::splat(0.0); ABREAST]);
        let mut at = 0;
        while at + ABREAST * V::LANES <= n {
            let mut x = sums;
            for (v, x) in x.iter_mut().enumerate() {
                *x = V::load(p.add(at + v * V::LANES)).fma(scale, shift);
            }
            for (v, e) in exp2_negative(x).into_iter().enumerate() {
                e.store(p.add(at + v * V::LANES));
                sums[v] = sums[v].add(e);
                squares[v] = e.fma(e, squares[v]);
            }
            at += ABREAST * V::LANES;
        }
        each!(V, n - at, |i, lanes| {
            let [e] = exp2_negative([V::load_first(p.add(at + i), lanes).fma(scale, shift)]);
            e.store_first(p.add(at + i), lanes);
            let e = V::load_first(p.add(at + i), lanes); // zeros behind the last
            sums[0] = sums[0].add(e);
            squares[0] = e.fma(e, squares[0]);
        });
        let all = |of: [V; ABREAST]| of[0].add(of[1]).add(of[2].add(of[3])).sum();
        (all(sums), all(squares))
    }
}

/// Spreads a table of relative position buckets (buckets, heads) over the distances of texts of up to `span` tokens.
///
/// The buckets are T5's, in both directions: half of them for keys behind the query; near distances exact, far ones
/// logarithmic up to 128. Source: Raffel et al. 2020, section 2.1, as MPNet uses it.
pub fn spread_bias(buckets: &[f32], heads: usize, span: usize) -> Vec<f32> {
    let side = buckets.len() / heads / 2;
    let exact = side / 2;
    let bucket = |distance: isize| {
        let near = distance.unsigned_abs();
        let place = if near < exact {
            near
        } else {
            let growth = (near as f32 / exact as f32).ln() / (128.0 / exact as f32).ln() * (side - exact) as f32;
            (exact + growth as usize).min(side - 1)
        };
        place + if distance > 0 { side } else { 0 }
    };
    let last = span as isize - 1;
    let of_distance: Vec<usize> = (-last..=last).map(bucket).collect();
    (0..heads)
        .flat_map(|head| of_distance.iter().map(move |bucket| buckets[bucket * heads + head]))
        .collect()
}
