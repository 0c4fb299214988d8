"""Reads directories that `embergem compile` wrote: manifest, program, weights, tokenizer. See docs/format.md."""

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Literal

import msgspec

from embergem.checkpoint.checkpoint import Checkpoint
from embergem.checkpoint.files import read_bytes, read_object
from embergem.errors import CorruptCheckpoint, UnsupportedModel
from embergem.models import corrections

FORMAT = "embergem-model/1"
INT8_FORMAT = "embergem-model/2"
"""The format of directories with the matrices of int8 products as the kernels multiply them."""
MANIFEST = "compiled.json"

Count = Annotated[int, msgspec.Meta(ge=1, lt=2**31)]


class WeightFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A weight file. `prefix` is put before the names of its tensors to give their names in the program."""

    prefix: str
    file: str
    size: Annotated[int, msgspec.Meta(ge=1)]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class TextSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a text becomes token ids."""

    limit: Count
    vocab_size: Count
    prompts: str | None
    builtin_prompts: str | None
    bare: bool
    keep_unknown: bool = False


class VectorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The size of the vectors, and how they may be cut."""

    dimensions: Count
    trained_dimensions: tuple[Count, ...]
    norm_before_cut: bool


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows of token ids, and the float32 vectors that this directory gave for them when it was written."""

    ids: Annotated[tuple[tuple[Annotated[int, msgspec.Meta(ge=0, lt=2**32)], ...], ...], msgspec.Meta(min_length=1)]
    vectors: tuple[tuple[float, ...], ...]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of compiled.json. File names are relative to its directory."""

    format: str
    id: str
    model_type: str
    program: str
    weights: tuple[WeightFile, ...]
    tokenizer: str
    text: TextSettings
    vectors: VectorSettings
    dtype: Literal["stored", "float32", "bfloat16", "int16", "int8"]
    fingerprint: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    golden: Golden
    corrections: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 0
    """Number of the last correction of `embergem.models.corrections` that the program has."""


def is_compiled(root: Path) -> bool:
    """Return whether `embergem compile` wrote the directory."""
    return (root / MANIFEST).is_file()


def read_compiled(root: Path) -> Checkpoint:
    """Read the manifest of a compiled directory and check that its files exist and have the sizes it declares.

    Raises:
        CorruptCheckpoint: The manifest is damaged or names a file outside the directory, or a file is missing.
        UnsupportedModel: The manifest has a format that this version does not read, or the arithmetic of the family was
            corrected after the directory was written.
    """
    path = root / MANIFEST
    found = read_object(path).get("format")
    if found not in (FORMAT, INT8_FORMAT):
        raise UnsupportedModel(
            f"{path} has the format {found!r}, and this version of embergem reads {FORMAT!r} and {INT8_FORMAT!r}. "
            "Compile the model again with this version."
        )
    try:
        manifest = msgspec.json.decode(read_bytes(path), type=Manifest)
    except msgspec.ValidationError as error:
        raise CorruptCheckpoint(f"{path} is not valid: {error}. Compile the model again.") from error
    if correction := corrections.missing(manifest.model_type, manifest.corrections):
        raise UnsupportedModel(
            f"{path} was written before a correction of {manifest.model_type} models: {correction.what}. Its program "
            "gives other vectors than the original model. Compile the original model again."
        )
    weights = tuple((entry.prefix, _file_inside(root, entry.file)) for entry in manifest.weights)
    for entry, (_, file) in zip(manifest.weights, weights, strict=True):
        if (size := file.stat().st_size) != entry.size:
            raise CorruptCheckpoint(f"{file} has {size} bytes instead of {entry.size}. Compile the model again.")
    prompts = manifest.text.prompts
    return Checkpoint(
        config={},
        head=(),
        weights=weights,
        tokenizer=_file_inside(root, manifest.tokenizer),
        prompts=None if prompts is None else read_bytes(_file_inside(root, prompts)).decode("utf-8-sig", "replace"),
        limit=manifest.text.limit,
        compiled=manifest,
        program=read_bytes(_file_inside(root, manifest.program)),
    )


def _file_inside(root: Path, name: str) -> Path:
    """Return the file `name` of the directory; refuse a name that leads out of the directory."""
    pure = PurePosixPath(name)
    leaves = pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name or PureWindowsPath(name).drive
    if leaves or not (root / name).parent.resolve().is_relative_to(root.resolve()):
        raise CorruptCheckpoint(
            f"{root / MANIFEST} names the file {name!r}, which lies outside the directory. Compile the model again."
        )
    if not (root / name).is_file():
        raise CorruptCheckpoint(
            f"{root / name} is missing, so the compiled model is not complete. Compile the model again."
        )
    return root / name
