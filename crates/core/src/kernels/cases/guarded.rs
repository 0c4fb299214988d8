//! Operands surrounded by guard values, random numbers, and the comparison of results.

use crate::kernels::Matrix;
use std::ops::Range;

/// The result of a case.
#[derive(Debug)]
pub struct Output {
    /// The result, row by row.
    pub values: Vec<f32>,
    /// Whether the kernel wrote outside its output.
    pub out_of_bounds: bool,
}

/// A pseudo-random number generator (a linear congruential generator), seeded by its value.
pub struct Random(pub u64);

impl Random {
    /// Returns 31 random bits.
    pub fn bits(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// Returns a number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.bits() as usize % end
    }

    /// Returns a number from -1 to 1.
    pub fn float(&mut self) -> f32 {
        (self.bits() >> 7) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Returns a multiple of 1/16 from -4 to 4. Sums of 4,096 of their squares are exact in f32, in any order.
    pub fn coarse(&mut self) -> f32 {
        (self.below(129) as f32 - 64.0) / 16.0
    }

    /// Returns `count` numbers from -1 to 1.
    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

/// Guard values before, between and after the rows: more than a vector of any instruction set has.
const GUARD: usize = 19;

/// Rows surrounded by NaN. A kernel that reads outside its operand gets NaN into its result.
pub struct GuardedRows {
    values: Vec<f32>,
    rows: usize,
    width: usize,
}

impl GuardedRows {
    /// Creates rows of `width` values, which `value` returns one after the other.
    pub fn new(rows: usize, width: usize, mut value: impl FnMut() -> f32) -> Self {
        let mut guarded = Self {
            values: vec![f32::NAN; GUARD + rows * (width + GUARD)],
            rows,
            width,
        };
        for row in 0..rows {
            let range = guarded.row(row);
            guarded.values[range].fill_with(&mut value);
        }
        guarded
    }

    /// Creates rows of NaN for an output.
    pub fn empty(rows: usize, width: usize) -> Self {
        Self::new(rows, width, || f32::NAN)
    }

    /// Creates rows of [`Random::coarse`] numbers that begin with the largest one, 4, so that the scale of a row is
    /// exact.
    pub fn coarse(rows: usize, width: usize, random: &mut Random) -> Self {
        let mut guarded = Self::new(rows, width, || random.coarse());
        for row in 0..rows {
            let first = guarded.row(row).start;
            guarded.values[first] = 4.0;
        }
        guarded
    }

    fn row(&self, row: usize) -> Range<usize> {
        let first = GUARD + row * (self.width + GUARD);
        first..first + self.width
    }

    /// Returns the rows as an operand of a kernel.
    pub fn matrix(&mut self) -> Matrix {
        Matrix {
            data: self.values.as_mut_ptr().wrapping_add(GUARD),
            stride: self.width + GUARD,
        }
    }

    /// Returns the rows, and whether a guard value was overwritten.
    pub fn output(&self) -> Output {
        let values = (0..self.rows)
            .flat_map(|row| &self.values[self.row(row)])
            .copied()
            .collect();
        let stride = self.width + GUARD;
        let is_guard = |index: usize| index < GUARD || (index - GUARD) % stride >= self.width;
        let out_of_bounds = (0..self.values.len()).any(|index| is_guard(index) && !self.values[index].is_nan());
        Output { values, out_of_bounds }
    }
}

/// Largest difference that counts as rounding, relative to the largest value, or to 0.25 if all values are smaller: a
/// sum of numbers below 1 may have larger partial sums than its result.
pub const ROUNDING: f32 = 1e-5;

/// Returns whether two results agree within `tolerance` and neither kernel wrote out of bounds. A tolerance of 0
/// compares bits.
pub fn agree(expected: &Output, found: &Output, tolerance: f32) -> bool {
    let (a, b) = (&expected.values, &found.values);
    let largest = a.iter().fold(0.25f32, |largest, value| largest.max(value.abs()));
    let close =
        |a: f32, b: f32| a.to_bits() == b.to_bits() || (tolerance > 0.0 && (a - b).abs() <= tolerance * largest);
    let in_bounds = !expected.out_of_bounds && !found.out_of_bounds;
    a.len() == b.len() && in_bounds && a.iter().zip(b).all(|(a, b)| close(*a, *b))
}
