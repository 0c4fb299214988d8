//! How a model is loaded.

use crate::error::{Error, Result};
use embergem_core::Precision;
use std::path::PathBuf;

/// Arithmetic of the large products. Everything else is computed in 32-bit floats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelDType {
    /// [`ModelDType::F32`].
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// Weights as bfloat16 with sums of 32-bit floats. Processors that multiply bfloat16 numbers (AMX, or AVX-512 BF16 of
    /// AMD) round activations to bfloat16 too.
    BF16,
    /// 16-bit integers with exact sums: faster, half the memory for weights, and near lossless.
    I16,
    /// 8-bit integers in groups that share a scale: the least memory, and the fastest on processors with VNNI.
    I8,
}

impl ModelDType {
    /// Returns the precision of the executor that computes this dtype.
    pub(crate) fn precision(self) -> Precision {
        match self {
            Self::Auto | Self::F32 => Precision::Float32,
            Self::BF16 => Precision::Bfloat16,
            Self::I16 => Precision::Int16,
            Self::I8 => Precision::Int8,
        }
    }
}

/// Families by the names that mistral.rs uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EmbeddingLoaderType {
    /// `gemma3_text`.
    EmbeddingGemma,
    /// `qwen3`.
    Qwen3Embedding,
}

impl EmbeddingLoaderType {
    /// `model_type` of config.json.
    pub(crate) fn model_type(self) -> &'static str {
        match self {
            Self::EmbeddingGemma => "gemma3_text",
            Self::Qwen3Embedding => "qwen3",
        }
    }
}

/// Source of the access token for the Hugging Face hub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenSource {
    /// `HF_TOKEN`, or else the file where the tools of the hub store the token.
    #[default]
    CacheToken,
    /// The token itself.
    Literal(String),
    /// An environment variable.
    EnvVar(String),
    /// A file.
    Path(PathBuf),
    /// No token is sent.
    None,
}

/// All options of [`crate::EmbeddingModelBuilder`], whose methods document them.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoadOptions {
    pub dtype: ModelDType,
    pub threads: Option<usize>,
    pub tokenizer_json: Option<PathBuf>,
    pub loader_type: Option<EmbeddingLoaderType>,
    pub max_num_seqs: Option<usize>,
    pub throughput_logging: bool,
    pub token_source: TokenSource,
    pub revision: Option<String>,
    pub hf_cache: Option<PathBuf>,
}

impl LoadOptions {
    /// Checks what can be checked without the model.
    ///
    /// # Errors
    /// [`Error::UnsupportedOption`] for a value that is not possible.
    pub fn check(&self) -> Result<()> {
        for (name, value) in [("threads", self.threads), ("max_num_seqs", self.max_num_seqs)] {
            if value == Some(0) {
                return Err(Error::UnsupportedOption(format!(
                    "with_{name}(0) is not possible. Give 1 or more, or leave the option out."
                )));
            }
        }
        Ok(())
    }
}
