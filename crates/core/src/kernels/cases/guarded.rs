//! Operands in the midst of NaN, the numbers in them, and what came out.

use crate::kernels::Matrix;
use std::ops::Range;

/// What came out.
#[derive(Debug)]
pub struct Outcome {
    /// The result, row by row.
    pub values: Vec<f32>,
    /// Something was written beside it.
    pub stray: bool,
}

/// Numbers without a pattern, the same for the same seed.
pub struct Numbers(pub u64);

impl Numbers {
    /// Any 32 bits.
    pub fn bits(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// Below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.bits() as usize % end
    }

    /// Between -1 and 1.
    pub fn float(&mut self) -> f32 {
        (self.bits() >> 7) as f32 / (1 << 23) as f32 - 1.0
    }

    /// A multiple of 1/16 between -4 and 4: sums of 4,096 of their squares are exact in a float, in any order.
    pub fn coarse(&mut self) -> f32 {
        (self.below(129) as f32 - 64.0) / 16.0
    }

    /// So many of [`Numbers::float`].
    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

/// Floats before, after and between the rows: more than any vector has.
const MARGIN: usize = 19;

/// Rows in the midst of NaN.
pub struct Field {
    values: Vec<f32>,
    rows: usize,
    width: usize,
}

impl Field {
    /// Rows of `width` values, filled one after the other.
    pub fn new(rows: usize, width: usize, mut value: impl FnMut() -> f32) -> Self {
        let mut field = Self {
            values: vec![f32::NAN; MARGIN + rows * (width + MARGIN)],
            rows,
            width,
        };
        for row in 0..rows {
            let place = field.row(row);
            field.values[place].fill_with(&mut value);
        }
        field
    }

    /// Rows yet to be written.
    pub fn empty(rows: usize, width: usize) -> Self {
        Self::new(rows, width, || f32::NAN)
    }

    /// A field of [`Numbers::coarse`], each row with its largest value, 4, in front: a row's scale is then exact.
    pub fn coarse(rows: usize, width: usize, numbers: &mut Numbers) -> Self {
        let mut field = Self::new(rows, width, || numbers.coarse());
        for row in 0..rows {
            let first = field.row(row).start;
            field.values[first] = 4.0;
        }
        field
    }

    fn row(&self, row: usize) -> Range<usize> {
        let first = MARGIN + row * (self.width + MARGIN);
        first..first + self.width
    }

    /// The rows, as kernels take them.
    pub fn matrix(&mut self) -> Matrix {
        Matrix {
            data: self.values.as_mut_ptr().wrapping_add(MARGIN),
            stride: self.width + MARGIN,
        }
    }

    /// The rows, and whether the places around them were left alone.
    pub fn outcome(&self) -> Outcome {
        let values = (0..self.rows)
            .flat_map(|row| &self.values[self.row(row)])
            .copied()
            .collect();
        let stride = self.width + MARGIN;
        let between = |place: usize| place < MARGIN || (place - MARGIN) % stride >= self.width;
        let stray = (0..self.values.len()).any(|place| between(place) && !self.values[place].is_nan());
        Outcome { values, stray }
    }
}

/// Largest difference that is taken for rounding, as a share of the largest value, or of what a sum of numbers below 1
/// can be in the midst of its way.
pub const ROUNDING: f32 = 1e-5;

/// Whether `found` is what `expected` says, within `tolerance`; 0 is to the bit.
pub fn same(expected: &Outcome, found: &Outcome, tolerance: f32) -> bool {
    let (a, b) = (&expected.values, &found.values);
    let largest = a.iter().fold(0.25f32, |largest, value| largest.max(value.abs()));
    let close =
        |a: f32, b: f32| a.to_bits() == b.to_bits() || (tolerance > 0.0 && (a - b).abs() <= tolerance * largest);
    a.len() == b.len() && !expected.stray && !found.stray && a.iter().zip(b).all(|(a, b)| close(*a, *b))
}
