//! Rowwise steps: those that compute a row of the result from the same row of the inputs.

use super::{Operands, Run};
use crate::kernels::elementwise::Elementwise;
use crate::kernels::embed::Embed;
use crate::kernels::norm::Norm;
use crate::kernels::pooling::Normalise;
use crate::kernels::rope::Rope;
use crate::lower::{Lowered, Op};
use std::ops::Range;

/// Computes a range of rows of the step whose operands are given. Concurrent calls must get disjoint ranges.
pub(super) type Rowwise<'a> = Box<dyn Fn(&Operands, Range<usize>) + Sync + 'a>;

impl Run<'_> {
    /// Returns a rowwise step as a function of rows.
    ///
    /// # Panics
    /// For products, attention and pooling, which are executed by other methods.
    pub(super) fn rowwise<'a>(&'a self, step: &'a Lowered) -> Rowwise<'a> {
        let kernels = self.model.kernels;
        let width = step.out.width;
        match &step.op {
            Op::Embed {
                table,
                rows,
                weights,
                positions,
                types,
                scale,
            } => {
                let positions = positions
                    .as_ref()
                    .map(|table| (table.values.as_slice(), self.batch.places(table)));
                Box::new(move |operands, range| {
                    let args = Embed {
                        table,
                        rows: rows.as_deref(),
                        weights: weights.as_deref(),
                        ids: &self.batch.ids,
                        positions: positions.as_ref().map(|(values, places)| (*values, &**places)),
                        types: types.as_deref(),
                        scale: *scale,
                        width,
                        out: operands.out,
                    };
                    // SAFETY: `lower` checked that `out` lies inside its buffer, which has a row for each token of the
                    // batch. `Batch::new` checked ids and positions against the tables. Concurrent calls get disjoint
                    // rows.
                    unsafe { (kernels.embed)(&args, range) }
                })
            }
            Op::Norm {
                kind,
                eps,
                group,
                residual,
                weight,
                bias,
            } => {
                Box::new(move |operands, rows| {
                    let args = Norm {
                        kind: *kind,
                        eps: *eps,
                        x: operands.first(),
                        out: operands.out,
                        residual: residual.map(|residual| (operands.last(), residual)),
                        group: *group,
                        groups: width / group,
                        weight: weight.as_deref(),
                        bias: bias.as_deref(),
                    };
                    // SAFETY: `lower` checked that the operands lie inside their buffers, have the width of the result,
                    // and overlap only where the kernel allows it. The buffers have a row for each of these rows, and
                    // concurrent calls get disjoint rows.
                    unsafe { (kernels.norm)(&args, rows) }
                })
            }
            Op::Rope(p) => {
                let angles = self.model.angles(p, self.batch.longest);
                Box::new(move |operands, rows| {
                    let args = Rope {
                        x: operands.out,
                        heads: width / p.head_dim,
                        head_dim: p.head_dim,
                        positions: &self.batch.positions,
                        angles: &angles,
                    };
                    // SAFETY: `lower` checked that `out` lies inside its buffer, is the input, and has whole heads. The
                    // buffer has a row for each token; `angles` covers the longest text; concurrent calls get disjoint
                    // rows.
                    unsafe { (kernels.rope)(&args, rows) }
                })
            }
            Op::Elementwise(operation) => {
                Box::new(move |operands, rows| {
                    let args = Elementwise {
                        operation: *operation,
                        a: operands.first(),
                        b: operands.last(),
                        out: operands.out,
                        width,
                    };
                    // SAFETY: `lower` checked that the operands lie inside their buffers, have the width of the result,
                    // and overlap only where the kernel allows it. The buffers have a row for each of these rows, and
                    // concurrent calls get disjoint rows.
                    unsafe { (kernels.elementwise)(&args, rows) }
                })
            }
            Op::Normalise => Box::new(move |operands, rows| {
                let args = Normalise {
                    x: operands.first(),
                    out: operands.out,
                    width,
                };
                // SAFETY: `lower` checked that the operands lie inside their buffers, have the width of the result, and
                // overlap only where the kernel allows it. The buffers have a row for each of these rows, and
                // concurrent calls get disjoint rows.
                unsafe { (kernels.normalise)(&args, rows) }
            }),
            Op::Linear { .. } | Op::Attention(..) | Op::Pool(_) => unreachable!("this step is not rowwise"),
        }
    }
}
