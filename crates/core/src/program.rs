//! The program as it comes from Python: parsed here, checked in `lower`.

use crate::error::{Error, Result};
use crate::kernels::{norm, pooling};
use crate::simd::math::Activation;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The version of the format that this executor reads.
pub const FORMAT: &str = "embergem-program/1";

/// Steps over buffers, and the weights they need.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Must be [`FORMAT`].
    pub format: String,
    /// Identifies what the program was traced from.
    pub key: String,
    /// Each made from checkpoint tensors at load.
    pub weights: Vec<WeightSpec>,
    /// Storage.
    pub buffers: Vec<Buffer>,
    /// In order.
    pub steps: Vec<Step>,
    /// The vectors.
    pub output: Operand,
    /// What may stand before the names of tensors in a checkpoint of the model's family.
    #[serde(default)]
    pub prefixes: Vec<String>,
}

impl Program {
    /// Reads a program and checks its format.
    pub fn parse(json: &str) -> Result<Self> {
        let program: Self = serde_json::from_str(json).map_err(|error| Error::Program(error.to_string()))?;
        if program.format != FORMAT {
            return Err(Error::Program(format!(
                "its format is {:?}; this build reads {FORMAT:?}",
                program.format
            )));
        }
        Ok(program)
    }
}

/// A weight: its sources one below the other, plus `add`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightSpec {
    /// At least one.
    pub sources: Vec<Source>,
    /// Added to every element.
    pub add: f32,
}

/// A checkpoint tensor, or a range of its rows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Name without prefixes such as `model.`.
    pub tensor: String,
    /// The shape it must have.
    pub shape: Vec<usize>,
    /// Rows i..j.
    pub rows: Option<(usize, usize)>,
}

/// What a buffer has one row for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// A token.
    Tokens,
    /// A text of the batch.
    Rows,
}

/// Storage for values.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Buffer {
    /// Floats of a row.
    pub width: usize,
    /// What a row is.
    pub axis: Axis,
}

/// Columns of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operand {
    /// Which buffer.
    pub buffer: usize,
    /// First column.
    pub column: usize,
    /// Columns.
    pub width: usize,
}

/// One operation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Name in the operation vocabulary.
    pub op: String,
    /// Where the result goes.
    pub out: Operand,
    /// What it reads.
    pub inputs: Vec<Operand>,
    /// Weights by role.
    pub weights: BTreeMap<String, usize>,
    /// Read according to `op`.
    pub parameters: serde_json::Value,
}

/// Parameters of `embed`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbedParameters {
    /// Row of the position table for place 0.
    pub offset: usize,
    /// Multiplies the table's row.
    #[serde(default = "one")]
    pub by: f32,
}

/// Parameters of `norm`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NormParameters {
    /// Statistics.
    pub kind: norm::Kind,
    /// Added to the mean square or variance.
    pub eps: f32,
    /// Features normalised together.
    pub group: usize,
    /// Where the second input is added: "before" or "after".
    pub residual: Option<String>,
}

/// Parameters of `linear`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearParameters {
    /// Applied to each output.
    pub activation: Option<Activation>,
    /// The weight is two matrices, one on the other: the result is this of the first product, times the second.
    pub gate: Option<Activation>,
}

/// Parameters of `activation` and `glu`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivationParameters {
    /// Which.
    pub kind: Activation,
}

/// Parameters of `rope`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeParameters {
    /// Features of a head.
    pub head_dim: usize,
    /// Base of the frequencies.
    pub theta: f64,
    /// Features that turn.
    pub dim: usize,
}

/// Parameters of `attention`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionParameters {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Multiplies the scores.
    pub scale: f32,
    /// No later keys.
    pub causal: bool,
    /// Keys at most this far away.
    pub radius: Option<usize>,
}

/// Parameters of `scale`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleParameters {
    /// The number; absent where a weight gives it.
    pub by: Option<f32>,
}

/// Parameters of `pool`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolParameters {
    /// How.
    pub kind: pooling::Kind,
}

/// Parameters of operations that have none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParameters {}

fn one() -> f32 {
    1.0
}
