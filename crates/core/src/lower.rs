//! Lowers a program's steps to kernels: finds and packs the weights, and checks once everything that the kernels later
//! take for granted (buffers, columns, widths, overlaps), so that no index is checked in a hot loop.

mod operands;

use self::operands::{Written, axis_of, overlaps, same_width};
use crate::error::{Error, Result};
use crate::format::checkpoint::Checkpoint;
use crate::format::table::Table;
use crate::kernels::elementwise::Operation;
use crate::kernels::gemm::Finish;
use crate::kernels::norm::Residual;
use crate::kernels::panels::{Shape, in_order_of_panels};
use crate::kernels::{Kernels, norm, pooling};
use crate::packed::Packs;
use crate::packed::weight::PackedWeight;
use crate::precision::Precision;
use crate::program::*;
use crate::weights::{floats, table};
use serde::de::DeserializeOwned;
use std::cell::RefCell;

/// Widest buffer that is taken for meant: products of it with a batch's rows are far from overflowing.
const WIDEST: usize = 1 << 20;

/// A step that is ready to run.
pub struct Lowered {
    /// What it does.
    pub op: Op,
    /// Where the result goes.
    pub out: Operand,
    /// What it reads.
    pub inputs: Vec<Operand>,
    /// What a row of the result is.
    pub axis: Axis,
}

/// An operation with its weights.
pub enum Op {
    /// Lookup.
    Embed {
        /// The table, mapped.
        table: Table,
        /// Position rows and the row of place 0.
        positions: Option<(Vec<f32>, usize)>,
        /// Added to every row.
        types: Option<Vec<f32>>,
        /// Multiplies the table's row.
        scale: f32,
    },
    /// RMS or layer norm.
    Norm {
        /// Statistics.
        kind: norm::Kind,
        /// Added to the mean square or variance.
        eps: f32,
        /// Features normalised together.
        group: usize,
        /// Where the second input enters.
        residual: Option<Residual>,
        /// One a feature of a group.
        weight: Option<Vec<f32>>,
        /// One a feature of a group.
        bias: Option<Vec<f32>>,
    },
    /// Matrix product.
    Linear {
        /// Packed weights.
        weight: PackedWeight,
        /// One a packed column.
        bias: Option<Vec<f32>>,
        /// What becomes of the sums.
        finish: Finish,
    },
    /// Rotary embedding.
    Rope(RopeParameters),
    /// Attention; the bias is by bucket and head.
    Attention(AttentionParameters, Option<Vec<f32>>),
    /// Element by element.
    Elementwise(Operation),
    /// Tokens to one vector a text.
    Pool(pooling::Kind),
    /// To length 1.
    Normalise,
}

/// Lowers all steps of `program`.
pub fn lower(
    program: &Program,
    checkpoint: &Checkpoint,
    kernels: &Kernels,
    precision: Precision,
    packs: &mut Packs,
) -> Result<Vec<Lowered>> {
    if let Some(buffer) = program.buffers.iter().find(|buffer| buffer.width > WIDEST) {
        return Err(Error::Program(format!("a buffer of width {}", buffer.width)));
    }
    let context = Context {
        program,
        checkpoint,
        kernels,
        precision,
        packs: RefCell::new(packs),
    };
    let mut written = Written::default();
    let steps = program.steps.iter().enumerate().map(|(number, step)| {
        written
            .require(&step.inputs)
            .and_then(|()| context.step(step))
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
    packs: RefCell<&'a mut Packs>,
}

impl Context<'_> {
    fn step(&self, step: &Step) -> Result<Lowered> {
        let axis = axis_of(self.program, &step.out)?;
        for input in &step.inputs {
            let axis_of_input = axis_of(self.program, input)?;
            ensure(axis_of_input == axis || step.op == "pool", || {
                format!("reads {axis_of_input:?}, writes {axis:?}")
            })?;
        }
        let op = match step.op.as_str() {
            "embed" => self.embed(step)?,
            "norm" => self.norm(step)?,
            "linear" => self.linear(step, axis)?,
            "rope" => self.rope(step, axis)?,
            "attention" => self.attention(step)?,
            "add" | "mul" | "glu" | "activation" | "scale" => self.elementwise(step)?,
            "pool" => {
                self.arity(step, 1, &[])?;
                let PoolParameters { kind } = parameters(step)?;
                ensure(
                    axis_of(self.program, &step.inputs[0])? == Axis::Tokens && axis == Axis::Rows,
                    || "pools tokens to rows".into(),
                )?;
                same_width(step)?;
                Op::Pool(kind)
            }
            "normalise" => {
                self.arity(step, 1, &[])?;
                let NoParameters {} = parameters(step)?;
                same_width(step)?;
                Op::Normalise
            }
            other => return Err(Error::Program(format!("no operation is called {other:?}"))),
        };
        overlaps(step, &op)?;
        Ok(Lowered {
            op,
            out: step.out,
            inputs: step.inputs.clone(),
            axis,
        })
    }

    fn embed(&self, step: &Step) -> Result<Op> {
        self.arity(step, 0, &["table", "positions", "types"])?;
        let p: EmbedParameters = parameters(step)?;
        ensure(axis_of(self.program, &step.out)? == Axis::Tokens, || {
            "embeds tokens".into()
        })?;
        let table = table(
            self.checkpoint,
            self.weight(step, "table")?.ok_or_else(|| missing("table"))?,
        )?;
        ensure(table.width == step.out.width, || {
            format!("a table of width {}", table.width)
        })?;
        let rows = |role: &str| -> Result<Option<Vec<f32>>> {
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
        let (positions, types) = (rows("positions")?, rows("types")?);
        let positions = positions.map(|values| (values, p.offset));
        Ok(Op::Embed {
            positions,
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
            Some(other) => return Err(Error::Program(format!("a residual {other:?}"))),
        };
        self.arity(step, 1 + usize::from(residual.is_some()), &["weight", "bias"])?;
        same_width(step)?;
        let whole = p.group > 0 && step.out.width.is_multiple_of(p.group);
        ensure(whole, || {
            format!("groups of {} in {} features", p.group, step.out.width)
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

    fn linear(&self, step: &Step, axis: Axis) -> Result<Op> {
        self.arity(step, 1, &["weight", "bias"])?;
        let LinearParameters { activation, gate } = parameters(step)?;
        ensure(activation.is_none() || gate.is_none(), || {
            "an activation and a gate".into()
        })?;
        let spec = self.weight(step, "weight")?.ok_or_else(|| missing("weight"))?;
        let shape = Shape {
            out: step.out.width,
            k: step.inputs[0].width,
            gated: gate.is_some(),
        };
        let rows = shape
            .rows()
            .ok_or_else(|| Error::Program("a product too wide".into()))?;
        // What comes after pooling is a small part of the work: it stays exact.
        let precision = if axis == Axis::Tokens {
            self.precision
        } else {
            Precision::Float32
        };
        let packs = &mut self.packs.borrow_mut();
        let weight = PackedWeight::pack(self.checkpoint, spec, shape, self.kernels.lanes, precision, packs)?;
        let finish = match (activation, gate) {
            (_, Some(gate)) => Finish::Gate(gate),
            (Some(activation), None) => Finish::Activate(activation),
            (None, None) => Finish::Keep,
        };
        Ok(Op::Linear {
            weight,
            bias: self
                .vector(step, "bias", rows)?
                .map(|bias| in_order_of_panels(&bias, shape, self.kernels.lanes)),
            finish,
        })
    }

    fn rope(&self, step: &Step, axis: Axis) -> Result<Op> {
        self.arity(step, 1, &[])?;
        ensure(axis == Axis::Tokens, || "turns tokens, which have places".into())?;
        same_width(step)?;
        let p: RopeParameters = parameters(step)?;
        let fits =
            p.dim > 0 && p.dim.is_multiple_of(2) && p.dim <= p.head_dim && step.out.width.is_multiple_of(p.head_dim);
        ensure(fits && p.theta > 0.0, || {
            format!("{p:?} on {} features", step.out.width)
        })?;
        Ok(Op::Rope(p))
    }

    fn attention(&self, step: &Step) -> Result<Op> {
        self.arity(step, 3, &["bias"])?;
        let p: AttentionParameters = parameters(step)?;
        ensure(axis_of(self.program, &step.out)? == Axis::Tokens, || {
            "attends over tokens".into()
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
                    format!("{buckets} relative position buckets")
                })?;
                Some(floats(self.checkpoint, spec, &[buckets, p.heads])?)
            }
        };
        Ok(Op::Attention(p, bias))
    }

    fn elementwise(&self, step: &Step) -> Result<Op> {
        let two = matches!(step.op.as_str(), "add" | "mul" | "glu");
        self.arity(
            step,
            1 + usize::from(two),
            if step.op == "scale" { &["by"] } else { &[] },
        )?;
        same_width(step)?;
        let operation = match step.op.as_str() {
            "glu" => Operation::Glu(parameters::<ActivationParameters>(step)?.kind),
            "activation" => Operation::Activate(parameters::<ActivationParameters>(step)?.kind),
            "scale" => {
                let ScaleParameters { by } = parameters(step)?;
                let by = match (by, self.vector(step, "by", 1)?) {
                    (Some(by), None) => by,
                    (None, Some(by)) => by[0],
                    _ => return Err(Error::Program("scale needs a number or a weight".into())),
                };
                Operation::Scale(by)
            }
            name => {
                let NoParameters {} = parameters(step)?;
                if name == "add" { Operation::Add } else { Operation::Mul }
            }
        };
        Ok(Op::Elementwise(operation))
    }

    fn arity(&self, step: &Step, inputs: usize, roles: &[&str]) -> Result<()> {
        ensure(step.inputs.len() == inputs, || {
            format!("{} inputs, not {inputs}", step.inputs.len())
        })?;
        let unknown = step.weights.keys().find(|role| !roles.contains(&role.as_str()));
        ensure(unknown.is_none(), || format!("a weight in the role {unknown:?}"))
    }

    fn weight(&self, step: &Step, role: &str) -> Result<Option<&WeightSpec>> {
        let Some(&number) = step.weights.get(role) else {
            return Ok(None);
        };
        match self.program.weights.get(number) {
            Some(spec) => Ok(Some(spec)),
            None => Err(Error::Program(format!("there is no weight {number}"))),
        }
    }

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
