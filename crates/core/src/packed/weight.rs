//! The weight of a matrix product in the layout of the kernels, in the precision of the model.

use super::PackedMatrices;
use crate::error::{Error, Result};
use crate::format::checkpoint::Checkpoint;
use crate::kernels::int8::quantise::{groups, row_len};
use crate::kernels::panels::Shape;
use crate::kernels::{Kernels, bfloat16, gemm, int8, int16};
use crate::precision::Precision;
use crate::program::WeightSpec;
use crate::weights::{Rows, rows_of};

/// Returns the exponents of the smoothing of a step's int8 weight, one for each input channel: by the number of the step,
/// the rows of the weight and its shape.
pub type Exponents<'a> = dyn Fn(usize, &Rows<'_>, Shape) -> Result<Vec<i8>> + 'a;

/// A packed weight matrix in one of the precisions.
pub enum PackedWeight {
    /// float32.
    Float32(gemm::Packed),
    /// bfloat16.
    Bfloat16(bfloat16::Packed),
    /// Pairs of 16-bit integers.
    Int16(int16::Packed),
    /// Groups of 8-bit integers that share a scale.
    Int8(int8::Packed),
}

/// Evaluates an expression for the packed matrix, whatever its format.
macro_rules! for_any_format {
    ($self:ident, $weight:ident => $value:expr) => {
        match $self {
            Self::Float32($weight) => $value,
            Self::Bfloat16($weight) => $value,
            Self::Int16($weight) => $value,
            Self::Int8($weight) => $value,
        }
    };
}

impl PackedWeight {
    /// Returns the inputs and outputs of the product.
    pub fn shape(&self) -> Shape {
        for_any_format!(self, weight => weight.shape)
    }

    /// Returns the precision.
    pub fn precision(&self) -> Precision {
        match self {
            Self::Float32(_) => Precision::Float32,
            Self::Bfloat16(_) => Precision::Bfloat16,
            Self::Int16(_) => Precision::Int16,
            Self::Int8(_) => Precision::Int8,
        }
    }

    /// Returns the number of panels.
    pub fn panels(&self) -> usize {
        for_any_format!(self, weight => weight.panels())
    }

    /// Returns the f32 values that a row of x takes once it is converted to the numbers of the product, and its scales;
    /// (0, 0) if the kernel reads rows of f32.
    pub fn converted_row(&self, kernels: &Kernels) -> (usize, usize) {
        let k = self.shape().k;
        match self {
            Self::Float32(_) => (0, 0),
            Self::Bfloat16(_) => (bfloat16::row_len(k, kernels.bfloat16_rows), 0),
            Self::Int16(_) => (int16::row_len(k, kernels.int16_rows), 1),
            Self::Int8(_) => (row_len(k, kernels.int8_rows), groups(k)),
        }
    }

    /// Returns the packed weight of `step`: read from an earlier start's file, or packed now from the checkpoint.
    ///
    /// # Errors
    /// Those of [`rows_of`], and [`crate::Error::Tensor`] for values that are not finite.
    pub fn pack(
        checkpoint: &Checkpoint,
        spec: &WeightSpec,
        shape: Shape,
        kernels: &Kernels,
        precision: Precision,
        (exponents, step): (&Exponents<'_>, usize),
        matrices: &mut PackedMatrices,
    ) -> Result<Self> {
        let height = shape
            .rows()
            .ok_or_else(|| Error::Program("the weight of a product has too many rows".into()))?;
        let rows = rows_of(checkpoint, spec, height, shape.k)?;
        let row = |number: usize, values: &mut [f32]| rows.read(number, values);
        let lanes = kernels.lanes;
        Ok(match precision {
            Precision::Float32 => Self::Float32(matrices.next(shape, lanes, || gemm::Packed::new(shape, lanes, row))?),
            Precision::Bfloat16 => Self::Bfloat16(matrices.next(shape, lanes, || {
                bfloat16::Packed::rounded(shape, (lanes, kernels.bfloat16_rows), row)
            })?),
            Precision::Int16 => Self::Int16(matrices.next(shape, lanes, || {
                int16::Packed::scaled(shape, (lanes, kernels.int16_rows), row)
            })?),
            Precision::Int8 => Self::Int8(matrices.next(shape, lanes, || {
                let exponents = exponents(step, &rows, shape)?;
                int8::Packed::smoothed(shape, (lanes, kernels.int8_rows), &exponents, row)
            })?),
        })
    }
}
