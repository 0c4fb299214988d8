//! Rotary position embedding: element i of a head's first half and element i of its second half form a pair, which is
//! rotated by position times frequency.

use super::Matrix;
use super::loops::for_each_vector;
use crate::simd::Simd;
use serde::Deserialize;
use std::ops::Range;

/// The scaling of rotary frequencies that Llama 3.1 introduced (`rope_type` "llama3"); the fields are those of
/// config.json.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Llama3 {
    /// Low frequencies are divided by it.
    pub factor: f64,
    /// Fewer turns than this within the original length: a low frequency.
    pub low_freq_factor: f64,
    /// More turns than this within the original length: a frequency that stays.
    pub high_freq_factor: f64,
    /// Tokens of the original length.
    pub original_max_position_embeddings: f64,
}

impl Llama3 {
    /// Returns the scaled frequency. Between the two kinds it is interpolated.
    #[must_use]
    pub fn scaled(&self, frequency: f64) -> f64 {
        let turns = self.original_max_position_embeddings * frequency / std::f64::consts::TAU;
        let share = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor);
        let share = share.clamp(0.0, 1.0);
        share * frequency + (1.0 - share) * frequency / self.factor
    }
}

/// How rotary frequencies are scaled.
#[derive(Debug, Clone, Copy)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All are divided by this number (`rope_type` "linear").
    Linear(f64),
    /// Low ones are divided.
    Llama3(Llama3),
}

impl Scaling {
    /// Returns the scaled frequency.
    #[must_use]
    pub fn scaled(&self, frequency: f64) -> f64 {
        match self {
            Self::None => frequency,
            Self::Linear(factor) => frequency / factor,
            Self::Llama3(scaling) => scaling.scaled(frequency),
        }
    }

    /// Returns whether every number can scale a frequency.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        match self {
            Self::None => true,
            Self::Linear(factor) => factor.is_finite() && *factor > 0.0,
            Self::Llama3(scaling) => {
                scaling.factor > 0.0
                    && scaling.original_max_position_embeddings > 0.0
                    && scaling.high_freq_factor > scaling.low_freq_factor
            }
        }
    }

    /// Returns the bits of the numbers, as a key of tables. No two ways have equal ones.
    pub(crate) fn bits(&self) -> [u64; 4] {
        match self {
            Self::None => [0; 4],
            Self::Linear(factor) => [factor.to_bits(), 0, 0, 0],
            Self::Llama3(scaling) => [
                scaling.factor,
                scaling.low_freq_factor,
                scaling.high_freq_factor,
                scaling.original_max_position_embeddings,
            ]
            .map(f64::to_bits),
        }
    }
}

/// Cosines and sines of positions from 0 on, for one base and head size.
#[derive(Debug)]
pub struct Angles {
    /// Pairs of a head: half of its features.
    pub half: usize,
    /// Number of positions.
    pub positions: usize,
    /// For each position `half` cosines, then `half` sines.
    values: Vec<f32>,
}

impl Angles {
    /// Computes the table for heads of `head_dim` features.
    ///
    /// Frequencies and angles are rounded to f32 like in the published implementations, because at large positions the
    /// rounding of the angle is visible in the result.
    pub fn new(theta: f64, scaling: Scaling, head_dim: usize, positions: usize) -> Self {
        let half = head_dim / 2;
        let frequencies: Vec<f32> = (0..half)
            .map(|i| 1.0 / theta.powf((2 * i) as f64 / head_dim as f64))
            .map(|frequency| scaling.scaled(frequency) as f32)
            .collect();
        let mut values = Vec::with_capacity(positions * head_dim);
        for position in 0..positions {
            let angle = |i: usize| f64::from(position as f32 * frequencies[i]);
            values.extend((0..half).map(|i| angle(i).cos() as f32));
            values.extend((0..half).map(|i| angle(i).sin() as f32));
        }
        Self {
            half,
            positions,
            values,
        }
    }
}

/// Arguments of a rotation in place.
pub struct Rope<'a> {
    /// Rows of `heads` · `head_dim` values, which are rotated in place.
    pub x: Matrix,
    /// Heads of a row.
    pub heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Position of each token in its text.
    pub positions: &'a [u32],
    /// Table for this head size that covers every position.
    pub angles: &'a Angles,
}

/// Rotates the given rows.
///
/// # Safety
/// `x` must cover the rows with all heads, whose size must be that of the table. No other thread may access these rows,
/// and the processor must have the instruction set of `V`.
#[inline(always)]
pub unsafe fn rope<V: Simd>(args: &Rope<'_>, rows: Range<usize>) {
    let half = args.angles.half;
    for row in rows {
        let start = args.positions[row] as usize * 2 * half;
        let (cos, sin) = args.angles.values[start..start + 2 * half].split_at(half);
        for head in 0..args.heads {
            // SAFETY: x covers the row with all heads by this function's contract, and a head is two halves; cos and
            // sin have `half` values each.
            unsafe {
                let a = args.x.row(row).add(head * args.head_dim);
                let b = a.add(half);
                for_each_vector!(V, half, |i, n| {
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
