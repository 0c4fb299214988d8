//! Element types of stored tensors.

use super::dequantise::BlockFormat;
use super::integers::IntegerFormat;

/// An element type that can be read. Each value converts to f32 exactly, to the nearest f32, or to the nearest product
/// with its scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 64-bit float.
    F64,
    /// 32-bit float.
    F32,
    /// bfloat16: the upper half of a 32-bit float.
    Bf16,
    /// IEEE half precision.
    F16,
    /// Blocks of integers with scales inside the block, as GGUF stores them.
    Block(BlockFormat),
    /// Integers with scales in a second tensor, as `embergem compile` stores them.
    Integer(IntegerFormat),
    /// Whole numbers that stand for themselves: the row numbers and the int8 tables of Model2Vec.
    Whole(WholeFormat),
}

/// Width of whole numbers that stand for themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WholeFormat {
    /// One byte a value.
    I8,
    /// Four bytes a value.
    I32,
    /// Eight bytes a value.
    I64,
}

impl WholeFormat {
    /// Returns the bytes of one value.
    pub fn bytes(self) -> usize {
        match self {
            Self::I8 => 1,
            Self::I32 => 4,
            Self::I64 => 8,
        }
    }

    /// Returns the value in the first bytes of `bytes`; 0 if there are too few.
    pub fn value(self, bytes: &[u8]) -> i64 {
        match self {
            Self::I8 => bytes.first().map(|byte| i64::from(*byte as i8)),
            Self::I32 => bytes.first_chunk().map(|bytes| i64::from(i32::from_le_bytes(*bytes))),
            Self::I64 => bytes.first_chunk().map(|bytes| i64::from_le_bytes(*bytes)),
        }
        .unwrap_or(0)
    }
}

impl Element {
    /// Returns the values and the bytes of one block, the smallest part that can be read alone.
    pub fn block_size(self) -> (usize, usize) {
        match self {
            Self::F64 => (1, 8),
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Block(format) => (format.values(), format.bytes()),
            Self::Integer(format) => (1, format.bytes()),
            Self::Whole(format) => (1, format.bytes()),
        }
    }

    /// Returns the name in safetensors or GGUF.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
            Self::Block(format) => format.name(),
            Self::Integer(format) => format.name(),
            Self::Whole(WholeFormat::I8) => "I8",
            Self::Whole(WholeFormat::I32) => "I32",
            Self::Whole(WholeFormat::I64) => "I64",
        }
    }
}
