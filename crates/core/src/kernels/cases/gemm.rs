//! Cases of matrix products in f32 and in integers.

use super::guarded::{GuardedRows, Output, Random};
use crate::error::Result;
use crate::kernels::gemm::{self, Finish};
use crate::kernels::panels::{Shape, in_panel_order};
use crate::kernels::{Kernels, Matrix, bfloat16, int8, int16};
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
        // SAFETY: the operands have the sizes of the shape, and the caller of `Case::run` chose kernels that this
        // machine has.
        self.run_floats(random, rows, chunks, &weight, bias, |args, chunk| unsafe {
            (kernels.gemm)(args, chunk, panels.clone())
        })
    }

    /// Runs the kernel with bfloat16 weights.
    pub fn bfloat16(&self, kernels: &Kernels, random: &mut Random, rows: usize, chunks: Chunks<'_>) -> Output {
        let (values, bias) = self.weight(kernels, random);
        let weight = bfloat16::Packed::new(self.shape, kernels.lanes, reader(&values)).unwrap();
        let panels = 0..weight.panels();
        // SAFETY: the operands have the sizes of the shape, and the caller of `Case::run` chose kernels that this
        // machine has.
        self.run_floats(random, rows, chunks, &weight, bias, |args, chunk| unsafe {
            (kernels.gemm_bfloat16)(args, chunk, panels.clone())
        })
    }

    /// Runs the kernel of 16-bit integers on rows whose scales are exact.
    pub fn int16(&self, kernels: &Kernels, random: &mut Random, rows: usize, chunks: Chunks<'_>) -> Output {
        let (values, bias) = self.weight(kernels, random);
        let weight = int16::Packed::new(self.shape, kernels.lanes, reader(&values)).unwrap();
        let (panels, max_norm) = (0..weight.panels(), int16::max_row_norm(self.shape.k));
        // SAFETY: the operands have the sizes of the shape, and the caller of `Case::run` chose kernels that this
        // machine has.
        self.run_integers(
            kernels,
            random,
            (rows, max_norm),
            chunks,
            &weight,
            bias,
            |args, chunk| unsafe { (kernels.gemm_int16)(args, chunk, panels.clone()) },
        )
    }

    /// Runs the kernel with 8-bit weights on rows whose scales are exact.
    pub fn int8(&self, kernels: &Kernels, random: &mut Random, rows: usize, chunks: Chunks<'_>) -> Output {
        let (values, bias) = self.weight(kernels, random);
        let weight = int8::Packed::new(self.shape, kernels.lanes, reader(&values)).unwrap();
        let panels = 0..weight.panels();
        // SAFETY: the operands have the sizes of the shape, and the caller of `Case::run` chose kernels that this
        // machine has.
        self.run_integers(
            kernels,
            random,
            (rows, f32::INFINITY),
            chunks,
            &weight,
            bias,
            |args, chunk| unsafe { (kernels.gemm_int8)(args, chunk, panels.clone()) },
        )
    }

    /// Runs a kernel on rows of f32.
    fn run_floats<W>(
        &self,
        random: &mut Random,
        rows: usize,
        chunks: Chunks<'_>,
        weight: &W,
        bias: Option<Vec<f32>>,
        run: impl Fn(&gemm::Gemm<'_, W>, Range<usize>),
    ) -> Output {
        let mut x = GuardedRows::new(rows, self.shape.k, || random.float());
        let mut out = GuardedRows::empty(rows, self.shape.out);
        let args = gemm::Gemm {
            x: x.matrix(),
            out: out.matrix(),
            weight,
            bias: bias.as_deref(),
            finish: self.finish,
        };
        chunks.for_each(|chunk| run(&args, chunk));
        out.output()
    }

    /// Converts rows to integers and runs a kernel on them.
    #[expect(clippy::too_many_arguments, reason = "the parts in which the integer kernels differ")]
    fn run_integers<W>(
        &self,
        kernels: &Kernels,
        random: &mut Random,
        (rows, max_norm): (usize, f32),
        chunks: Chunks<'_>,
        weight: &W,
        bias: Option<Vec<f32>>,
        run: impl Fn(&int16::Gemm<'_, W>, Range<usize>),
    ) -> Output {
        let (k, pairs) = (self.shape.k, int16::pairs(self.shape.k));
        let mut x = GuardedRows::coarse(rows, k, random);
        let (mut ints, mut scales) = (vec![f32::NAN; rows * pairs], vec![f32::NAN; rows]);
        let matrix = |values: &mut [f32], stride| Matrix {
            data: values.as_mut_ptr(),
            stride,
        };
        let quantise = int16::Quantise {
            x: x.matrix(),
            k,
            out: matrix(&mut ints, pairs),
            scales: matrix(&mut scales, 1),
            max_norm,
        };
        let mut out = GuardedRows::empty(rows, self.shape.out);
        let args = int16::Gemm {
            x: quantise.out,
            scales: quantise.scales,
            out: out.matrix(),
            weight,
            bias: bias.as_deref(),
            finish: self.finish,
        };
        for chunk in chunks {
            // SAFETY: the operands have the sizes of the shape, and the caller of `Case::run` chose kernels that this
            // machine has.
            unsafe { (kernels.quantise)(&quantise, chunk.clone()) };
            run(&args, chunk);
        }
        out.output()
    }
}

/// Returns a function that reads one row of a weight.
fn reader(values: &[f32]) -> impl Fn(usize, &mut [f32]) -> Result<()> + Sync {
    |row, out| {
        out.copy_from_slice(&values[row * out.len()..(row + 1) * out.len()]);
        Ok(())
    }
}
