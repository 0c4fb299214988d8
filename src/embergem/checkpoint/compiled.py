"""Directories that `embergem compile` writes: manifest, program, weights, tokenizer. See docs/format.md."""

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Literal

import msgspec

from embergem.checkpoint.checkpoint import Checkpoint
from embergem.checkpoint.files import read_bytes, read_object
from embergem.errors import CorruptCheckpoint, UnsupportedModel

FORMAT = "embergem-model/1"
MANIFEST = "compiled.json"

Count = Annotated[int, msgspec.Meta(ge=1, lt=2**31)]


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A weight file, and what its tensors' names begin with in the program."""

    prefix: str
    file: str
    size: Annotated[int, msgspec.Meta(ge=1)]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How texts become ids."""

    limit: Count
    vocab_size: Count
    prompts: str | None
    builtin_prompts: str | None
    bare: bool


class Vectors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be done with the vectors."""

    dimensions: Count
    trained_dimensions: tuple[Count, ...]
    norm_before_cut: bool


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows of ids, and the vectors that this directory gave for them when it was made."""

    ids: tuple[tuple[Annotated[int, msgspec.Meta(ge=0, lt=2**32)], ...], ...]
    vectors: tuple[tuple[float, ...], ...]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of compiled.json; file names are relative to its directory."""

    format: str
    id: str
    model_type: str
    program: str
    weights: tuple[Weights, ...]
    tokenizer: str
    text: Text
    vectors: Vectors
    dtype: Literal["stored", "float32", "bfloat16", "int16", "int8"]
    fingerprint: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    golden: Golden


def recognised(root: Path) -> bool:
    """Whether the directory was written by `embergem compile`."""
    return (root / MANIFEST).is_file()


def read(root: Path) -> Checkpoint:
    """Read the manifest and check that its files are there.

    Raises:
        CorruptCheckpoint: It is damaged, incomplete, or names a file outside its directory.
        UnsupportedModel: It has a format that this version doesn't read.
    """
    path = root / MANIFEST
    found = read_object(path).get("format")
    if found != FORMAT:
        raise UnsupportedModel(
            f"{path} has the format {found!r}; this version reads {FORMAT!r}. Compile the model again with it"
        )
    try:
        manifest = msgspec.json.decode(read_bytes(path), type=Manifest)
    except msgspec.ValidationError as error:
        raise CorruptCheckpoint(f"{path}: {error}. Compile the model again") from error
    weights = tuple((entry.prefix, _inside(root, entry.file)) for entry in manifest.weights)
    for entry, (_, file) in zip(manifest.weights, weights, strict=True):
        if (size := file.stat().st_size) != entry.size:
            raise CorruptCheckpoint(f"{file} has {size} bytes instead of {entry.size}; compile the model again")
    prompts = manifest.text.prompts
    return Checkpoint(
        config={},
        head=(),
        weights=weights,
        tokenizer=_inside(root, manifest.tokenizer),
        prompts=None if prompts is None else read_bytes(_inside(root, prompts)).decode("utf-8-sig", "replace"),
        limit=manifest.text.limit,
        compiled=manifest,
        program=read_bytes(_inside(root, manifest.program)),
    )


def _inside(root: Path, name: str) -> Path:
    """Return the file of the directory that a manifest names; a name that leads out of it is refused."""
    pure = PurePosixPath(name)
    leaves = pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name or PureWindowsPath(name).drive
    if leaves or not (root / name).parent.resolve().is_relative_to(root.resolve()):
        raise CorruptCheckpoint(f"{root / MANIFEST}: the file {name!r} lies outside the directory")
    if not (root / name).is_file():
        raise CorruptCheckpoint(f"{root / name} is missing; the compiled model is not complete")
    return root / name
