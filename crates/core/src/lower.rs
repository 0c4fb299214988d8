//! Lowers the steps of a program to kernels: finds and packs the weights and checks the operands.
//!
//! Kernels rely on the buffers, columns, widths and overlaps of their operands. They are checked here once, so that no
//! index is checked in a hot loop.

mod operands;

use self::operands::{WrittenColumns, axis_of, require_no_overlap, require_same_width};
use crate::error::{Error, Result};
use crate::format::checkpoint::Checkpoint;
use crate::format::table::Table;
use crate::kernels::elementwise::Operation;
use crate::kernels::gemm::Finish;
use crate::kernels::norm::Residual;
use crate::kernels::panels::{Shape, in_panel_order};
use crate::kernels::rope::Scaling;
use crate::kernels::{Kernels, norm, pooling};
use crate::packed::PackedMatrices;
use crate::packed::weight::{Exponents, PackedWeight};
use crate::precision::Precision;
use crate::program::*;
use crate::weights::{floats, indices, table};
use serde::de::DeserializeOwned;
use std::cell::RefCell;

/// Widest buffer of a valid program. Its product with the rows of a batch cannot overflow.
const MAX_WIDTH: usize = 1 << 20;

/// A checked step with its weights, ready to run.
pub struct Lowered {
    /// The operation.
    pub op: Op,
    /// The columns that the result is written to.
    pub out: Operand,
    /// The columns that the operation reads.
    pub inputs: Vec<Operand>,
    /// What one row of the result belongs to.
    pub axis: Axis,
}

/// An operation with its weights.
pub enum Op {
    /// Embedding lookup.
    Embed {
        /// The table, in its mapped file.
        table: Table,
        /// Row of the table for each id; without it row i belongs to id i.
        rows: Option<Vec<u32>>,
        /// Factor of the row of the table, for each id.
        weights: Option<Vec<f32>>,
        /// Position table.
        positions: Option<Positions>,
        /// Token type embedding, added to every row.
        types: Option<Vec<f32>>,
        /// Factor that the row of the embedding table is multiplied by.
        scale: f32,
    },
    /// RMS or layer norm.
    Norm {
        /// Which statistics normalise a group.
        kind: norm::Kind,
        /// Added to the mean square or the variance.
        eps: f32,
        /// Number of adjacent features that are normalised together.
        group: usize,
        /// Where the second input is added.
        residual: Option<Residual>,
        /// One value for each feature of a group.
        weight: Option<Vec<f32>>,
        /// One value for each feature of a group.
        bias: Option<Vec<f32>>,
    },
    /// Matrix product.
    Linear {
        /// Packed weights.
        weight: PackedWeight,
        /// One value for each packed column.
        bias: Option<Vec<f32>>,
        /// What happens to the sums.
        finish: Finish,
    },
    /// Rotary embedding.
    Rope(Rotation),
    /// Attention, and its bias by (relative position bucket, head).
    Attention(AttentionParameters, Option<Vec<f32>>),
    /// Elementwise operation.
    Elementwise(Operation),
    /// Pooling of tokens to one vector for each text.
    Pool(pooling::Kind),
    /// Scaling to length 1.
    Normalise,
}

/// A table of learned positions.
pub struct Positions {
    /// Its rows, one after the other.
    pub values: Vec<f32>,
    /// Row for position 0.
    pub offset: usize,
    /// A token id that does not count as a position: its tokens get the row before `offset`.
    pub padding: Option<u32>,
}

/// A rotation by position.
pub struct Rotation {
    /// Features of a head, all of which are rotated.
    pub head_dim: usize,
    /// Base of the frequencies.
    pub theta: f64,
    /// How the frequencies are scaled.
    pub scaling: Scaling,
}

/// Lowers all steps of `program`. `exponents` returns those of the smoothing of int8 weights.
///
/// # Errors
/// [`Error::Program`] with the number of the step that is invalid, [`Error::Tensor`] for weights that the checkpoint
/// does not have.
pub fn lower(
    program: &Program,
    checkpoint: &Checkpoint,
    kernels: &Kernels,
    precision: Precision,
    exponents: &Exponents<'_>,
    matrices: &mut PackedMatrices,
) -> Result<Vec<Lowered>> {
    if let Some(buffer) = program.buffers.iter().find(|buffer| buffer.width > MAX_WIDTH) {
        return Err(Error::Program(format!(
            "a buffer of width {}; at most {MAX_WIDTH} is allowed",
            buffer.width
        )));
    }
    let context = Context {
        program,
        checkpoint,
        kernels,
        precision,
        exponents,
        matrices: RefCell::new(matrices),
    };
    let mut written = WrittenColumns::default();
    let steps = program.steps.iter().enumerate().map(|(number, step)| {
        written
            .require(&step.inputs)
            .and_then(|()| context.step(number, step))
            .inspect(|lowered| written.add(lowered.out))
            .map_err(|error| match error {
                Error::Program(reason) => Error::Program(format!("step {number} ({}): {reason}", step.op)),
                other => other,
            })
    });
    let steps = steps.collect::<Result<Vec<_>>>()?;
    written.require(&[program.output])?;
    Ok(steps)
}

struct Context<'a> {
    program: &'a Program,
    checkpoint: &'a Checkpoint,
    kernels: &'a Kernels,
    precision: Precision,
    exponents: &'a Exponents<'a>,
    matrices: RefCell<&'a mut PackedMatrices>,
}

impl Context<'_> {
    fn step(&self, number: usize, step: &Step) -> Result<Lowered> {
        let axis = axis_of(self.program, &step.out)?;
        for input in &step.inputs {
            let axis_of_input = axis_of(self.program, input)?;
            ensure(axis_of_input == axis || step.op == "pool", || {
                format!("it reads {axis_of_input:?} and writes {axis:?}")
            })?;
        }
        let op = match step.op.as_str() {
            "embed" => self.embed(step)?,
            "norm" => self.norm(step)?,
            "linear" => self.linear(number, step, axis)?,
            "rope" => self.rope(step, axis)?,
            "attention" => self.attention(step)?,
            "add" | "glu" | "activation" | "scale" => self.elementwise(step)?,
            "pool" => {
                self.require_arity(step, 1, &[])?;
                let PoolParameters { kind } = parameters(step)?;
                ensure(
                    axis_of(self.program, &step.inputs[0])? == Axis::Tokens && axis == Axis::Rows,
                    || "it must pool tokens to rows".into(),
                )?;
                require_same_width(step)?;
                Op::Pool(kind)
            }
            "normalise" => {
                self.require_arity(step, 1, &[])?;
                let NoParameters {} = parameters(step)?;
                require_same_width(step)?;
                Op::Normalise
            }
            other => {
                return Err(Error::Program(format!(
                    "no operation is called {other:?}. The program needs a newer version of embergem"
                )));
            }
        };
        require_no_overlap(step, &op)?;
        Ok(Lowered {
            op,
            out: step.out,
            inputs: step.inputs.clone(),
            axis,
        })
    }

    fn embed(&self, step: &Step) -> Result<Op> {
        self.require_arity(step, 0, &["table", "mapping", "weights", "positions", "types"])?;
        let p: EmbedParameters = parameters(step)?;
        ensure(axis_of(self.program, &step.out)? == Axis::Tokens, || {
            "the result of a lookup must have one row for each token".into()
        })?;
        let table = table(
            self.checkpoint,
            self.weight(step, "table")?.ok_or_else(|| missing("table"))?,
            p.integers,
        )?;
        ensure(table.width == step.out.width, || {
            format!("a table of width {} for {} columns", table.width, step.out.width)
        })?;
        let further = |role: &str| -> Result<Option<Vec<f32>>> {
            let Some(spec) = self.weight(step, role)? else {
                return Ok(None);
            };
            let rows = spec
                .sources
                .first()
                .and_then(|source| source.shape.first())
                .copied()
                .unwrap_or(0);
            floats(self.checkpoint, spec, &[rows, table.width]).map(Some)
        };
        let (positions, types) = (further("positions")?, further("types")?);
        ensure(p.padding.is_none() || (positions.is_some() && p.offset > 0), || {
            "a padding id needs a row of a position table before the first position".into()
        })?;
        let rows = self.weight(step, "mapping")?;
        let rows = rows
            .map(|spec| indices(self.checkpoint, spec, table.rows))
            .transpose()?;
        let weights = self.vector(step, "weights", rows.as_ref().map_or(table.rows, Vec::len))?;
        Ok(Op::Embed {
            positions: positions.map(|values| Positions {
                values,
                offset: p.offset,
                padding: p.padding,
            }),
            rows,
            weights,
            types,
            scale: p.by,
            table,
        })
    }

    fn norm(&self, step: &Step) -> Result<Op> {
        let p: NormParameters = parameters(step)?;
        let residual = match p.residual.as_deref() {
            None => None,
            Some("before") => Some(Residual::Before),
            Some("after") => Some(Residual::After),
            Some(other) => {
                return Err(Error::Program(format!(
                    "a residual {other:?}; it must be before or after"
                )));
            }
        };
        self.require_arity(step, 1 + usize::from(residual.is_some()), &["weight", "bias"])?;
        require_same_width(step)?;
        let divides = p.group > 0 && step.out.width.is_multiple_of(p.group);
        ensure(divides, || {
            format!(
                "groups of {} features do not divide {} features",
                p.group, step.out.width
            )
        })?;
        let (weight, bias) = (
            self.vector(step, "weight", p.group)?,
            self.vector(step, "bias", p.group)?,
        );
        Ok(Op::Norm {
            kind: p.kind,
            eps: p.eps,
            group: p.group,
            residual,
            weight,
            bias,
        })
    }

    fn linear(&self, number: usize, step: &Step, axis: Axis) -> Result<Op> {
        self.require_arity(step, 1, &["weight", "bias"])?;
        let LinearParameters { activation, gate } = parameters(step)?;
        ensure(activation.is_none() || gate.is_none(), || {
            "a product cannot have both an activation and a gate".into()
        })?;
        let spec = self.weight(step, "weight")?.ok_or_else(|| missing("weight"))?;
        let shape = Shape {
            out: step.out.width,
            k: step.inputs[0].width,
            gated: gate.is_some(),
        };
        let rows = shape
            .rows()
            .ok_or_else(|| Error::Program("the weight of a product has too many rows".into()))?;
        // The products after pooling are a small part of the work, so they are always computed in float32.
        let precision = if axis == Axis::Tokens {
            self.precision
        } else {
            Precision::Float32
        };
        let matrices = &mut self.matrices.borrow_mut();
        let weight = PackedWeight::pack(
            self.checkpoint,
            spec,
            shape,
            self.kernels,
            precision,
            (self.exponents, number),
            matrices,
        )?;
        let finish = match (activation, gate) {
            (_, Some(gate)) => Finish::Gate(gate),
            (Some(activation), None) => Finish::Activate(activation),
            (None, None) => Finish::Keep,
        };
        Ok(Op::Linear {
            weight,
            bias: self
                .vector(step, "bias", rows)?
                .map(|bias| in_panel_order(&bias, shape, self.kernels.lanes)),
            finish,
        })
    }

    fn rope(&self, step: &Step, axis: Axis) -> Result<Op> {
        self.require_arity(step, 1, &[])?;
        ensure(axis == Axis::Tokens, || {
            "only tokens have positions to rotate by".into()
        })?;
        require_same_width(step)?;
        let p: RopeParameters = parameters(step)?;
        let even = p.head_dim > 0 && p.head_dim.is_multiple_of(2);
        let fits = even && p.dim == p.head_dim && step.out.width.is_multiple_of(p.head_dim);
        let scaling = p.scaling()?;
        ensure(fits && scaling.is_valid() && p.theta > 0.0, || {
            format!("{p:?} does not fit {} features", step.out.width)
        })?;
        Ok(Op::Rope(Rotation {
            head_dim: p.head_dim,
            theta: p.theta,
            scaling,
        }))
    }

    fn attention(&self, step: &Step) -> Result<Op> {
        self.require_arity(step, 3, &["bias"])?;
        let p: AttentionParameters = parameters(step)?;
        ensure(axis_of(self.program, &step.out)? == Axis::Tokens, || {
            "the result of attention must have one row for each token".into()
        })?;
        let counts = p.heads > 0 && p.kv_heads > 0 && p.head_dim > 0 && p.heads.is_multiple_of(p.kv_heads);
        let (q, kv) = (p.heads.checked_mul(p.head_dim), p.kv_heads.checked_mul(p.head_dim));
        let widths = [step.out.width, step.inputs[0].width]
            .into_iter()
            .all(|width| Some(width) == q)
            && step.inputs[1..].iter().all(|input| Some(input.width) == kv);
        ensure(counts && widths && p.scale > 0.0, || {
            format!("{p:?} does not fit its operands")
        })?;
        let bias = match self.weight(step, "bias")? {
            None => None,
            Some(spec) => {
                let buckets = spec
                    .sources
                    .first()
                    .and_then(|source| source.shape.first())
                    .copied()
                    .unwrap_or(0);
                ensure(buckets >= 4 && buckets.is_multiple_of(4), || {
                    format!("{buckets} relative position buckets; a multiple of 4 is needed")
                })?;
                ensure(p.furthest.is_none_or(|furthest| furthest > buckets / 4), || {
                    format!("{p:?} leaves no distances for the larger half of {buckets} buckets")
                })?;
                Some(floats(self.checkpoint, spec, &[buckets, p.heads])?)
            }
        };
        Ok(Op::Attention(p, bias))
    }

    fn elementwise(&self, step: &Step) -> Result<Op> {
        let two = matches!(step.op.as_str(), "add" | "glu");
        self.require_arity(
            step,
            1 + usize::from(two),
            if step.op == "scale" { &["by"] } else { &[] },
        )?;
        require_same_width(step)?;
        let operation = match step.op.as_str() {
            "glu" => Operation::Glu(parameters::<ActivationParameters>(step)?.kind),
            "activation" => Operation::Activate(parameters::<ActivationParameters>(step)?.kind),
            "scale" => {
                let ScaleParameters { by } = parameters(step)?;
                let by = match (by, self.vector(step, "by", 1)?) {
                    (Some(by), None) => by,
                    (None, Some(by)) => by[0],
                    _ => return Err(Error::Program("it needs either a number or a weight".into())),
                };
                Operation::Scale(by)
            }
            _ => {
                let NoParameters {} = parameters(step)?;
                Operation::Add
            }
        };
        Ok(Op::Elementwise(operation))
    }

    /// Checks the number of inputs and the roles of the weights.
    fn require_arity(&self, step: &Step, inputs: usize, roles: &[&str]) -> Result<()> {
        ensure(step.inputs.len() == inputs, || {
            format!("it has {} inputs, not {inputs}", step.inputs.len())
        })?;
        let unknown = step.weights.keys().find(|role| !roles.contains(&role.as_str()));
        ensure(unknown.is_none(), || {
            format!("a weight in the role {unknown:?}; the roles are {roles:?}")
        })
    }

    /// Returns the weight in a role, if the step has one.
    fn weight(&self, step: &Step, role: &str) -> Result<Option<&WeightSpec>> {
        let Some(&number) = step.weights.get(role) else {
            return Ok(None);
        };
        match self.program.weights.get(number) {
            Some(spec) => Ok(Some(spec)),
            None => Err(Error::Program(format!("there is no weight {number}"))),
        }
    }

    /// Reads the weight in a role as `len` values, if the step has one.
    fn vector(&self, step: &Step, role: &str, len: usize) -> Result<Option<Vec<f32>>> {
        self.weight(step, role)?
            .map(|spec| floats(self.checkpoint, spec, &[len]))
            .transpose()
    }
}

fn parameters<T: DeserializeOwned>(step: &Step) -> Result<T> {
    serde_json::from_value(step.parameters.clone()).map_err(|error| Error::Program(format!("parameters: {error}")))
}

fn missing(role: &str) -> Error {
    Error::Program(format!("the weight in the role {role:?} is missing"))
}

fn ensure(holds: bool, reason: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Program(reason())) }
}
