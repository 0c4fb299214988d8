"""Assign the values of a trace to buffers.

A buffer is used again after the last read of its value. A result may overwrite an input that is not read again.
"""

from dataclasses import dataclass, field

from embergem.ops.trace import Recorded, TracedValue
from embergem.program.program import Buffer, Operand
from embergem.program.rewrite import Calls

OVERWRITES = {"norm": -1, "rope": 0, "activation": 0, "glu": 0, "add": 0, "scale": 0, "normalise": 0}
"""Operations that may overwrite an input, and the index of that input: for a norm the residual, if there is one."""


@dataclass(slots=True)
class Plan:
    """Buffers, and the operand of each value by its index."""

    buffers: list[Buffer] = field(default_factory=list)
    places: dict[int, Operand] = field(default_factory=dict)
    _free: list[int] = field(default_factory=list)

    def allocate(self, value: TracedValue) -> Operand:
        """Return a buffer for `value`: a free one of the same size, or a new one."""
        wanted = Buffer(value.width, value.axis)
        for number in self._free:
            if self.buffers[number] == wanted:
                self._free.remove(number)
                return Operand(number, 0, value.width)
        self.buffers.append(wanted)
        return Operand(len(self.buffers) - 1, 0, value.width)

    def release(self, number: int) -> None:
        """Let later values use buffer `number`."""
        self._free.append(number)


def plan(state: Calls, output: TracedValue) -> Plan:
    """Assign every value of a rewritten trace to a buffer; `output` keeps its buffer until the end."""
    result = Plan()
    last_read = {value.index: position for position, call in enumerate(state.calls) for value in call.inputs}
    last_read[output.index] = len(state.calls)
    live: dict[int, set[int]] = {}  # buffer -> its values that will still be read
    members: dict[int, list[int]] = {}  # a stacked value -> its slices
    for part, (whole, _) in state.slices.items():
        members.setdefault(whole, []).append(part)

    for position, call in enumerate(state.calls):
        place = _overwritten(call, position, last_read, result) or result.allocate(call.out)
        result.places[call.out.index] = place
        for part in members.get(call.out.index, []):
            column = state.slices[part][1]
            width = _width(state, part)
            result.places[part] = Operand(place.buffer, column, width)
        live.setdefault(place.buffer, set()).update(members.get(call.out.index, [call.out.index]))
        for value in call.inputs:
            if last_read[value.index] == position:
                number = result.places[value.index].buffer
                live[number].discard(value.index)
                if not live[number]:
                    result.release(number)
    return result


def _overwritten(call: Recorded, position: int, last_read: dict[int, int], plan: Plan) -> Operand | None:
    """Return the operand of the input that `call` may overwrite: one that is read here once and not later."""
    index = OVERWRITES.get(call.op)
    if index is None:
        return None
    value = call.inputs[index]
    free = last_read[value.index] == position and sum(other.index == value.index for other in call.inputs) == 1
    return plan.places[value.index] if free and value.axis == call.out.axis else None


def _width(state: Calls, part: int) -> int:
    """Return the features of a slice, as the call that reads it states them."""
    return next(value.width for call in state.calls for value in call.inputs if value.index == part)
