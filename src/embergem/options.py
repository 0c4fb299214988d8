"""`LoadOptions`: every option of loading a model, as one frozen value.

Each entry point (embedder, command line, configuration file, compatibility layer) builds a `LoadOptions` at once and
passes it on unchanged; `embergem.loader.load` turns it into an engine.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from embergem.errors import UnsupportedOption
from embergem.keywords import checked_class
from embergem.suggestions import did_you_mean

DTYPES = {
    "float32": "exact to a few units in the last place",
    "bfloat16": "weights in half the memory, float32 sums; very fast with AMX, which rounds activations too",
    "int16": "fastest, weights in half the memory, near lossless",
    "int8": "weights in a third of the memory, slightly less exact",
    "auto": "int16 if its vectors were measured to have a cosine of at least 0.9999 to those of float32, else float32",
}
"""Values of `dtype`, each with its properties."""

DEFAULT_DTYPE = "float32"
ANY_ARCH = "auto"
"""Value of `arch` that accepts every model family."""

DEFAULT_TOKEN_SOURCE = "cache"
"""Token source: the variable HF_TOKEN, otherwise the file in which `hf auth login` stores the token."""

_TOKEN_KINDS = ("literal", "env", "path")


class LoadKeywords(TypedDict, total=False):
    """The fields of `LoadOptions` that `Embedder` and its relatives take as keyword arguments.

    The bounds of batches and queues are not among them: the server and the builder set these.
    """

    dtype: str | None
    threads: int | None
    device: str | None
    dense_from: str | Path | None
    allow_missing_dense: bool
    arch: str | None
    window: int | None
    tokenizer: str | Path | None
    revision: str | None
    hf_cache_path: str | Path | None
    token_source: str | None


@checked_class
@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """Which model to load, and how.

    Attributes:
        model: Hub id, name or alias of the catalog, directory, or GGUF file. None is the default model.
        dtype: Arithmetic of the large products, one of `DTYPES`. None is "float32".
        threads: Most threads to compute with. None is one a core.
        device: None or "cpu".
        arch: Family that the model must have, such as "embeddinggemma". None and "auto" accept every family.
        window: Sliding window in tokens that replaces the one in config.json. None keeps the one in config.json.
        dense_from: Model (named as in `model`) whose dense layers replace missing ones. None takes none.
        allow_missing_dense: Load a model without the dense layers that its family has. Its vectors are then in a vector
            space of their own.
        tokenizer: Path of a tokenizer.json that replaces the checkpoint's. None keeps the checkpoint's.
        revision: Branch, tag or commit of a hub model. None is the default branch.
        hf_cache_path: Cache directory of `huggingface_hub`. None is that library's default ($HF_HOME/hub).
        token_source: Source of the hub's access token: "cache", "none", "literal:TOKEN", "env:VARIABLE" or "path:FILE".
            None is "cache". The value is left out of `repr`, because it may contain the token.
        max_batch_tokens: Most tokens in a batch. None measures the best size at the first large request; see
            `embergem.engine.loop.Loop`.
        max_batch_rows: Most rows in a batch. None sets no bound on the rows.
        max_queue_tokens: Most tokens that wait in one lane; a request above the bound fails with `Overloaded`. None
            sets no bound, which suits callers in the same process.
        throughput_logging: Log texts and tokens per second at level INFO while the engine computes.

    Raises:
        UnsupportedOption: A value is invalid whatever the model's files say. Checks that need the files are made when
            the model is loaded.

    Example:
        >>> from embergem.options import LoadOptions
        >>> LoadOptions(model="org/name", dtype="int16").dtype
        'int16'
        >>> LoadOptions(token_source="literal:hf_secret") == LoadOptions(token_source="literal:hf_other")
        False
        >>> "hf_secret" in repr(LoadOptions(token_source="literal:hf_secret"))
        False
    """

    model: str | Path | None = None
    dtype: str | None = None
    threads: int | None = None
    device: str | None = None
    arch: str | None = None
    window: int | None = None
    dense_from: str | Path | None = None
    allow_missing_dense: bool = False
    tokenizer: str | Path | None = None
    revision: str | None = None
    hf_cache_path: str | Path | None = None
    token_source: str | None = field(default=None, repr=False)
    max_batch_tokens: int | None = None
    max_batch_rows: int | None = None
    max_queue_tokens: int | None = None
    throughput_logging: bool = False

    def __post_init__(self) -> None:
        for name in LoadOptions.__dataclass_fields__:
            _check_type(name, getattr(self, name))
        if self.dtype is not None and self.dtype not in DTYPES:
            why = " (its largest number is 65,504, and activations of Gemma models exceed that)"
            raise UnsupportedOption(
                f"dtype={self.dtype!r} is not available{why if self.dtype == 'float16' else ''}."
                f"{did_you_mean(self.dtype, DTYPES)} Choose one of: {', '.join(DTYPES)}.",
                param="dtype",
            )
        if self.device not in (None, "cpu"):
            raise UnsupportedOption(
                f"device={self.device!r} is not available: embergem computes on the CPU. Leave out device, or set it "
                'to "cpu".',
                param="device",
            )
        for name in ("threads", "max_batch_tokens", "max_batch_rows", "max_queue_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UnsupportedOption(f"{name}={value} is not possible. Give 1 or more, or None.", param=name)
        if self.window is not None and self.window < 2:
            raise UnsupportedOption(
                f"window={self.window} leaves no neighbouring token to attend to. Give 2 or more.", param="window"
            )
        if self.revision is not None and (not self.revision.strip() or ".." in self.revision):
            raise UnsupportedOption(
                f"revision={self.revision!r} is not a branch, tag or commit. Leave it out to use the default branch.",
                param="revision",
            )
        if self.token_source is not None:
            _check_token_source(self.token_source)


_STRINGS = ("dtype", "device", "arch", "revision", "token_source")
_PATHS = ("model", "dense_from", "tokenizer", "hf_cache_path")
_FLAGS = ("allow_missing_dense", "throughput_logging")


def _check_type(name: str, value: Any) -> None:
    """Raise `UnsupportedOption` if the option `name` cannot have a value of this type."""
    if name in _FLAGS:
        valid, wanted = isinstance(value, bool), "True or False"
    elif name in _STRINGS:
        valid, wanted = value is None or isinstance(value, str), "a string, or None"
    elif name in _PATHS:
        valid, wanted = value is None or isinstance(value, str | os.PathLike), "a string or a path, or None"
    else:
        valid = value is None or (hasattr(value, "__index__") and not isinstance(value, bool))  # NumPy's integers too
        wanted = "a whole number, or None"
    if not valid:  # the message has no value: that of `token_source` is secret
        raise UnsupportedOption(f"{name} is of type {type(value).__name__}. Give {wanted}.", param=name)


def _check_token_source(source: str) -> None:
    """Raise `UnsupportedOption` for an unknown kind of token source; the message never contains the value."""
    kind, colon, value = source.partition(":")
    if source in ("cache", "none") or (kind in _TOKEN_KINDS and colon and value.strip()):
        return
    raise UnsupportedOption(
        f'token_source begins with {kind[:7]!r}, which is not a source of access tokens. Use "cache" (HF_TOKEN, or '
        'the token that `hf auth login` stored), "none", "literal:TOKEN", "env:VARIABLE" or "path:FILE".',
        param="token_source",
    )


DEFAULTS = LoadOptions()
"""The default model with every option at its default."""
