//! The program format: what Python traced from a model definition. This module parses it, `lower` checks it.

use crate::error::{Error, Result};
use crate::kernels::rope::{Llama3, Scaling};
use crate::kernels::{norm, pooling};
use crate::simd::math::Activation;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Version of the format that this executor reads.
pub const FORMAT: &str = "embergem-program/1";

/// Steps over buffers, and the weights that the steps need.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Must be [`FORMAT`].
    pub format: String,
    /// Hash of what the program was traced from: the head and the config fields that enter the arithmetic.
    pub key: String,
    /// Weights, each made from checkpoint tensors at load.
    pub weights: Vec<WeightSpec>,
    /// Memory for intermediate values.
    pub buffers: Vec<Buffer>,
    /// Operations in the order of execution.
    pub steps: Vec<Step>,
    /// The columns that have the vectors after the last step.
    pub output: Operand,
    /// Prefixes of tensor names in checkpoints of the model's family.
    #[serde(default)]
    pub prefixes: Vec<String>,
}

impl Program {
    /// Parses a program and checks its format version.
    ///
    /// # Errors
    /// [`Error::Program`] for invalid JSON and for another version.
    pub fn parse(json: &str) -> Result<Self> {
        let program: Self = serde_json::from_str(json).map_err(|error| Error::Program(error.to_string()))?;
        if program.format != FORMAT {
            return Err(Error::Program(format!(
                "its format is {:?}, and this version of embergem reads {FORMAT:?}. Compile the model again with this \
                 version.",
                program.format
            )));
        }
        Ok(program)
    }
}

/// A weight: the rows of its sources stacked in order, plus the constant `add`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightSpec {
    /// Sources; at least one.
    pub sources: Vec<Source>,
    /// Constant that is added to every element.
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
    /// Rows from..to; all rows if absent.
    pub rows: Option<(usize, usize)>,
}

/// What one row of a buffer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// One row for each token.
    Tokens,
    /// One row for each text of the batch.
    Rows,
}

/// Memory for intermediate values.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Buffer {
    /// Values of one row.
    pub width: usize,
    /// What one row belongs to.
    pub axis: Axis,
}

/// A range of columns of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operand {
    /// Index of the buffer.
    pub buffer: usize,
    /// First column.
    pub column: usize,
    /// Number of columns.
    pub width: usize,
}

/// One operation of the program.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Name of the operation.
    pub op: String,
    /// The columns that the result is written to.
    pub out: Operand,
    /// The columns that the operation reads.
    pub inputs: Vec<Operand>,
    /// Indices of weights by role, such as "bias".
    pub weights: BTreeMap<String, usize>,
    /// Parameters of the operation; their fields depend on `op`.
    pub parameters: serde_json::Value,
}

/// Parameters of `embed`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbedParameters {
    /// Row of the position table for position 0.
    pub offset: usize,
    /// A token id that does not count as a position: its tokens get the row before `offset`.
    pub padding: Option<u32>,
    /// Whether the table contains whole numbers that stand for themselves, without scales.
    #[serde(default)]
    pub integers: bool,
    /// Factor that the row of the embedding table is multiplied by.
    #[serde(default = "one")]
    pub by: f32,
}

/// Parameters of `norm`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NormParameters {
    /// Which statistics normalise a group.
    pub kind: norm::Kind,
    /// Added to the mean square or the variance.
    pub eps: f32,
    /// Number of adjacent features that are normalised together.
    pub group: usize,
    /// Where the second input is added: "before" or "after" the norm; absent without a second input.
    pub residual: Option<String>,
}

/// Parameters of `linear`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearParameters {
    /// Activation of each output.
    pub activation: Option<Activation>,
    /// If present, the weight is two stacked matrices, and the result is this activation of the first product times the
    /// second product.
    pub gate: Option<Activation>,
}

/// Parameters of `activation` and `glu`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivationParameters {
    /// The activation.
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
    /// Features of a head that are rotated: all of them, so it equals `head_dim`.
    pub dim: usize,
    /// How low frequencies are lowered.
    pub llama3: Option<Llama3>,
    /// Number that all frequencies are divided by.
    pub linear: Option<f64>,
}

impl RopeParameters {
    /// How the frequencies are scaled; `Err` if the step names two ways.
    pub fn scaling(&self) -> Result<Scaling> {
        match (self.llama3, self.linear) {
            (None, None) => Ok(Scaling::None),
            (Some(scaling), None) => Ok(Scaling::Llama3(scaling)),
            (None, Some(factor)) => Ok(Scaling::Linear(factor)),
            (Some(_), Some(_)) => Err(Error::Program("its frequencies are scaled in two ways".into())),
        }
    }
}

/// Parameters of `attention`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionParameters {
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads.
    pub kv_heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// A query attends only to keys at its own position or before it.
    pub causal: bool,
    /// A query attends only to keys at most this many positions away.
    pub radius: Option<usize>,
    /// Distance from which on all keys share the last bucket of the bias; `None` is 128.
    pub furthest: Option<usize>,
}

/// Parameters of `scale`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleParameters {
    /// The factor; absent if a weight has it.
    pub by: Option<f32>,
}

/// Parameters of `pool`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolParameters {
    /// How tokens become one vector.
    pub kind: pooling::Kind,
}

/// Parameters of operations without parameters: an empty object.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParameters {}

fn one() -> f32 {
    1.0
}
