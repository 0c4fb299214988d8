"""The cost of a program: floating point operations of a batch, and bytes of packed weights.

Separate because only measurements and memory budgets use it; neither building nor running a program does.
"""

import math
from collections.abc import Sequence

import numpy as np

from embergem.program.program import Program, Step

BYTES_PER_WEIGHT = {"float32": 4.0, "int16": 2.0, "bfloat16": 2.0, "int8": 1.05}
"""Bytes of one number in the matrices of the linear layers, by dtype; int8 adds a scale and a sum for every 128."""


def flops(program: Program, lengths: Sequence[int]) -> int:
    """Return the floating point operations of linear layers and attention for rows of these lengths, in tokens."""
    return sum(step_flops(program, step, lengths) for step in program.steps)


def step_flops(program: Program, step: Step, lengths: Sequence[int]) -> int:
    """Return the floating point operations of one step; 0 for a step that is neither `linear` nor `attention`.

    The product of an (m, k) and a (k, n) matrix counts 2·m·k·n. Attention counts 4·head_dim for each head and each pair
    of a query and a key that the query sees.
    """
    if step.op == "linear":
        rows = sum(lengths) if program.buffers[step.out.buffer].axis == "tokens" else len(lengths)
        outputs = step.out.width * (2 if "gate" in step.parameters else 1)
        return 2 * rows * step.inputs[0].width * outputs
    if step.op == "attention":
        pairs = sum(_visible_pairs(n, step.parameters.get("radius"), step.parameters["causal"]) for n in lengths)
        return int(4 * pairs * step.parameters["heads"] * step.parameters["head_dim"])
    return 0


def weight_bytes(program: Program, dtype: str) -> int:
    """Return the bytes of the packed weights of `program` in the arithmetic `dtype`.

    Embedding tables are not counted: they stay mapped from the file and share its pages with the system's file cache.
    """
    tables = _tables(program)
    matrices = {
        step.weights["weight"]
        for step in program.steps
        if step.op == "linear" and program.buffers[step.out.buffer].axis == "tokens"
    }
    return sum(
        round(math.prod(weight.shape) * (BYTES_PER_WEIGHT[dtype] if number in matrices else 4))
        for number, weight in enumerate(program.weights)
        if number not in tables
    )


def query_bytes(program: Program, dtype: str, tokens: int) -> int:
    """Return the bytes of weights that one row of `tokens` tokens reads: all packed weights, and rows of the tables."""
    rows = sum(program.weights[number].shape[1] for number in _tables(program))
    return weight_bytes(program, dtype) + 4 * tokens * rows  # tables may also be in 16 bits: too little to matter


def _tables(program: Program) -> set[int]:
    """Return the numbers of the weights that are embedding tables."""
    return {number for step in program.steps if (number := step.weights.get("table")) is not None}


def _visible_pairs(length: int, radius: int | None, causal: bool) -> int:
    """Count the pairs of a query and a key that the query sees, in a row of `length` tokens."""
    position = np.arange(length)
    reach = length if radius is None else radius
    before = np.minimum(position, reach)
    after = np.zeros_like(position) if causal else np.minimum(length - 1 - position, reach)
    return int(np.sum(before + after + 1))
