//! What a step reads and writes: inside a buffer, written before it is read, and apart where it has to be.

use super::{Op, ensure};
use crate::error::{Error, Result};
use crate::program::{Axis, Operand, Program, Step};

/// The columns that steps have written. Buffers go from one batch to the next: what no step has written holds what an
/// earlier batch left there.
#[derive(Default)]
pub(super) struct Written(Vec<Operand>);

impl Written {
    /// A step writes these.
    pub fn add(&mut self, operand: Operand) {
        self.0.push(operand);
    }

    /// The operands hold this batch's values only.
    pub fn require(&self, operands: &[Operand]) -> Result<()> {
        for operand in operands {
            let mut column = operand.column;
            let end = column.saturating_add(operand.width);
            let next = |column: usize| {
                let covers = |one: &&Operand| {
                    one.buffer == operand.buffer && (one.column..one.column + one.width).contains(&column)
                };
                self.0.iter().filter(covers).map(|one| one.column + one.width).max()
            };
            while column < end {
                column = next(column).ok_or_else(|| {
                    Error::Program(format!("reads {operand:?}, and column {column} was never written"))
                })?;
            }
        }
        Ok(())
    }
}

/// The operand lies inside its buffer; returns what the buffer's rows are.
pub(super) fn axis_of(program: &Program, operand: &Operand) -> Result<Axis> {
    let buffer = program.buffers.get(operand.buffer);
    let end = operand.column.checked_add(operand.width);
    match buffer {
        Some(buffer) if operand.width > 0 && end.is_some_and(|end| end <= buffer.width) => Ok(buffer.axis),
        _ => Err(Error::Program(format!("{operand:?} does not lie inside a buffer"))),
    }
}

/// All operands are as wide as the result.
pub(super) fn same_width(step: &Step) -> Result<()> {
    let fits = step.inputs.iter().all(|input| input.width == step.out.width);
    ensure(fits, || format!("operands of other widths than {}", step.out.width))
}

/// A result may lie exactly over an input where the kernel reads a row's elements before it writes them; otherwise
/// they share no column. A rotation is always in place.
pub(super) fn overlaps(step: &Step, op: &Op) -> Result<()> {
    let row_by_row = matches!(op, Op::Norm { .. } | Op::Rope(_) | Op::Elementwise(_) | Op::Normalise);
    for input in &step.inputs {
        let apart = input.buffer != step.out.buffer
            || input.column + input.width <= step.out.column
            || step.out.column + step.out.width <= input.column;
        let allowed = apart || (row_by_row && *input == step.out);
        ensure(allowed, || {
            format!("the result at {:?} overlaps the input at {input:?}", step.out)
        })?;
    }
    let in_place = !matches!(op, Op::Rope(_)) || step.inputs[0] == step.out;
    ensure(in_place, || "rotates in place only".into())
}
