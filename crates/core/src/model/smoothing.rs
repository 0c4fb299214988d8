//! Smoothing of int8 products: a power of 2^¼ for each input channel, by which rows are divided and weights multiplied.
//!
//! A channel with large activations and small weights wastes the bits of both. Channel k gets the power of 2^¼
//! that is nearest to √(rms of its activations / norm of its weights), so both share the difference (SmoothQuant, Xiao et
//! al. 2023, with migration strength ½). Powers of two would be off by up to √2, which costs accuracy.
//!
//! The activations are those of fixed random ids. On x86-64 one instruction set computes them on every machine, so that
//! machines with different ones get the same exponents.

use super::{Model, Options, Streamed};
use crate::error::{Error, Result};
use crate::kernels::Kernels;
use crate::kernels::panels::{Shape, VALUES_PER_TURN};
use crate::lower::{Lowered, Op};
use crate::packed::weight::PackedWeight;
use crate::pool::Pool;
use crate::precision::Precision;
use crate::smoothing_factors::{MAX_EXPONENT, exponent_of};
use crate::weights::Rows;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::f64::consts::SQRT_2;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Texts of random ids, and most ids of each.
const TEXTS: usize = 8;
const IDS: usize = 48;
/// Rows of a weight whose squares a task sums.
const ROWS_PER_TASK: usize = 64;
/// Instruction sets that compute the activations, the first that the machine has.
const INSTRUCTION_SETS: [&str; 2] = ["avx2", "neon"];

/// The smoothing of one load. The activations are measured when the first weight is packed: a load that reads all packed
/// weights from a file needs none.
pub struct Smoothing<'a> {
    program: &'a str,
    files: &'a [(&'a str, &'a Path)],
    options: Options<'a>,
    /// Mean square of each input channel, for each step of the program; empty for steps that are no products of tokens.
    activations: OnceCell<Vec<Vec<f64>>>,
}

impl<'a> Smoothing<'a> {
    /// `options` are those of the load that packs the weights.
    pub fn new(program: &'a str, files: &'a [(&'a str, &'a Path)], options: Options<'a>) -> Self {
        Self {
            program,
            files,
            options,
            activations: OnceCell::new(),
        }
    }

    /// Returns the exponents for the weight of a step, of this shape, whose rows `rows` reads: those that the file has for
    /// all its rows, or new ones.
    ///
    /// # Errors
    /// Those of [`Streamed::open`], [`Streamed::run`] and [`Rows::read`].
    pub fn exponents(&self, step: usize, rows: &Rows<'_>, shape: Shape) -> Result<Vec<i8>> {
        if let Some(stored) = rows.exponents() {
            return Ok(stored);
        }
        let activations = match self.activations.get() {
            Some(activations) => activations,
            None => {
                let measured = self.measure()?;
                self.activations.get_or_init(|| measured)
            }
        };
        let weights = squares_of_channels(rows, shape.rows().unwrap_or_default(), shape.k)?;
        Ok(exponents(&activations[step], &weights))
    }

    /// Runs the model on random ids, with float32 products of weights in bfloat16.
    fn measure(&self) -> Result<Vec<Vec<f64>>> {
        let kernels = INSTRUCTION_SETS.into_iter().find(|name| Kernels::named(name).is_some());
        let options = Options {
            precision: Precision::Bfloat16,
            kernels: kernels.or(self.options.kernels),
            ..self.options
        };
        let streamed = Streamed::open(self.program, self.files, options)?;
        let model = streamed.model();
        let length = model.max_tokens.unwrap_or(IDS).clamp(1, IDS);
        let mut state = 1u64;
        let ids: Vec<u32> = std::iter::repeat_with(|| {
            // A linear congruential generator, with the constants of Knuth's MMIX.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((u128::from(state) * model.vocabulary as u128) >> 64) as u32
        })
        .take(TEXTS * length)
        .collect();
        let offsets: Vec<u32> = (0..=TEXTS).map(|text| (text * length) as u32).collect();
        let mut squares = vec![Vec::new(); model.steps.len()];
        let found = streamed.run(&ids, &offsets, |step, rows| {
            let mut sums = vec![0.0; rows.first().map_or(0, |row| row.len())];
            rows.iter().for_each(|row| add_squares(&mut sums, row));
            sums.iter_mut().for_each(|sum| *sum /= rows.len() as f64);
            squares[step] = sums;
        });
        match found {
            Ok(_) | Err(Error::NonFinite { .. }) => {} // only the activations count
            Err(error) => return Err(error),
        }
        Ok(squares)
    }
}

impl Model {
    /// Returns the exponents of smoothing of each int8 product, one for each input channel, by the number of its step.
    pub fn smoothing_exponents(&self) -> BTreeMap<usize, Vec<i8>> {
        let of_step = |(number, step): (usize, &Lowered)| match &step.op {
            Op::Linear {
                weight: PackedWeight::Int8(packed),
                ..
            } => {
                let factors = packed.factors()[..packed.shape.k].iter();
                Some((number, factors.map(|factor| exponent_of(*factor)).collect()))
            }
            _ => None,
        };
        self.steps.iter().enumerate().filter_map(of_step).collect()
    }
}

/// Returns the sum of the squares of each column of a weight. The order of the additions does not depend on threads.
fn squares_of_channels(rows: &Rows<'_>, height: usize, k: usize) -> Result<Vec<f64>> {
    let sum = |first: usize| {
        let (mut sums, mut values) = (vec![0.0; k], vec![0.0; k]);
        for row in first..(first + ROWS_PER_TASK).min(height) {
            rows.read(row, &mut values)?;
            add_squares(&mut sums, &values);
        }
        Ok(sums)
    };
    let mut results = Vec::new();
    results.resize_with(height.div_ceil(ROWS_PER_TASK), || Mutex::new(Ok(Vec::new())));
    let tasks_per_turn = VALUES_PER_TURN / (ROWS_PER_TASK * k.max(1));
    Pool::global().run_in_turns(results.len(), tasks_per_turn, &|task, _| {
        let found = sum(task * ROWS_PER_TASK);
        *results[task].lock().unwrap_or_else(PoisonError::into_inner) = found;
    });
    let mut total = vec![0.0; k];
    for result in results {
        let sums = result.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        for (total, sum) in total.iter_mut().zip(sums) {
            *total += sum;
        }
    }
    Ok(total)
}

/// Adds the square of each value to its sum.
fn add_squares(sums: &mut [f64], values: &[f32]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += f64::from(*value) * f64::from(*value);
    }
}

/// Returns the exponent of each channel from the mean square of its activations and the square of its weights' norm,
/// relative to their median.
fn exponents(activations: &[f64], weights: &[f64]) -> Vec<i8> {
    // The ratio is the fourth power of the factor, so the factor is nearest to 2^(e/4) if 2^(e - ½) <= ratio < 2^(e + ½).
    // The exponent of ratio · √2 is this e. It needs no logarithm, which could differ between machines.
    let nearest = activations.iter().zip(weights).map(|(activation, weight)| {
        let ratio = activation / weight;
        ratio
            .is_normal()
            .then(|| ((ratio * SQRT_2).to_bits() >> 52) as i32 - 1023)
    });
    let nearest: Vec<Option<i32>> = nearest.collect();
    let mut known: Vec<i32> = nearest.iter().flatten().copied().collect();
    known.sort_unstable();
    let Some(median) = known.get(known.len() / 2) else {
        return vec![0; activations.len()];
    };
    let relative = |exponent: &Option<i32>| {
        exponent.map_or(0, |e| {
            (e - median).clamp(-i32::from(MAX_EXPONENT), i32::from(MAX_EXPONENT)) as i8
        })
    };
    nearest.iter().map(relative).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_the_nearest_powers_of_the_fourth_root_of_two() {
        for (ratio, exponent) in [
            (1.0, 0),
            (1.41, 0),
            (1.42, 1),
            (2.82, 1),
            (2.83, 2),
            (16.0, 4),
            (0.71, 0),
            (0.70, -1),
        ] {
            // Three channels with the ratio 1 make 0 the median.
            assert_eq!(exponents(&[1.0, 1.0, 1.0, ratio], &[1.0; 4])[3], exponent, "{ratio}");
            let root = 4.0 * f64::powf(ratio, 0.25).log2();
            assert!((root - f64::from(exponent)).abs() <= 0.52);
        }
    }

    #[test]
    fn channels_without_values_and_extremes_stay_in_range() {
        let found = exponents(&[1.0, 1.0, 1.0, 0.0, f64::NAN, f64::INFINITY, 1e30, 1e-30], &[1.0; 8]);
        assert_eq!(found, [0, 0, 0, 0, 0, 0, MAX_EXPONENT, -MAX_EXPONENT]);
        assert_eq!(exponents(&[0.0; 3], &[0.0; 3]), [0; 3]);
        assert_eq!(exponents(&[1.0; 3], &[0.0; 3]), [0; 3]);
    }
}
