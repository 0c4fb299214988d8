"""Where a model's files are, and what is known of the model before its weights are mapped."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embergem.models.head import Module

if TYPE_CHECKING:
    from embergem.checkpoint.compiled import Manifest

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PROMPTS_FILE = "config_sentence_transformers.json"


@dataclass(frozen=True, slots=True)
class Location:
    """A model that is on this machine.

    `id` is the name of the model: the hub id, with the revision if the caller named one (`hub.options.revised`), or the
    last component of a directory's path, never an absolute path.
    `path` is a directory in the layout of sentence-transformers, or a GGUF file. `revision` is the hub commit, if it is
    known. `dense_from` is the directory of a checkpoint whose dense layers complete a model that lost its own.
    `tokenizer` is the tokenizer.json that a GGUF file of the Gemma family uses if its directory has none.
    """

    id: str
    path: Path
    revision: str | None = None
    dense_from: Path | None = None
    tokenizer: Path | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The files of a model, read and checked as far as that is possible without its weights.

    `config` is config.json. `weights` are pairs of a tensor name prefix and a weight file: the prefix is "" for the
    body, and "2_Dense." for the dense module in that directory. `prompts` is the text of
    config_sentence_transformers.json.
    `limit` is the largest number of tokens of one input, special tokens included. `limit_declared` is true if the
    checkpoint declares the limit, and false if the limit follows from the tokenizer or the position table.
    `width` is the width of the hidden states that the pooling module declares. `remote_code` says which settings beside
    config.json name code that comes with the model.
    `hub_id` is the hub id that the files were downloaded under, if their directory shows it.
    `declared_names` are the names that the files give for the model or for the model it was made from, nearest first,
    in any spelling.
    A compiled model has a manifest (`compiled`) and a program instead of a config and a head.
    """

    config: dict[str, Any]
    head: tuple[Module, ...]
    weights: tuple[tuple[str, Path], ...]
    tokenizer: Path
    prompts: str | None
    limit: int
    limit_declared: bool = True
    width: int | None = None
    remote_code: tuple[str, ...] = ()
    hub_id: str | None = None
    declared_names: tuple[str, ...] = ()
    compiled: "Manifest | None" = None
    program: bytes = b""

    @property
    def files(self) -> list[tuple[str, str]]:
        """`weights` with paths as text, as the native module takes them."""
        return [(prefix, str(path)) for prefix, path in self.weights]
