//! Rotary position embedding: the halves of a head are pairs, turned by place times frequency.

use super::Matrix;
use super::loops::each;
use crate::simd::Simd;
use std::ops::Range;

/// Cosines and sines of places 0.. for one base and size.
#[derive(Debug)]
pub struct Angles {
    /// Pairs of a head that turn.
    pub half: usize,
    /// Places covered.
    pub places: usize,
    /// For each place `half` cosines, then `half` sines.
    values: Vec<f32>,
}

impl Angles {
    /// Computes the table. Frequencies and angles are rounded to f32 as in the published implementations, since at far
    /// places the rounding of the angle is seen in the result.
    pub fn new(theta: f64, dim: usize, places: usize) -> Self {
        let half = dim / 2;
        let frequencies: Vec<f32> = (0..half)
            .map(|i| (1.0 / theta.powf((2 * i) as f64 / dim as f64)) as f32)
            .collect();
        let mut values = Vec::with_capacity(places * dim);
        for place in 0..places {
            let angle = |i: usize| f64::from(place as f32 * frequencies[i]);
            values.extend((0..half).map(|i| angle(i).cos() as f32));
            values.extend((0..half).map(|i| angle(i).sin() as f32));
        }
        Self { half, places, values }
    }
}

/// One rotation, in place.
pub struct Rope<'a> {
    /// Rows of `heads` times `head_dim` floats.
    pub x: Matrix,
    /// Heads of a row.
    pub heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Each token's place in its text.
    pub places: &'a [u32],
    /// Covers every place.
    pub angles: &'a Angles,
}

/// Rotates the given rows.
///
/// # Safety
/// See [`super::Kernels`]; every place must be covered by the table.
#[inline(always)]
pub unsafe fn rope<V: Simd>(args: &Rope<'_>, rows: Range<usize>) {
    let half = args.angles.half;
    for row in rows {
        let at = args.places[row] as usize * 2 * half;
        let (cos, sin) = args.angles.values[at..at + 2 * half].split_at(half);
        for head in 0..args.heads {
            // SAFETY: the caller vouches for the row; a head holds at least two halves.
            unsafe {
                let a = args.x.row(row).add(head * args.head_dim);
                let b = a.add(half);
                each!(V, half, |i, n| {
                    let (cos, sin) = (
                        V::load_first(cos.as_ptr().add(i), n),
                        V::load_first(sin.as_ptr().add(i), n),
                    );
                    let (x, y) = (V::load_first(a.add(i), n), V::load_first(b.add(i), n));
                    x.mul(cos).sub(y.mul(sin)).store_first(a.add(i), n);
                    y.mul(cos).add(x.mul(sin)).store_first(b.add(i), n);
                });
            }
        }
    }
}
