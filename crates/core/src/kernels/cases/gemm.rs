//! Products of floats and of integers.

use super::guarded::{Field, Numbers, Outcome};
use crate::kernels::gemm::{self, Finish};
use crate::kernels::panels::{Shape, in_order_of_panels};
use crate::kernels::{Kernels, Matrix, bfloat16, int8, int16};
use std::convert::Infallible;
use std::ops::Range;

/// The rows of each call.
type Chunks<'a> = &'a mut dyn Iterator<Item = Range<usize>>;

/// A product.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// Sizes.
    pub shape: Shape,
    /// With a bias.
    pub bias: bool,
    /// Applied last.
    pub finish: Finish,
}

impl Product {
    /// The weight's numbers, how to read a row of them, and a bias in the order of panels.
    fn weight(&self, kernels: &Kernels, numbers: &mut Numbers) -> (Vec<f32>, Option<Vec<f32>>) {
        let rows = self.shape.out * if self.shape.gated { 2 } else { 1 };
        let weight = numbers.floats(rows * self.shape.k);
        let bias = in_order_of_panels(&numbers.floats(rows), self.shape, kernels.lanes);
        (weight, self.bias.then_some(bias))
    }

    /// Of floats.
    pub fn floats(&self, kernels: &Kernels, numbers: &mut Numbers, rows: usize, chunks: Chunks<'_>) -> Outcome {
        let (values, bias) = self.weight(kernels, numbers);
        let Ok(weight) = gemm::Packed::new(self.shape, kernels.lanes, reader(&values));
        let panels = 0..weight.panels();
        // SAFETY: the fields have the sizes of the shape; the caller of `Trial::run` chose kernels that can run.
        self.of_floats(numbers, rows, chunks, &weight, bias, |args, chunk| unsafe {
            (kernels.gemm)(args, chunk, panels.clone())
        })
    }

    /// Of floats, with bfloat16 weights.
    pub fn bfloat16(&self, kernels: &Kernels, numbers: &mut Numbers, rows: usize, chunks: Chunks<'_>) -> Outcome {
        let (values, bias) = self.weight(kernels, numbers);
        let Ok(weight) = bfloat16::Packed::new(self.shape, kernels.lanes, reader(&values));
        let panels = 0..weight.panels();
        // SAFETY: as in `floats`.
        self.of_floats(numbers, rows, chunks, &weight, bias, |args, chunk| unsafe {
            (kernels.gemm_bfloat16)(args, chunk, panels.clone())
        })
    }

    /// Of 16-bit integers, from rows whose scales are exact.
    pub fn int16(&self, kernels: &Kernels, numbers: &mut Numbers, rows: usize, chunks: Chunks<'_>) -> Outcome {
        let (values, bias) = self.weight(kernels, numbers);
        let Ok(weight) = int16::Packed::new(self.shape, kernels.lanes, reader(&values));
        let (panels, norm) = (0..weight.panels(), int16::row_norm(self.shape.k));
        // SAFETY: as in `floats`.
        self.of_integers(
            kernels,
            numbers,
            (rows, norm),
            chunks,
            &weight,
            bias,
            |args, chunk| unsafe { (kernels.gemm_int16)(args, chunk, panels.clone()) },
        )
    }

    /// Of 16-bit integers with 8-bit weights, from rows whose scales are exact.
    pub fn int8(&self, kernels: &Kernels, numbers: &mut Numbers, rows: usize, chunks: Chunks<'_>) -> Outcome {
        let (values, bias) = self.weight(kernels, numbers);
        let Ok(weight) = int8::Packed::new(self.shape, kernels.lanes, reader(&values));
        let panels = 0..weight.panels();
        // SAFETY: as in `floats`.
        self.of_integers(
            kernels,
            numbers,
            (rows, f32::INFINITY),
            chunks,
            &weight,
            bias,
            |args, chunk| unsafe { (kernels.gemm_int8)(args, chunk, panels.clone()) },
        )
    }

    fn of_floats<W>(
        &self,
        numbers: &mut Numbers,
        rows: usize,
        chunks: Chunks<'_>,
        weight: &W,
        bias: Option<Vec<f32>>,
        run: impl Fn(&gemm::Gemm<'_, W>, Range<usize>),
    ) -> Outcome {
        let mut x = Field::new(rows, self.shape.k, || numbers.float());
        let mut out = Field::empty(rows, self.shape.out);
        let args = gemm::Gemm {
            x: x.matrix(),
            out: out.matrix(),
            weight,
            bias: bias.as_deref(),
            finish: self.finish,
        };
        chunks.for_each(|chunk| run(&args, chunk));
        out.outcome()
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what four kernels have in common and what they don't"
    )]
    fn of_integers<W>(
        &self,
        kernels: &Kernels,
        numbers: &mut Numbers,
        (rows, largest_norm): (usize, f32),
        chunks: Chunks<'_>,
        weight: &W,
        bias: Option<Vec<f32>>,
        run: impl Fn(&int16::Gemm<'_, W>, Range<usize>),
    ) -> Outcome {
        let (k, pairs) = (self.shape.k, int16::pairs(self.shape.k));
        let mut x = Field::coarse(rows, k, numbers);
        let (mut ints, mut scales) = (vec![f32::NAN; rows * pairs], vec![f32::NAN; rows]);
        let of = |values: &mut [f32], stride| Matrix {
            data: values.as_mut_ptr(),
            stride,
        };
        let quantise = int16::Quantise {
            x: x.matrix(),
            k,
            out: of(&mut ints, pairs),
            scales: of(&mut scales, 1),
            largest_norm,
        };
        let mut out = Field::empty(rows, self.shape.out);
        let args = int16::Gemm {
            x: quantise.out,
            scales: quantise.scales,
            out: out.matrix(),
            weight,
            bias: bias.as_deref(),
            finish: self.finish,
        };
        for chunk in chunks {
            // SAFETY: as in `floats`.
            unsafe { (kernels.quantise)(&quantise, chunk.clone()) };
            run(&args, chunk);
        }
        out.outcome()
    }
}

fn reader(values: &[f32]) -> impl Fn(usize, &mut [f32]) -> Result<(), Infallible> + Sync {
    |row, line| {
        line.copy_from_slice(&values[row * line.len()..(row + 1) * line.len()]);
        Ok(())
    }
}
