//! Element types of stored tensors.

use super::dequantise::BlockFormat;
use super::integers::IntegerFormat;

/// An element type that can be read. Each value converts to f32 exactly, or to the nearest product with its scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
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
}

impl Element {
    /// Returns the values and the bytes of one block, the smallest part that can be read alone.
    pub fn block_size(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Block(format) => (format.values(), format.bytes()),
            Self::Integer(format) => (1, format.bytes()),
        }
    }

    /// Returns the name in safetensors or GGUF.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
            Self::Block(format) => format.name(),
            Self::Integer(format) => format.name(),
        }
    }
}
