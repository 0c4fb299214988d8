//! The arithmetic of the matrix products, which the caller chooses when a model is loaded.

/// Arithmetic of the matrix products over tokens. Everything else is computed in float32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// float32.
    #[default]
    Float32,
    /// Weights in bfloat16 with float32 sums. Rows are rounded to bfloat16 too where the processor multiplies such numbers,
    /// else they stay float32.
    Bfloat16,
    /// 16-bit integers with 32-bit sums.
    Int16,
    /// 8-bit integers in transformed groups that share a scale.
    Int8,
}

impl Precision {
    /// All precisions by the names that users write.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("float32", Self::Float32),
        ("bfloat16", Self::Bfloat16),
        ("int16", Self::Int16),
        ("int8", Self::Int8),
    ];

    /// Returns the name that users write.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
            Self::Int16 => "int16",
            Self::Int8 => "int8",
        }
    }

    /// Returns the bytes that 1,000 packed weights take, scales included.
    pub fn bytes_per_thousand(self) -> u64 {
        match self {
            Self::Float32 => 4000,
            Self::Bfloat16 | Self::Int16 => 2000,
            Self::Int8 => 1050,
        }
    }
}
