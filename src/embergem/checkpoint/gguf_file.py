"""One GGUF file: its metadata, of which every entry is read, known to change no vector, or refused.

llama.cpp has about 200 settings, and a file has those of its architecture. A setting that is skipped without a word can
be the one that makes another model of the file. A reader therefore takes each setting with `GgufFile.get` or `expect`,
and calls `require_all_read` at its end. Tensors that no program reads are refused by crates/core/src/unread.rs.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from embergem.checkpoint.files import shortened
from embergem.errors import CorruptCheckpoint, UnsupportedModel


@dataclass(frozen=True, slots=True)
class Inert:
    """Metadata that changes no vector while its value is one of `values`; whatever its value if there are none.

    `keys` are patterns. `{}` stands for the architecture.
    """

    keys: tuple[str, ...]
    reason: str
    values: tuple[Any, ...] = ()


INERT = (
    Inert(("general.*",), "says what the file is, and who made it from what"),
    Inert(("tokenizer.*",), "belongs to the tokenizer in the file, and tokenizer.json is read instead"),
    Inert(("quantize.*",), "says how the weights were quantised"),
    Inert(("split.no", "split.tensors.count"), "numbers the files of a model"),
    Inert(("split.count",), "counts the files of a model, and embergem reads a model in one file", (0, 1)),
    Inert(("{}.vision.*", "{}.mm.*", "clip.*"), "belongs to images, which texts do not pass through"),
    Inert(("{}.final_logit_softcapping", "{}.classifier.*"), "belongs to a head that an embedding does not use"),
    Inert(("{}.attn_logit_softcapping",), "bounds the attention scores", (0.0,)),
    Inert(("{}.rope.scaling.type",), "stretches the rotary positions", ("none",)),
    Inert(("{}.rope.scaling.factor",), "stretches the rotary positions", (0.0, 1.0)),
    Inert(("{}.tensor_data_layout",), "names the layout of the tensors", ("reference",)),
)


@dataclass(slots=True)
class GgufFile:
    """The metadata of a GGUF file and the shapes of its tensors."""

    path: Path
    metadata: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    _read: set[str] = field(default_factory=set)

    @classmethod
    def open(cls, path: Path) -> "GgufFile":
        """Map the file and read its header. `_native.Tensors` says what errors it raises."""
        from embergem._native import Tensors  # imported here so that resolving a name needs no native module

        tensors = Tensors([("", str(path))])
        return cls(path, json.loads(tensors.metadata), {name: tuple(shape) for name, shape, _ in tensors.list})

    @property
    def architecture(self) -> str:
        """The architecture that the file names; "" if it names none."""
        return str(self.metadata.get("general.architecture", ""))

    def get(self, key: str, kind: type[Any], default: Any = None) -> Any:
        """Return the value of `<architecture>.<key>`. Without a default the key is required.

        Raises:
            CorruptCheckpoint: The value is missing, of another type, or negative.
        """
        name = self._name(key)
        value = self.metadata.get(name, default)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind or (kind is not bool and value < 0):
            raise CorruptCheckpoint(
                f"{self.path}: {name} should be a {kind.__name__}, found {shortened(value)}. Convert the model again."
            )
        return value

    def expect(self, key: str, *allowed: Any, reason: str) -> None:
        """Refuse the file if it has `<architecture>.<key>` with a value that is not one of `allowed`.

        Raises:
            UnsupportedModel: It has; `reason` is part of the message.
        """
        name = self._name(key)
        if name in self.metadata and self.metadata[name] not in allowed:
            raise _unsupported(self.path, name, self.metadata[name], allowed, reason)

    def size(self, tensor: str, axis: int = 0) -> int:
        """Return the size of a required matrix along an axis.

        Raises:
            CorruptCheckpoint: There is no such matrix.
        """
        shape = self.shapes.get(tensor)
        if shape is None or len(shape) != 2:
            raise CorruptCheckpoint(
                f"{self.path} should have a matrix {tensor}, found the shape {shape}. Convert the model again."
            )
        return shape[axis]

    def require_all_read(self) -> None:
        """Refuse metadata that was neither read nor is listed in `INERT`.

        Raises:
            UnsupportedModel: There is such metadata; the message names the first key.
        """
        for name in self._unread():
            inert = next((one for one in INERT if any(self._matches(name, pattern) for pattern in one.keys)), None)
            value = self.metadata[name]
            if inert is None:
                raise UnsupportedModel(
                    f"{self.path}: {name} is {shortened(value)}. embergem does not know this setting of a "
                    f"{self.architecture} model, so it cannot tell whether the setting changes the vectors. Use the "
                    "safetensors files of the model."
                )
            if inert.values and value not in inert.values:
                raise _unsupported(self.path, name, value, inert.values, inert.reason)

    def _name(self, key: str) -> str:
        name = f"{self.architecture}.{key}"
        self._read.add(name)
        return name

    def _unread(self) -> Iterator[str]:
        return (name for name in sorted(self.metadata) if name not in self._read)

    def _matches(self, name: str, pattern: str) -> bool:
        return fnmatchcase(name, pattern.format(self.architecture))


def _unsupported(path: Path, name: str, value: Any, allowed: tuple[Any, ...], reason: str) -> UnsupportedModel:
    known = " or ".join(shortened(one) for one in allowed)
    return UnsupportedModel(
        f"{path}: {name} is {shortened(value)}; embergem supports {known} here ({reason}). Use the safetensors files "
        "of the model."
    )
