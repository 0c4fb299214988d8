"""Rules that fuse neighbouring calls of a trace. Each rule is exact: the rewritten program computes the same values.

1. `embed`, then `scale`: the lookup scales the rows that it reads.
2. Neighbouring linear layers of one input (q, k, v; gate, up): one product with the weights stacked. Each result is a
   range of its columns.
3. `add(x, norm(h))`, the residual of Gemma: the norm adds x to what it writes.
4. `norm(add(x, h))`, the residual of BERT: the norm adds h to what it reads.
5. `activation(linear(x))`: the product applies the activation to what it writes.
6. `glu(gate, up)` of the two halves of one product: the product writes only the gated half.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from embergem.ops.trace import Recorded, TracedValue, WeightSpec


@dataclass(slots=True)
class Calls:
    """A trace that is being rewritten.

    `slices` has the values that are columns of another value, as (index of that value, first column).
    """

    calls: list[Recorded]
    slices: dict[int, tuple[int, int]] = field(default_factory=dict)

    def uses(self) -> Counter[int]:
        """Return how often each value is read."""
        return Counter(value.index for call in self.calls for value in call.inputs)


def rewrite(calls: Sequence[Recorded]) -> Calls:
    """Return `calls` after all rules, applied in order."""
    state = Calls(list(calls))
    rules: Iterable[Callable[[Calls], None]] = (
        scale_while_embedding,
        stack_linears,
        add_after_norm,
        add_before_norm,
        activate_in_linear,
        gate_in_linear,
    )
    for rule in rules:
        rule(state)
    return state


def scale_while_embedding(state: Calls) -> None:
    """Apply rule 1 to lookups of a table only: with positions or types, another order of the sums would change bits."""
    for first, second in _pairs(state, "embed", "scale"):
        if set(first.weights) == {"table"} and "by" in second.parameters:
            _merge(
                state, first, second, replace(first, out=second.out, parameters=first.parameters | second.parameters)
            )


def stack_linears(state: Calls) -> None:
    """Apply rule 2. The stacked product takes the place of the first layer."""
    runs = [list(run) for _, run in groupby(state.calls, _stacks_with)]
    for group in (run for run in runs if run[0].op == "linear" and len(run) > 1):
        first = group[0]
        whole = TracedValue(-1 - first.out.index, sum(call.out.width for call in group), first.out.axis)
        weights = {
            role: WeightSpec(tuple(source for call in group for source in call.weights[role].sources))
            for role in first.weights
        }
        column = 0
        for call in group:
            state.slices[call.out.index] = (whole.index, column)
            column += call.out.width
        state.calls[state.calls.index(first)] = replace(first, out=whole, weights=weights)
        state.calls = [call for call in state.calls if call not in group[1:]]


def _stacks_with(call: Recorded) -> object:
    """Return a key that is equal for calls which can be stacked.

    Only neighbours are stacked: stacking distant calls would keep all their results in memory between them.
    """
    return (call.inputs[0].index, "bias" in call.weights) if call.op == "linear" else id(call)


def add_after_norm(state: Calls) -> None:
    """Apply rule 3."""
    for norm, add in _pairs(state, "norm", "add"):
        if norm.parameters["group"] == norm.out.width and add.inputs[1] == norm.out:
            fused = replace(
                norm,
                out=add.out,
                inputs=(*norm.inputs, add.inputs[0]),
                parameters=norm.parameters | {"residual": "after"},
            )
            _merge(state, norm, add, fused)


def add_before_norm(state: Calls) -> None:
    """Apply rule 4."""
    for add, norm in _pairs(state, "add", "norm"):
        if norm.parameters["group"] == norm.out.width and "residual" not in norm.parameters:
            fused = replace(
                norm, inputs=(add.inputs[1], add.inputs[0]), parameters=norm.parameters | {"residual": "before"}
            )
            _merge(state, add, norm, fused)


def activate_in_linear(state: Calls) -> None:
    """Apply rule 5."""
    for linear, activation in _pairs(state, "linear", "activation"):
        fused = replace(linear, out=activation.out, parameters={"activation": activation.parameters["kind"]})
        _merge(state, linear, activation, fused)


def gate_in_linear(state: Calls) -> None:
    """Apply rule 6. The widest values of a model are then written once instead of written, read and written again."""
    makers = {call.out.index: call for call in state.calls if call.op == "linear"}
    uses = state.uses()
    for glu in [call for call in state.calls if call.op == "glu"]:
        halves = [state.slices.get(value.index) for value in glu.inputs]
        if None in halves or any(uses[value.index] != 1 for value in glu.inputs):
            continue
        (gate, first), (up, second) = (half for half in halves if half is not None)
        linear = makers.get(gate)
        if gate == up and linear and (first, second, linear.out.width) == (0, glu.out.width, 2 * glu.out.width):
            for value in glu.inputs:
                del state.slices[value.index]
            _merge(state, linear, glu, replace(linear, out=glu.out, parameters={"gate": glu.parameters["kind"]}))


def _pairs(state: Calls, first: str, second: str) -> list[tuple[Recorded, Recorded]]:
    """Return pairs of a call of op `first` and the call of op `second` that is its only reader."""
    makers = {call.out.index: call for call in state.calls if call.op == first}
    uses = state.uses()
    return [
        (makers[value.index], call)
        for call in state.calls
        if call.op == second
        for value in call.inputs
        if value.index in makers and uses[value.index] == 1
    ]


def _merge(state: Calls, first: Recorded, second: Recorded, fused: Recorded) -> None:
    """Replace `second` by `fused` and remove `first`, unless this pass has already fused one of the two."""
    if first in state.calls and second in state.calls:
        state.calls[state.calls.index(second)] = fused
        state.calls.remove(first)
