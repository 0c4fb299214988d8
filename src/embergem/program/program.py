"""The `Program`: steps recorded by `ops.trace`, fused by `program.rewrite`, and run by the native executor.

A program depends on no dtype and no machine. Buffers are (tokens, width) or, after pooling, (rows, width). An operand
is a range of columns of a buffer, so several results can share a buffer. A weight is made from checkpoint tensors: a
range of rows, a concatenation along rows, plus 1.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

import msgspec

from embergem.errors import CorruptCheckpoint
from embergem.ops.trace import Axis, WeightSpec

FORMAT = "embergem-program/1"


@dataclass(frozen=True, slots=True)
class Buffer:
    """Storage for one value, or for several values in adjacent columns."""

    width: int
    axis: Axis


@dataclass(frozen=True, slots=True)
class Operand:
    """Columns `column` to `column + width` of buffer `buffer`."""

    buffer: int
    column: int
    width: int


@dataclass(frozen=True, slots=True)
class Step:
    """One operation: `out = op(inputs, weights, parameters)`.

    `weights` has the index of each weight by its role, such as "weight" or "bias".
    """

    op: str
    out: Operand
    inputs: tuple[Operand, ...] = ()
    weights: Mapping[str, int] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """Everything that the executor needs besides the checkpoint.

    It has no slots, so that it can keep its JSON and its digest: a load needs both more than once.
    """

    key: str
    weights: tuple[WeightSpec, ...]
    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    output: Operand
    prefixes: tuple[str, ...] = ()
    """Prefixes that a checkpoint may put before tensor names, besides those that are tried for every model."""

    @property
    def dimensions(self) -> int:
        """Size of the vectors."""
        return self.output.width

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the program in hex. Other than `key`, it stands for every step and parameter."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Return the program as JSON for the native executor. Equal programs give equal texts."""
        return self._json

    @cached_property
    def _json(self) -> str:
        values = {field.name: msgspec.to_builtins(getattr(self, field.name)) for field in fields(self)}
        document = {"format": FORMAT, **values}
        if not self.prefixes:
            del document["prefixes"]
        return json.dumps(document, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: bytes) -> "Program":
        """Read a program that `to_json` wrote. The native executor checks the content of the same text.

        Raises:
            CorruptCheckpoint: The text is not a program of this format.
        """
        try:
            document = msgspec.json.decode(text)
            if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
                raise msgspec.ValidationError(f"the format is not {FORMAT}")
            return msgspec.convert(document, cls)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise CorruptCheckpoint(
                f"the program of the compiled model is damaged: {error}. Compile it again"
            ) from error

    def __str__(self) -> str:
        lines = [f"program {self.key[:16]}: {len(self.weights)} weights, {len(self.buffers)} buffers"]
        for index, step in enumerate(self.steps):
            weights = [f"{role}={self._weight_name(number)}" for role, number in step.weights.items()]
            parameters = [f"{name}={value}" for name, value in step.parameters.items()]
            arguments = ", ".join([*(_show(operand) for operand in step.inputs), *weights, *parameters])
            lines.append(f"{index:4} {_show(step.out)} = {step.op}({arguments})")
        return "\n".join([*lines, f"     return {_show(self.output)}"])

    def _weight_name(self, number: int) -> str:
        spec = self.weights[number]
        parts = [s.tensor + (f"[{s.rows[0]}:{s.rows[1]}]" if s.rows else "") for s in spec.sources]
        return " ++ ".join(parts) + (f" + {spec.add:g}" if spec.add else "")


def program_key(config: Any, head: Any, family: str | None = None) -> str:
    """Return the sha256 of the canonical JSON of the config, the head and the family that a program is traced from.

    Fields that have their default are left out. The key is part of the fingerprint of a vector space: a new field of a
    config needs a default that stands for the earlier behaviour, so that keys of existing models do not change.
    """
    modules = [{"module": type(module).__name__, **_stated(module)} for module in head]
    traced_from: dict[str, Any] = {"config": _stated(config), "head": modules}
    if family is not None:
        traced_from["family"] = family
    return hashlib.sha256(json.dumps(traced_from, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _stated(thing: Any) -> dict[str, Any]:
    defaults = {field.name: field.default for field in fields(thing)}
    return {name: value for name, value in asdict(thing).items() if value != defaults[name]}


def _show(operand: Operand) -> str:
    return f"b{operand.buffer}[{operand.column}:{operand.column + operand.width}]"
