"""How much memory a program's weights take once they are packed."""

import math

from embergem.program.program import Program

WIDTHS = {"float32": 4.0, "int16": 2.0, "bfloat16": 2.0, "int8": 1.125}
"""Bytes of a number in the large products, by dtype; int8 has a scale for every 32."""


def weight_bytes(program: Program, dtype: str) -> int:
    """Return the bytes of packed weights. Embedding tables stay mapped, shared with the file cache, and don't count."""
    tables = {number for step in program.steps if (number := step.weights.get("table")) is not None}
    products = {
        step.weights["weight"]
        for step in program.steps
        if step.op == "linear" and program.buffers[step.out.buffer].axis == "tokens"
    }
    return sum(
        round(math.prod(weight.shape) * (WIDTHS[dtype] if number in products else 4))
        for number, weight in enumerate(program.weights)
        if number not in tables
    )
