//! The weight of a product as the kernels read it, in the precision that was asked for.

use super::Packs;
use crate::error::Result;
use crate::format::checkpoint::Checkpoint;
use crate::kernels::panels::Shape;
use crate::kernels::{bfloat16, gemm, int8, int16};
use crate::precision::Precision;
use crate::program::WeightSpec;
use crate::weights::rows_of;

/// Packed weights in one of the precisions.
pub enum PackedWeight {
    /// Floats.
    Float32(gemm::Packed),
    /// Upper halves of floats.
    Bfloat16(bfloat16::Packed),
    /// Pairs of 16-bit integers.
    Int16(int16::Packed),
    /// Bytes, with a scale for every few.
    Int8(int8::Packed),
}

/// What the packed matrices have in common, whatever their format.
macro_rules! of_any {
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
    /// What it computes.
    pub fn shape(&self) -> Shape {
        of_any!(self, weight => weight.shape)
    }

    /// Panels.
    pub fn panels(&self) -> usize {
        of_any!(self, weight => weight.panels())
    }

    /// Pairs of integers that a row of x becomes; 0 where it is multiplied as it is.
    pub fn pairs(&self) -> usize {
        match self {
            Self::Float32(_) | Self::Bfloat16(_) => 0,
            Self::Int16(_) | Self::Int8(_) => int16::pairs(self.shape().k),
        }
    }

    /// Finds the rows of a weight, and their packed form: kept from an earlier start, or packed now.
    pub fn pack(
        checkpoint: &Checkpoint,
        spec: &WeightSpec,
        shape: Shape,
        lanes: usize,
        precision: Precision,
        packs: &mut Packs,
    ) -> Result<Self> {
        let rows = rows_of(checkpoint, spec, shape)?;
        let row = |n: usize, line: &mut [f32]| rows.read(n, line);
        macro_rules! pack {
            ($kind:ident, $packed:ty) => {
                Self::$kind(packs.matrix(shape, lanes, || <$packed>::new(shape, lanes, row))?)
            };
        }
        Ok(match precision {
            Precision::Float32 => pack!(Float32, gemm::Packed),
            Precision::Bfloat16 => pack!(Bfloat16, bfloat16::Packed),
            Precision::Int16 => pack!(Int16, int16::Packed),
            Precision::Int8 => pack!(Int8, int8::Packed),
        })
    }
}
