"""`SentenceTransformer` with the interface of that library: code written for it runs after changing one import.

    from embergem.sentence_transformers import SentenceTransformer  # was: from sentence_transformers import ...

Vectors agree with that library to 1e-5 in every component. Inputs over the limit are cut, as there, but with a
`TruncationWarning`. `tables.CONSTRUCTOR` lists the arguments that are refused or ignored.
"""

import importlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from embergem.compat.arguments import check_arguments
from embergem.compat.sentence_transformers.tables import CONSTRUCTOR, CONSTRUCTOR_DEFAULTS
from embergem.embedder import Embedder
from embergem.engine import Engine
from embergem.errors import IgnoredOptionWarning, InvalidTask, UnsupportedOption
from embergem.hub.resolve import resolve
from embergem.open_backend import is_address, open_backend
from embergem.options import LoadOptions
from embergem.sdk.results import caller_stacklevel
from embergem.types import Vectors

Precision = Literal["float32", "binary", "ubinary"]

QUERY_NAMES = ("query",)
DOCUMENT_NAMES = ("document", "passage", "corpus")
"""Prompt names that `encode_query` and `encode_document` look for in `prompts`; the first one found is used."""


class SentenceTransformer:
    """A model with the methods of `sentence_transformers.SentenceTransformer`.

    Args:
        model_name_or_path: Hub id, alias, directory, or address of an embergem server.
        device: None or "cpu".
        prompts: Prompts by name. They take precedence over those that the files of the model declare.
        default_prompt_name: Prompt that `encode` uses by default; None is the one that the model declares, if any.
        truncate_dim: Keep the first components of each vector, up to this size. As in that library they are *not*
            scaled to length 1 again, unless `normalize_embeddings=True`.
        revision: Branch, tag or commit of a model of the hub.
        cache_folder: Directory to use as the cache of huggingface_hub, instead of $HF_HOME/hub.
        token: Access token for the hub. False sends none; None and True use the default of huggingface_hub.
        dtype, threads, dense_from, allow_missing_dense, arch, window, tokenizer: As for `Embedder`.
        options: The other arguments of that library, refused or ignored as docs/compatibility.md lists them.

    Raises:
        UnknownModel, LoadError, InsufficientMemory: The model cannot be loaded.
        UnsupportedOption: An argument is refused.

    Example:
        >>> from embergem.sentence_transformers import SentenceTransformer
        >>> model = SentenceTransformer("tests/data/goldens/gemma3_text")
        >>> model.encode(["What is graphene?", "a carbon lattice"]).shape, model.encode("one text").shape
        ((2, 96), (96,))
    """

    def __init__(
        self,
        model_name_or_path: str | Path | None = None,
        *,
        device: str | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        truncate_dim: int | None = None,
        revision: str | None = None,
        cache_folder: str | Path | None = None,
        token: bool | str | None = None,
        dtype: str | None = None,
        threads: int | None = None,
        dense_from: str | Path | None = None,
        allow_missing_dense: bool = False,
        arch: str | None = None,
        window: int | None = None,
        tokenizer: str | Path | None = None,
        **options: Any,
    ) -> None:
        for name in options:
            if name not in CONSTRUCTOR:
                raise TypeError(f"SentenceTransformer has no argument {name!r}")
        check_arguments("SentenceTransformer", options, CONSTRUCTOR_DEFAULTS, CONSTRUCTOR)
        load_options = LoadOptions(
            model=model_name_or_path,
            dtype=dtype,
            threads=threads,
            device=device,
            dense_from=dense_from,
            allow_missing_dense=allow_missing_dense,
            arch=arch,
            window=window,
            tokenizer=tokenizer,
            revision=revision,
            hf_cache_path=cache_folder,
            token_source=_token_source(token),
        )
        location = None if is_address(model_name_or_path) else resolve(load_options)
        declared = {} if location is None else _declared(location.path)
        # That library always has the prompts "query" and "document"; they are empty unless the files or the caller set
        # them. A client cannot see the files of the server, so the tasks of the server take the place of its prompts.
        self._at_server = location is None
        self.prompts: dict[str, str] = {} if self._at_server else {"query": "", "document": ""}
        self.prompts |= declared.get("prompts", {}) | dict(prompts or {})
        self._no_warning = set(prompts or ())  # prompt names for which no further warning is due
        self.default_prompt_name: str | None = default_prompt_name or declared.get("default_prompt_name")
        self.truncate_dim = truncate_dim
        self.embedder = Embedder(open_backend(load_options, location=location))
        if self.default_prompt_name is not None:
            try:
                self._prompt(self.default_prompt_name)
            except InvalidTask:
                self.close()
                raise

    @property
    def device(self) -> str:
        """The device that computes: "cpu"."""
        return "cpu"

    @property
    def max_seq_length(self) -> int:
        """Largest number of tokens of an input with special tokens. Longer inputs are cut, with a warning."""
        return self.embedder.limit

    def get_max_seq_length(self) -> int:
        """Return `max_seq_length`."""
        return self.max_seq_length

    def get_sentence_embedding_dimension(self) -> int:
        """Return the size of the vectors that `encode` returns, after `truncate_dim`."""
        return min(self.truncate_dim or self.embedder.dimensions, self.embedder.dimensions)

    def get_embedding_dimension(self) -> int:
        """Return the same as `get_sentence_embedding_dimension`, under the newer name."""
        return self.get_sentence_embedding_dimension()

    def encode(
        self,
        sentences: str | Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        output_value: str = "sentence_embedding",
        precision: Precision = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> Any:
        """Embed one text or several.

        Args:
            sentences: A text, or texts.
            prompt_name: Name of the prompt to put before each text: one of `prompts`, or a task of the model.
            prompt: Text to put before each text.
            batch_size: Ignored with a warning, because batches are packed by tokens.
            show_progress_bar: Whether to show a bar; None shows it on a terminal if there are many texts.
            output_value: "sentence_embedding".
            precision: "float32"; "ubinary", sign bits packed eight to a byte; "binary", the same minus 128, as int8.
            convert_to_numpy: Return a NumPy array; if False, a list of torch tensors.
            convert_to_tensor: Return one torch tensor.
            device: None or "cpu".
            normalize_embeddings: Scale the vectors to length 1, after `truncate_dim`.
            truncate_dim: Size to keep; None is the `truncate_dim` of the model.

        Returns:
            float32 array (n, d); (d,) for one text.

        Raises:
            InvalidTask: The model has no prompt of this name.
            UnsupportedOption: embergem does not support the value of an argument.

        Example:
            >>> from embergem.sentence_transformers import SentenceTransformer
            >>> model = SentenceTransformer("tests/data/goldens/gemma3_text", truncate_dim=32)
            >>> model.encode(["a", "b"], prompt="query: ", normalize_embeddings=True).shape
            (2, 32)
        """
        if output_value != "sentence_embedding":
            raise UnsupportedOption(f'output_value={output_value!r} is not supported; use "sentence_embedding".')
        if device not in (None, "cpu"):
            raise UnsupportedOption(
                f"device={device!r} is not available. This version computes on the CPU; leave out device.",
                param="device",
            )
        if batch_size is not None:
            message = "batch_size is ignored: batches are packed by tokens, and no vector depends on its batch."
            warnings.warn(message, IgnoredOptionWarning, stacklevel=2)
        texts = [sentences] if isinstance(sentences, str) else list(sentences)
        name = prompt_name or (None if prompt is not None else self.default_prompt_name)
        before, task = (prompt, None) if prompt is not None or name is None else self._prompt(name)
        vectors = np.empty((0, self.embedder.dimensions), dtype=np.float32)
        if texts:
            prompted = [before + text for text in texts] if before else texts
            vectors = self.embedder.embed(prompted, task=task, truncate=True, progress=show_progress_bar)
        shaped = _precision(_cut(vectors, truncate_dim or self.truncate_dim, normalize_embeddings), precision)
        if convert_to_tensor or not convert_to_numpy:
            tensor = _torch().from_numpy(shaped)
            whole = tensor if convert_to_tensor else list(tensor)
            return whole[0] if isinstance(sentences, str) else whole
        return shaped[0] if isinstance(sentences, str) else shaped

    def encode_query(self, sentences: str | Sequence[str], **options: Any) -> Any:
        """Embed queries with the prompt named "query" of `prompts`; see `encode`.

        As in that library, only the prompts that the files declare and those of `prompts=` count. If embergem knows a
        prompt that the files lack, a warning says so once.
        """
        return self.encode(sentences, **self._with_prompt(QUERY_NAMES, options))

    def encode_document(self, sentences: str | Sequence[str], **options: Any) -> Any:
        """Embed documents with the first of "document", "passage" and "corpus" in `prompts`; see `encode_query`."""
        return self.encode(sentences, **self._with_prompt(DOCUMENT_NAMES, options))

    def similarity(self, embeddings1: ArrayLike, embeddings2: ArrayLike) -> Vectors:
        """Return the cosine of each row of the first (n, d) with each row of the second (m, d), as float32 (n, m)."""
        return self.embedder.similarity(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: ArrayLike, embeddings2: ArrayLike) -> Vectors:
        """Return the cosine of each row of the first (n, d) with the same row of the second (n, d), as float32 (n,)."""
        first, second = np.atleast_2d(embeddings1), np.atleast_2d(embeddings2)
        pairs = zip(first, second, strict=True)
        return np.array([self.similarity(one, other)[0, 0] for one, other in pairs], dtype=np.float32)

    def tokens(self, sentences: str | Sequence[str]) -> list[int]:
        """Count the tokens of each text, special tokens included."""
        return self.embedder.count_tokens(sentences)

    def close(self) -> None:
        """Free the model."""
        self.embedder.close()

    def _prompt(self, name: str) -> tuple[str | None, str | None]:
        """Find the prompt `name`. Returns (prefix, None), or (None, task) if the name is a task of the model."""
        if name in self.prompts:
            if not self.prompts[name]:
                self._warn_of_unused_prompt(name)
            return self.prompts[name], None
        if name in self.embedder.tasks:
            return None, name
        known = ", ".join(dict.fromkeys([*self.prompts, *self.embedder.tasks])) or "none"
        raise InvalidTask(f"the model has no prompt named {name!r}. It has: {known}.", param="prompt_name")

    def _with_prompt(self, names: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
        if options.get("prompt") is not None or options.get("prompt_name") is not None:
            return options
        there = [*self.prompts, *(self.embedder.tasks if self._at_server else ())]
        found = next((name for name in names if name in there), None)
        return options if found is None else {**options, "prompt_name": found}

    def _warn_of_unused_prompt(self, name: str) -> None:
        """Warn once if the model is used without a prompt that embergem knows."""
        engine = self.embedder._backend
        if name in self._no_warning or not isinstance(engine, Engine) or name not in engine.tasks:
            return
        self._no_warning.add(name)
        pattern = (engine.prompt(name) or "").replace("{title}", "none")
        if prefix := pattern.removesuffix("{content}"):
            warnings.warn(
                f"{self.embedder.model} is used without a prompt for {name!r}, as in sentence-transformers, because "
                f"its files declare none. To use the prompt that embergem knows, give SentenceTransformer(..., "
                f"prompts={{{name!r}: {prefix!r}}}). To use none without this warning, give prompts={{{name!r}: ''}}.",
                UserWarning,
                stacklevel=caller_stacklevel(),
            )


def _token_source(token: bool | str | None) -> str | None:
    if isinstance(token, str):
        return f"literal:{token}"
    return "none" if token is False else None


def _declared(path: Path) -> dict[str, Any]:
    file = path / "config_sentence_transformers.json"
    if not file.exists():
        return {}
    declared: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return declared


def _cut(vectors: Vectors, dimensions: int | None, normalise: bool) -> Vectors:
    if dimensions is not None and not dimensions >= 1:
        raise UnsupportedOption(f"truncate_dim={dimensions} is not possible. Give 1 or more.", param="truncate_dim")
    kept = np.ascontiguousarray(vectors[:, :dimensions])
    if not normalise:
        return kept
    lengths = np.linalg.norm(kept, axis=1, keepdims=True)
    unit: Vectors = kept / np.maximum(lengths, np.float32(1e-12))
    return unit


def _precision(vectors: Vectors, precision: str) -> Any:
    if precision == "float32":
        return vectors
    if precision in ("ubinary", "binary"):
        bits = np.packbits(vectors > 0, axis=1)
        return bits if precision == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
    raise UnsupportedOption(
        f"precision={precision!r} is not supported, because its ranges depend on the batch. "
        'Use Embedder.embed(output="int8"), which scales each vector by itself.',
        param="precision",
    )


def _torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError:
        message = "convert_to_tensor needs the package torch, which is not installed: pip install torch"
        raise UnsupportedOption(message, param="convert_to_tensor") from None
