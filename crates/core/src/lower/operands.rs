//! Checks of what a step reads and writes: inside a buffer, written before it is read, and without forbidden overlaps.

use super::{Op, ensure};
use crate::error::{Error, Result};
use crate::program::{Axis, Operand, Program, Step};

/// The columns that earlier steps have written. Buffers are reused by later batches, so columns that no step has
/// written contain values of another batch.
#[derive(Default)]
pub(super) struct WrittenColumns(Vec<Operand>);

impl WrittenColumns {
    /// Records that a step writes these columns.
    pub fn add(&mut self, operand: Operand) {
        self.0.push(operand);
    }

    /// Checks that earlier steps have written all columns of the operands.
    pub fn require(&self, operands: &[Operand]) -> Result<()> {
        for operand in operands {
            let mut column = operand.column;
            let end = column.saturating_add(operand.width);
            let written_up_to = |column: usize| {
                let covers = |one: &&Operand| {
                    one.buffer == operand.buffer && (one.column..one.column + one.width).contains(&column)
                };
                self.0.iter().filter(covers).map(|one| one.column + one.width).max()
            };
            while column < end {
                column = written_up_to(column).ok_or_else(|| {
                    Error::Program(format!("it reads {operand:?}, and column {column} was never written"))
                })?;
            }
        }
        Ok(())
    }
}

/// Checks that the operand lies inside its buffer, and returns the axis of the buffer.
pub(super) fn axis_of(program: &Program, operand: &Operand) -> Result<Axis> {
    let buffer = program.buffers.get(operand.buffer);
    let end = operand.column.checked_add(operand.width);
    match buffer {
        Some(buffer) if operand.width > 0 && end.is_some_and(|end| end <= buffer.width) => Ok(buffer.axis),
        _ => Err(Error::Program(format!("{operand:?} does not lie inside a buffer"))),
    }
}

/// Checks that all inputs are as wide as the result.
pub(super) fn require_same_width(step: &Step) -> Result<()> {
    let fits = step.inputs.iter().all(|input| input.width == step.out.width);
    ensure(fits, || {
        format!("the inputs must have the width of the result, {}", step.out.width)
    })
}

/// Checks that the result shares no column with an input.
///
/// A result may lie exactly over an input if the kernel reads the elements of a row before it writes them. A rotation
/// must be in place.
pub(super) fn require_no_overlap(step: &Step, op: &Op) -> Result<()> {
    let may_be_in_place = matches!(op, Op::Norm { .. } | Op::Rope(_) | Op::Elementwise(_) | Op::Normalise);
    for input in &step.inputs {
        let disjoint = input.buffer != step.out.buffer
            || input.column + input.width <= step.out.column
            || step.out.column + step.out.width <= input.column;
        let allowed = disjoint || (may_be_in_place && *input == step.out);
        ensure(allowed, || {
            format!("the result at {:?} overlaps the input at {input:?}", step.out)
        })?;
    }
    let in_place = !matches!(op, Op::Rope(_)) || step.inputs[0] == step.out;
    ensure(in_place, || "a rotation must be in place".into())
}
