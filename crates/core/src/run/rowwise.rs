//! Steps that look at one row at a time, as functions of rows.

use super::{Operands, Run};
use crate::kernels::elementwise::Elementwise;
use crate::kernels::embed::Embed;
use crate::kernels::norm::Norm;
use crate::kernels::pooling::Normalise;
use crate::kernels::rope::Rope;
use crate::lower::{Lowered, Op};
use std::ops::Range;

/// Computes the given rows.
pub(super) type Local<'a> = Box<dyn Fn(Range<usize>) + Sync + 'a>;

impl Run<'_> {
    /// The step as a function of rows: any but products, attention and pooling, which have ways of their own.
    pub(super) fn local<'a>(&'a self, step: &'a Lowered, operands: &Operands) -> Local<'a> {
        let kernels = self.model.kernels;
        let (out, width) = (operands.out, step.out.width);
        let x = operands.inputs.first().copied().unwrap_or(out);
        let last = operands.inputs.last().copied().unwrap_or(out);
        // SAFETY, for every kernel call here and in the other modules of `run`: lowering checked that operands lie inside
        // their buffers, have the widths the kernel reads and overlap only where it may; the arena has the batch's rows;
        // ids and places were checked against the tables; tasks write disjoint rows, or disjoint columns of a product.
        match &step.op {
            Op::Embed {
                table,
                positions,
                types,
                scale,
            } => {
                let args = Embed {
                    table,
                    ids: &self.batch.ids,
                    places: &self.batch.places,
                    positions: positions.as_ref().map(|(values, offset)| (values.as_slice(), *offset)),
                    types: types.as_deref(),
                    scale: *scale,
                    width,
                    out,
                };
                // SAFETY: see above.
                Box::new(move |rows| unsafe { (kernels.embed)(&args, rows) })
            }
            Op::Norm {
                kind,
                eps,
                group,
                residual,
                weight,
                bias,
            } => {
                let args = Norm {
                    kind: *kind,
                    eps: *eps,
                    x,
                    out,
                    residual: residual.map(|place| (last, place)),
                    group: *group,
                    groups: width / group,
                    weight: weight.as_deref(),
                    bias: bias.as_deref(),
                };
                // SAFETY: see above.
                Box::new(move |rows| unsafe { (kernels.norm)(&args, rows) })
            }
            Op::Rope(p) => {
                let angles = self.model.angles(p.theta, p.dim, self.batch.longest);
                Box::new(move |rows| {
                    let args = Rope {
                        x: out,
                        heads: width / p.head_dim,
                        head_dim: p.head_dim,
                        places: &self.batch.places,
                        angles: &angles,
                    };
                    // SAFETY: see above.
                    unsafe { (kernels.rope)(&args, rows) }
                })
            }
            Op::Elementwise(operation) => {
                let args = Elementwise {
                    operation: *operation,
                    a: x,
                    b: last,
                    out,
                    width,
                };
                // SAFETY: see above.
                Box::new(move |rows| unsafe { (kernels.elementwise)(&args, rows) })
            }
            Op::Normalise => {
                let args = Normalise { x, out, width };
                // SAFETY: see above.
                Box::new(move |rows| unsafe { (kernels.normalise)(&args, rows) })
            }
            Op::Linear { .. } | Op::Attention(..) | Op::Pool(_) => unreachable!("these are not run row by row"),
        }
    }
}
