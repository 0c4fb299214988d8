"""What is known of a model before its weights are mapped."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embergem.models.head import Module

if TYPE_CHECKING:
    from embergem.checkpoint.compiled import Manifest

SINGLE = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model's files, read and checked as far as that is possible without its weights.

    `config` is config.json. `weights` are pairs (prefix of the tensor names, safetensors file): "" for the body, and
    "2_Dense." for the dense module in that directory. `prompts` is the text of config_sentence_transformers.json.
    `limit` is the most tokens of one input, special tokens included; `limit_declared` says that the checkpoint sets it
    as such, and it is not only what its positions allow.
    `hub_id` is the id on the hub that the files were fetched under, where their place tells; `said` are names that the
    files give of the model, or of the one that it was made from, nearest first, spelled freely.
    A compiled model has its manifest and its program instead of a config and a head.
    """

    config: dict[str, Any]
    head: tuple[Module, ...]
    weights: tuple[tuple[str, Path], ...]
    tokenizer: Path
    prompts: str | None
    limit: int
    limit_declared: bool = True
    hub_id: str | None = None
    said: tuple[str, ...] = ()
    compiled: "Manifest | None" = None
    program: bytes = b""

    @property
    def files(self) -> list[tuple[str, str]]:
        """`weights` as the native module takes them."""
        return [(prefix, str(path)) for prefix, path in self.weights]
