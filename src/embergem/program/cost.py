"""How much arithmetic a batch takes: what speed is compared with."""

from collections.abc import Sequence

import numpy as np

from embergem.program.program import Program, Step


def flops(program: Program, lengths: Sequence[int]) -> int:
    """Return the floating point operations of the matrix products and the attention for rows of these lengths."""
    return sum(step_flops(program, step, lengths) for step in program.steps)


def step_flops(program: Program, step: Step, lengths: Sequence[int]) -> int:
    """Return those of one step; 0 for what is neither.

    A product of (m, k) with (k, n) counts 2·m·k·n; attention 4·head_dim a pair of query and visible key, and head.
    """
    if step.op == "linear":
        rows = sum(lengths) if program.buffers[step.out.buffer].axis == "tokens" else len(lengths)
        outputs = step.out.width * (2 if "gate" in step.parameters else 1)
        return 2 * rows * step.inputs[0].width * outputs
    if step.op == "attention":
        pairs = sum(_visible(n, step.parameters.get("radius"), step.parameters["causal"]) for n in lengths)
        return int(4 * pairs * step.parameters["heads"] * step.parameters["head_dim"])
    return 0


def _visible(length: int, radius: int | None, causal: bool) -> int:
    """Count the pairs of a query and a key that it sees, in a row of `length`."""
    place = np.arange(length)
    reach = length if radius is None else radius
    behind = np.minimum(place, reach)
    ahead = np.zeros_like(place) if causal else np.minimum(length - 1 - place, reach)
    return int(np.sum(behind + ahead + 1))
