"""The `Program`: what `ops.trace` records, `program.rewrite` improves and the native executor runs.

It knows neither a dtype nor a machine. Buffers are `(tokens, width)` or, after pooling, `(rows, width)`; an operand is
a range of a buffer's columns, so that several results can share one buffer. The weights section names checkpoint
tensors and how to make each weight from them: a range of rows, a concatenation along rows, plus 1.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import msgspec

from embergem.errors import CorruptCheckpoint
from embergem.ops.trace import Axis, WeightSpec

FORMAT = "embergem-program/1"


@dataclass(frozen=True, slots=True)
class Buffer:
    """Storage for one value, or for several side by side."""

    width: int
    axis: Axis


@dataclass(frozen=True, slots=True)
class Operand:
    """Columns `column` to `column + width` of a buffer."""

    buffer: int
    column: int
    width: int


@dataclass(frozen=True, slots=True)
class Step:
    """One operation: `out = op(inputs, weights, parameters)`. Weights are indices by role ("weight", "bias", …)."""

    op: str
    out: Operand
    inputs: tuple[Operand, ...] = ()
    weights: Mapping[str, int] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Program:
    """Everything the executor needs besides the checkpoint itself."""

    key: str
    weights: tuple[WeightSpec, ...]
    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    output: Operand
    prefixes: tuple[str, ...] = ()
    """What tensor names of a checkpoint may begin with, besides the prefixes that are tried for every model."""

    @property
    def dimensions(self) -> int:
        """Width of the vectors it makes."""
        return self.output.width

    def to_json(self) -> str:
        """Serialise for the native executor; the same program gives the same text."""
        document = {"format": FORMAT, **asdict(self)}
        if not self.prefixes:
            del document["prefixes"]
        return json.dumps(document, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: bytes) -> "Program":
        """Read what `to_json` wrote. The native executor checks the same text in full.

        Raises:
            CorruptCheckpoint: It is not a program of this format.
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


def program_key(config: Any, head: Any) -> str:
    """Sha256 of the canonical JSON of what a program is traced from: the config fields read and the head's modules.

    A field that has its default is left out. The key is part of every space's fingerprint, so a new field must have a
    default that means what was done before; then it changes nothing for the models that there are.
    """
    modules = [{"module": type(module).__name__, **_stated(module)} for module in head]
    traced_from = {"config": _stated(config), "head": modules}
    return hashlib.sha256(json.dumps(traced_from, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _stated(thing: Any) -> dict[str, Any]:
    defaults = {field.name: field.default for field in fields(thing)}
    return {name: value for name, value in asdict(thing).items() if value != defaults[name]}


def _show(operand: Operand) -> str:
    return f"b{operand.buffer}[{operand.column}:{operand.column + operand.width}]"
