//! Cases of matrix products in f32 and in integers.

use super::guarded::{GuardedRows, Output, Random};
use crate::error::Result;
use crate::kernels::bfloat16::{self, Round, to_bfloat16};
use crate::kernels::gemm::{self, Finish};
use crate::kernels::int8::quantise::{QuantiseInt8, groups, row_len};
use crate::kernels::panels::{Shape, in_panel_order};
use crate::kernels::{Kernels, Matrix, int8, int16};
use crate::simd::tile::{BFLOAT16_UNIT, Bfloat16Rows, INT8_GROUP, Int8Rows, Int16Rows};
use crate::smoothing_factors::{MAX_EXPONENT, row_factor};
use std::ops::Range;

/// The range of rows of each call.
type Chunks<'a> = &'a mut dyn Iterator<Item = Range<usize>>;

/// A case of a matrix product.
#[derive(Clone, Copy, Debug)]
pub struct GemmCase {
    /// Inputs and outputs.
    pub shape: Shape,
    /// Whether there is a bias.
    pub bias: bool,
    /// What happens to the sums.
    pub finish: Finish,
}

impl GemmCase {
    /// Returns random weights, and a random bias in the order of the panels' columns if the case has one.
    fn weight(&self, kernels: &Kernels, random: &mut Random) -> (Vec<f32>, Option<Vec<f32>>) {
        let rows = self.shape.out * if self.shape.gated { 2 } else { 1 };
        let weight = random.floats(rows * self.shape.k);
        let bias = in_panel_order(&random.floats(rows), self.shape, kernels.lanes);
        (weight, self.bias.then_some(bias))
    }

    /// Runs the f32 kernel on `rows` rows of random numbers.
    pub fn float32(&self, kernels: &Kernels, random: &mut Random, rows: usize, chunks: Chunks<'_>) -> Output {
        let (values, bias) = self.weight(kernels, random);
        let weight = gemm::Packed::new(self.shape, kernels.lanes, reader(&values)).unwrap();
        let panels = 0..weight.panels();
        let mut x = GuardedRows::new(rows, self.shape.k, || random.float());
        let mut out = GuardedRows::empty(rows, self.shape.out);
        let args = self.floats(x.matrix(), &mut out, &weight, bias.as_deref());
        // SAFETY: the operands have the sizes of the shape, and the caller of `Case::run` chose kernels that this
        // machine has.
        chunks.for_each(|chunk| unsafe { (kernels.gemm)(&args, chunk, panels.clone()) });
        out.output()
    }

    /// Runs the kernel with bfloat16 weights on rows of bfloat16 numbers, so that rounding the rows changes nothing.
    pub fn bfloat16(&self, kernels: &Kernels, random: &mut Random, rows: usize, chunks: Chunks<'_>) -> Output {
        let (values, bias) = self.weight(kernels, random);
        let (k, layout) = (self.shape.k, (kernels.lanes, kernels.bfloat16_rows));
        let weight = bfloat16::Packed::rounded(self.shape, layout, reader(&values)).unwrap();
        let mut x = GuardedRows::coarse(rows, k, random);
        let len = bfloat16::row_len(k, kernels.bfloat16_rows);
        let mut rounded = vec![f32::NAN; rows * len];
        let round = Round {
            x: x.matrix(),
            k,
            out: matrix(&mut rounded, len),
        };
        let mut out = GuardedRows::empty(rows, self.shape.out);
        let rows_of_product = match kernels.bfloat16_rows {
            Bfloat16Rows::Floats => round.x,
            Bfloat16Rows::Pairs => round.out,
        };
        let args = self.floats(rows_of_product, &mut out, &weight, bias.as_deref());
        for chunk in chunks {
            // SAFETY: the operands have the sizes of the shape, and the caller of `Case::run` chose kernels that this
            // machine has.
            unsafe {
                if let Bfloat16Rows::Pairs = kernels.bfloat16_rows {
                    (kernels.round_bfloat16)(&round, chunk.clone());
                }
                (kernels.gemm_bfloat16)(&args, chunk, 0..weight.panels());
            }
        }
        out.output()
    }

    /// Runs the kernel of 16-bit integers on rows whose scales are exact.
    pub fn int16(&self, kernels: &Kernels, random: &mut Random, rows: usize, chunks: Chunks<'_>) -> Output {
        let (values, bias) = self.weight(kernels, random);
        let layout = (kernels.lanes, kernels.int16_rows);
        let weight = int16::Packed::scaled(self.shape, layout, reader(&values)).unwrap();
        let (k, len) = (self.shape.k, int16::row_len(self.shape.k, kernels.int16_rows));
        let mut x = GuardedRows::coarse(rows, k, random);
        let (mut ints, mut scales) = (vec![f32::NAN; rows * len], vec![f32::NAN; rows]);
        let quantise = int16::Quantise {
            x: x.matrix(),
            k,
            out: matrix(&mut ints, len),
            rows: kernels.int16_rows,
            scales: matrix(&mut scales, 1),
            max_norm: int16::max_row_norm(k),
        };
        let mut out = GuardedRows::empty(rows, self.shape.out);
        let args = self.integers(&quantise.out, &quantise.scales, &mut out, &weight, bias.as_deref());
        for chunk in chunks {
            // SAFETY: the operands have the sizes of the shape, and the caller of `Case::run` chose kernels that this
            // machine has.
            unsafe {
                (kernels.quantise)(&quantise, chunk.clone());
                (kernels.gemm_int16)(&args, chunk, 0..weight.panels());
            }
        }
        out.output()
    }

    /// Runs the kernel of 8-bit integers, with random exponents.
    pub fn int8(&self, kernels: &Kernels, random: &mut Random, rows: usize, chunks: Chunks<'_>) -> Output {
        let (values, bias) = self.weight(kernels, random);
        let k = self.shape.k;
        let layout = (kernels.lanes, kernels.int8_rows);
        let weight = int8::Packed::smoothed(self.shape, layout, &random_exponents(k, random), reader(&values)).unwrap();
        let (len, groups) = (row_len(k, kernels.int8_rows), groups(k));
        let mut x = GuardedRows::new(rows, k, || random.float());
        let (mut ints, mut scales) = (vec![f32::NAN; rows * len], vec![f32::NAN; rows * groups]);
        let quantise = QuantiseInt8 {
            x: x.matrix(),
            k,
            factors: weight.factors(),
            out: matrix(&mut ints, len),
            scales: matrix(&mut scales, groups),
        };
        let mut out = GuardedRows::empty(rows, self.shape.out);
        let args = self.integers(&quantise.out, &quantise.scales, &mut out, &weight, bias.as_deref());
        for chunk in chunks {
            // SAFETY: the operands have the sizes of the shape, and the caller of `Case::run` chose kernels that this
            // machine has.
            unsafe {
                (kernels.quantise_int8)(&quantise, chunk.clone());
                (kernels.gemm_int8)(&args, chunk, 0..weight.panels());
            }
        }
        out.output()
    }

    fn integers<'a, W>(
        &self,
        x: &Matrix,
        scales: &Matrix,
        out: &mut GuardedRows,
        weight: &'a W,
        bias: Option<&'a [f32]>,
    ) -> int16::Gemm<'a, W> {
        int16::Gemm {
            x: *x,
            scales: *scales,
            out: out.matrix(),
            weight,
            bias,
            finish: self.finish,
        }
    }

    fn floats<'a, W>(
        &self,
        x: Matrix,
        out: &mut GuardedRows,
        weight: &'a W,
        bias: Option<&'a [f32]>,
    ) -> gemm::Gemm<'a, W> {
        gemm::Gemm {
            x,
            out: out.matrix(),
            weight,
            bias,
            finish: self.finish,
        }
    }
}

/// Values that the rounding to bfloat16 treats in a special way: zeros and denormal numbers, ties, overflow, infinities
/// and NaN.
const SPECIAL: [f32; 16] = [
    0.0,
    -0.0,
    1e-39,
    -1e-45,
    f32::from_bits(0x007f_ffff), // the largest denormal number
    f32::MIN_POSITIVE,
    f32::from_bits(0x3f80_8000), // a tie, to even
    f32::from_bits(0x3f81_8000), // a tie, to even
    f32::from_bits(0xbf80_8001),
    f32::MAX,
    f32::MIN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    f32::from_bits(0x7f80_0001), // its upper half alone would be infinity
    f32::from_bits(0xffff_ffff),
];

/// Converts `rows` rows of `k` numbers to bfloat16, and returns the bits of each as a number.
pub fn round_bfloat16(kernels: &Kernels, random: &mut Random, (rows, k): (usize, usize), chunks: Chunks<'_>) -> Output {
    let mut x = GuardedRows::new(rows, k, || match random.below(32) {
        special @ 0..16 => SPECIAL[special],
        _ => random.float(),
    });
    // The layout is the same on instruction sets that do not use it.
    let len = bfloat16::row_len(k, Bfloat16Rows::Pairs);
    let mut out = GuardedRows::empty(rows, len);
    let args = Round {
        x: x.matrix(),
        k,
        out: out.matrix(),
    };
    // SAFETY: the operands have the rows and columns that the arguments say, and the caller of `Case::run` chose kernels
    // that this machine has.
    chunks.for_each(|chunk| unsafe { (kernels.round_bfloat16)(&args, chunk) });
    let rounded = out.output();
    let bits = rounded.values.iter().map(|value| value.to_bits());
    let numbers: Vec<u16> = bits.flat_map(|bits| [bits as u16, (bits >> 16) as u16]).collect();
    let padded = k.next_multiple_of(BFLOAT16_UNIT);
    assert!(
        numbers
            .chunks_exact(padded)
            .all(|row| row[k..].iter().all(|padding| *padding == 0)),
        "the end of a row is not 0"
    );
    Output {
        values: numbers.into_iter().map(f32::from).collect(),
        out_of_bounds: rounded.out_of_bounds,
    }
}

/// Converts `rows` rows of `k` random numbers to 16-bit integers, and returns the integers and the scales as numbers.
pub fn quantise_int16(kernels: &Kernels, random: &mut Random, (rows, k): (usize, usize), chunks: Chunks<'_>) -> Output {
    let mut x = GuardedRows::coarse(rows, k, random);
    let mut out = GuardedRows::empty(rows, int16::row_len(k, kernels.int16_rows));
    let mut scales = GuardedRows::empty(rows, 1);
    let args = int16::Quantise {
        x: x.matrix(),
        k,
        out: out.matrix(),
        rows: kernels.int16_rows,
        scales: scales.matrix(),
        max_norm: int16::max_row_norm(k),
    };
    // SAFETY: the operands have the rows and columns that the arguments say, and the caller of `Case::run` chose kernels
    // that this machine has.
    chunks.for_each(|chunk| unsafe { (kernels.quantise)(&args, chunk) });
    let (ints, scales) = (out.output(), scales.output());
    let bytes: Vec<u8> = ints
        .values
        .iter()
        .flat_map(|value| value.to_bits().to_le_bytes())
        .collect();
    let integers = bytes
        .chunks_exact(2 * args.rows.unit())
        .flat_map(|unit| match args.rows {
            Int16Rows::Pairs => unit
                .chunks_exact(2)
                .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
                .collect(),
            Int16Rows::SplitBytes => {
                let (upper, lower) = unit.split_at(unit.len() / 2);
                upper
                    .iter()
                    .zip(lower)
                    .map(|(upper, lower)| i16::from_le_bytes([*lower, *upper]))
                    .collect::<Vec<_>>()
            }
        });
    // Rows of all layouts are compared, so only the elements that every layout has.
    let per_row = 2 * int16::row_len(k, args.rows);
    let whole: Vec<i16> = integers.collect();
    let integers = whole.chunks_exact(per_row).flat_map(|row| {
        assert!(
            row[k..].iter().all(|padding| *padding == 0),
            "the end of a row is not 0"
        );
        row[..k].iter().map(|integer| f32::from(*integer))
    });
    Output {
        values: integers.chain(scales.values).collect(),
        out_of_bounds: ints.out_of_bounds || scales.out_of_bounds,
    }
}

/// Converts `rows` rows of `k` random numbers to 8-bit integers, and returns the integers and the scales as numbers.
pub fn quantise_int8(kernels: &Kernels, random: &mut Random, (rows, k): (usize, usize), chunks: Chunks<'_>) -> Output {
    let (len, groups) = (row_len(k, kernels.int8_rows), groups(k));
    let exponents = random_exponents(groups * INT8_GROUP, random);
    let factors: Vec<u16> = exponents
        .iter()
        .map(|exponent| to_bfloat16(row_factor(*exponent)))
        .collect();
    let mut x = GuardedRows::new(rows, k, || random.float());
    let (mut out, mut scales) = (GuardedRows::empty(rows, len), GuardedRows::empty(rows, groups));
    let args = QuantiseInt8 {
        x: x.matrix(),
        k,
        factors: &factors,
        out: out.matrix(),
        scales: scales.matrix(),
    };
    // SAFETY: the operands have the rows and columns that the arguments say, and the caller of `Case::run` chose kernels
    // that this machine has.
    chunks.for_each(|chunk| unsafe { (kernels.quantise_int8)(&args, chunk) });
    let (ints, scales) = (out.output(), scales.output());
    let bits = ints.values.iter().map(|value| value.to_bits());
    let integers = bits.flat_map(|bits| match kernels.int8_rows {
        Int8Rows::Pairs => vec![bits as i16, (bits >> 16) as i16],
        Int8Rows::UnsignedQuads => bits.to_le_bytes().map(|byte| i16::from(byte) - 128).to_vec(),
        Int8Rows::SignedQuads | Int8Rows::SignedOctets => bits.to_le_bytes().map(|byte| i16::from(byte as i8)).to_vec(),
    });
    Output {
        values: integers.map(f32::from).chain(scales.values).collect(),
        out_of_bounds: ints.out_of_bounds || scales.out_of_bounds,
    }
}

fn random_exponents(count: usize, random: &mut Random) -> Vec<i8> {
    (0..count)
        .map(|_| random.below(2 * MAX_EXPONENT as usize + 1) as i8 - MAX_EXPONENT)
        .collect()
}

fn matrix(values: &mut [f32], stride: usize) -> Matrix {
    Matrix {
        data: values.as_mut_ptr(),
        stride,
    }
}

/// Returns a function that reads one row of a weight.
fn reader(values: &[f32]) -> impl Fn(usize, &mut [f32]) -> Result<()> + Sync {
    |row, out| {
        out.copy_from_slice(&values[row * out.len()..(row + 1) * out.len()]);
        Ok(())
    }
}
