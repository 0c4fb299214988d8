"""`SentenceTransformer` with the interface of that library: code written for it runs after changing one import.

    from embergem.sentence_transformers import SentenceTransformer  # was: from sentence_transformers import ...

Vectors agree with that library to 1e-5 in every component. Inputs over the limit are cut, as there, but with a
`TruncationWarning`. `tables.CONSTRUCTOR` lists the arguments that are refused or ignored.
"""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from embergem.compat.arguments import check_arguments, not_supported
from embergem.compat.sentence_transformers.arrays import to_tensor
from embergem.compat.sentence_transformers.conversion import cut_vectors, input_texts, to_precision
from embergem.compat.sentence_transformers.members import UnsupportedMembers
from embergem.compat.sentence_transformers.prompts import Prompts, declared_settings
from embergem.compat.sentence_transformers.similarity import SimilarityFunction
from embergem.compat.sentence_transformers.tables import (
    CONSTRUCTOR,
    CONSTRUCTOR_DEFAULTS,
    ENCODE,
    ENCODE_DEFAULTS,
)
from embergem.compat.sentence_transformers.tokens import Tokenizer, pad_rows
from embergem.embedder import Embedder
from embergem.errors import InvalidTask, TruncationWarning, UnsupportedOption
from embergem.hub.resolve import resolve
from embergem.keywords import checked_class, require_known
from embergem.open_backend import is_address, open_backend
from embergem.options import LoadOptions
from embergem.sdk.results import caller_stacklevel
from embergem.types import Vectors

Input = str | Mapping[str, str]
"""A text, or {"text": the text}, which that library has for models of several kinds of input."""

Inputs = Input | Sequence[Input]
Precision = Literal["float32", "binary", "ubinary"]
Pool = dict[str, Any]

QUERY_NAMES = ("query",)
DOCUMENT_NAMES = ("document", "passage", "corpus")
"""Prompt names that `encode_query` and `encode_document` look for in `prompts`; the first one found is used."""


@checked_class
class SentenceTransformer(UnsupportedMembers):
    """A model with the methods of `sentence_transformers.SentenceTransformer`.

    Args:
        model_name_or_path: Hub id, alias, directory, or address of an embergem server.
        device: The vectors are computed on the CPU; another device than "cpu" is ignored with a warning.
        prompts: Prompts by name. They take precedence over those that the files of the model declare.
        default_prompt_name: Prompt that `encode` uses by default; None is the one that the model declares, if any.
        truncate_dim: Keep the first components of each vector, up to this size. As in that library they are *not*
            scaled to length 1 again, unless `normalize_embeddings=True`.
        similarity_fn_name: Function of `similarity`: "cosine", "dot", "euclidean" or "manhattan"; None is the one that
            the model declares, or "cosine".
        revision: Branch, tag or commit of a model of the hub.
        cache_folder: Directory to use as the cache of huggingface_hub, instead of $HF_HOME/hub.
        token: Access token for the hub. False sends none; None and True use the default of huggingface_hub.
        dtype, threads, dense_from, allow_missing_dense, arch, window, tokenizer: As for `Embedder`.
        options: The other arguments of that library, refused or ignored as docs/compatibility.md lists them.

    Pickling and copying keep the settings; the other process, or the copy, loads the model again.

    Raises:
        UnknownModel, LoadError, InsufficientMemory: The model cannot be loaded.
        UnsupportedOption: An argument is refused.

    Example:
        >>> from embergem.sentence_transformers import SentenceTransformer
        >>> model = SentenceTransformer("tests/data/goldens/gemma3_text")
        >>> model.encode(["What is graphene?", "a carbon lattice"]).shape, model.encode("one text").shape
        ((2, 96), (96,))
    """

    SUPPORTED_SIMILARITY_FN_NAMES = tuple(SimilarityFunction.possible_values())
    """Values of `similarity_fn_name`."""

    def __init__(
        self,
        model_name_or_path: str | Path | None = None,
        *,
        device: str | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | SimilarityFunction | None = None,
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
        own = inspect.signature(SentenceTransformer).parameters.keys() - {"options"}
        require_known("SentenceTransformer", options, own | CONSTRUCTOR.keys())
        check_arguments("SentenceTransformer", options, CONSTRUCTOR_DEFAULTS, CONSTRUCTOR)
        check_arguments("SentenceTransformer", {"device": device}, ENCODE_DEFAULTS, ENCODE)
        self._load_options = load_options = LoadOptions(
            model=model_name_or_path,
            dtype=dtype,
            threads=threads,
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
        declared = {} if location is None else declared_settings(location.path)
        self._prompts = Prompts(None if location is None else declared.get("prompts", {}), prompts or {})
        self.default_prompt_name: str | None = default_prompt_name or declared.get("default_prompt_name")
        self.truncate_dim = truncate_dim
        self.similarity_fn_name = similarity_fn_name or declared.get("similarity_fn_name") or SimilarityFunction.COSINE
        self._max_seq_length: int | None = None
        self.embedder = Embedder(open_backend(load_options, location=location))
        if self.default_prompt_name is not None:
            try:
                self._prompts.find(self.default_prompt_name, self.embedder)
            except InvalidTask:
                self.close()
                raise

    def __reduce__(self) -> tuple[Any, ...]:
        if self._load_options.token_source not in (None, "none"):
            raise TypeError(
                "token is a secret, so this SentenceTransformer cannot be pickled or copied. Leave it out, and log in "
                "with `hf auth login` or set HF_TOKEN."
            )
        settings = {
            "prompts": self.prompts,
            "default_prompt_name": self.default_prompt_name,
            "similarity_fn_name": self.similarity_fn_name,
            "truncate_dim": self.truncate_dim,
        }
        return _make, (type(self), self._load_options, settings, self._max_seq_length)

    @classmethod
    def load(cls, input_path: str) -> Self:
        """Load the model of a directory."""
        return cls(input_path)

    @property
    def prompts(self) -> dict[str, str]:
        """Prompts by name: the texts that are put before an input. The dictionary can be changed."""
        return self._prompts.by_name

    @prompts.setter
    def prompts(self, prompts: Mapping[str, str]) -> None:
        self._prompts.by_name = dict(prompts)

    @property
    def device(self) -> str:
        """The device that computes: "cpu"."""
        return "cpu"

    @property
    def dtype(self) -> str:
        """The arithmetic of the model, such as "float32" or "int16"."""
        return self.embedder.dtype

    @property
    def modalities(self) -> list[str]:
        """The kinds of input: ["text"]."""
        return ["text"]

    def supports(self, modality: str) -> bool:
        """Return whether the model embeds inputs of this kind."""
        return modality in self.modalities

    def get_backend(self) -> str:
        """Return "embergem"."""
        return "embergem"

    def get_model_kwargs(self) -> list[str]:
        """Return the further keyword arguments that `encode` takes: none."""
        return []

    @property
    def similarity_fn_name(self) -> str:
        """Function of `similarity` and `similarity_pairwise`."""
        return self._similarity.value

    @similarity_fn_name.setter
    def similarity_fn_name(self, name: str | SimilarityFunction) -> None:
        if not isinstance(name, SimilarityFunction) and name not in self.SUPPORTED_SIMILARITY_FN_NAMES:
            known = ", ".join(self.SUPPORTED_SIMILARITY_FN_NAMES)
            raise UnsupportedOption(
                f"similarity_fn_name={name!r} is unknown. Give one of: {known}.", param="similarity_fn_name"
            )
        self._similarity = SimilarityFunction(name)

    @property
    def max_seq_length(self) -> int:
        """Largest number of tokens of an input with special tokens. Longer inputs are cut, with a warning.

        It can be lowered.

        Raises:
            UnsupportedOption: The new value is above the limit of the model, or the model is at a server.
        """
        return self._max_seq_length or self.embedder.limit

    @max_seq_length.setter
    def max_seq_length(self, tokens: int) -> None:
        if not 1 <= tokens <= self.embedder.limit:
            raise UnsupportedOption(
                f"max_seq_length={tokens} is not possible: the limit of {self.embedder.model} is {self.embedder.limit} "
                "tokens. Give a smaller number.",
                param="max_seq_length",
            )
        if tokens != self.embedder.limit:
            self.tokenizer.rows(["a"], tokens)  # refuses a model of a server, and a value below the special tokens
        self._max_seq_length = None if tokens == self.embedder.limit else tokens

    def get_max_seq_length(self) -> int:
        """Return `max_seq_length`."""
        return self.max_seq_length

    def get_sentence_embedding_dimension(self) -> int:
        """Return the size of the vectors that `encode` returns, after `truncate_dim`."""
        return min(self.truncate_dim or self.embedder.dimensions, self.embedder.dimensions)

    def get_embedding_dimension(self) -> int:
        """Return the same as `get_sentence_embedding_dimension`, under the newer name."""
        return self.get_sentence_embedding_dimension()

    @contextmanager
    def truncate_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Set `truncate_dim` for the length of a `with` block."""
        before, self.truncate_dim = self.truncate_dim, truncate_dim
        try:
            yield
        finally:
            self.truncate_dim = before

    truncate_sentence_embeddings = truncate_embeddings

    def set_pooling_include_prompt(self, include_prompt: bool) -> None:
        """Refuse to change whether pooling reads the tokens of the prompt: the files of the model declare it."""
        raise UnsupportedOption(
            not_supported(
                f"set_pooling_include_prompt({include_prompt})",
                "the value is the checkpoint's. Set include_prompt in 1_Pooling/config.json, and load the model again",
            ),
            param="include_prompt",
        )

    def is_singular_input(self, inputs: object) -> bool:
        """Return whether `inputs` is one input and not a list of them."""
        return isinstance(inputs, str | Mapping)

    def encode(
        self,
        inputs: Inputs | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        output_value: str = "sentence_embedding",
        precision: Precision = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | Sequence[str] | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: Pool | None = None,
        chunk_size: int | None = None,
        *,
        sentences: Inputs | None = None,
    ) -> Any:
        """Embed one text or several.

        Args:
            inputs: A text, or texts. {"text": a text} counts as the text.
            prompt_name: Name of the prompt to put before each text: one of `prompts`, or a task of the model.
            prompt: Text to put before each text.
            batch_size: Without effect, because batches are packed by tokens; a value gets an `IgnoredOptionWarning`.
            show_progress_bar: Whether to show a bar; None shows it on a terminal if there are many texts.
            output_value: "sentence_embedding".
            precision: "float32"; "ubinary", sign bits packed eight to a byte; "binary", the same minus 128, as int8.
            convert_to_numpy: Return a NumPy array; if False, a list of torch tensors.
            convert_to_tensor: Return one torch tensor.
            device: Without effect; another device than "cpu" gets an `IgnoredOptionWarning`.
            normalize_embeddings: Scale the vectors to length 1, after `truncate_dim`.
            truncate_dim: Size to keep; None is the `truncate_dim` of the model.
            pool: Without effect; a value gets an `IgnoredOptionWarning`.
            chunk_size: As `batch_size`.
            sentences: Older name of `inputs`.

        Returns:
            float32 array (n, d); (d,) for one text.

        Raises:
            InvalidTask: The model has no prompt of this name.
            InvalidType: An input is no text.
            UnsupportedOption: embergem does not support the value of an argument.

        Example:
            >>> from embergem.sentence_transformers import SentenceTransformer
            >>> model = SentenceTransformer("tests/data/goldens/gemma3_text", truncate_dim=32)
            >>> model.encode(["a", "b"], prompt="query: ", normalize_embeddings=True).shape
            (2, 32)
        """
        if output_value != "sentence_embedding":
            reason = 'embergem has the vectors of whole texts only. Use "sentence_embedding"'
            raise UnsupportedOption(not_supported(f"output_value={output_value!r}", reason), param="output_value")
        ignored = {"batch_size": batch_size, "chunk_size": chunk_size, "pool": pool, "device": device}
        check_arguments("encode", ignored, ENCODE_DEFAULTS, ENCODE)
        given = sentences if inputs is None else inputs
        if given is None:
            raise TypeError("encode needs inputs: a text, or texts")
        texts = input_texts([given] if self.is_singular_input(given) else list(given))
        name = prompt_name or (None if prompt is not None else self.default_prompt_name)
        before, task = (prompt, None) if prompt is not None or name is None else self._prompts.find(name, self.embedder)
        vectors = np.empty((0, self.embedder.dimensions), dtype=np.float32)
        if texts:
            vectors = self._embed([before + text for text in texts] if before else texts, task, show_progress_bar)
        kept = truncate_dim if truncate_dim is not None else self.truncate_dim
        shaped = to_precision(cut_vectors(vectors, kept, normalize_embeddings), precision)
        one = self.is_singular_input(given)
        if convert_to_tensor or not convert_to_numpy:
            tensor = to_tensor(shaped)
            whole = tensor if convert_to_tensor else list(tensor)
            return whole[0] if one else whole
        return shaped[0] if one else shaped

    def encode_query(self, inputs: Inputs | None = None, *arguments: Any, **options: Any) -> Any:
        """Embed queries with the prompt named "query" of `prompts`; see `encode`.

        As in that library, only the prompts that the files declare and those of `prompts=` count. If embergem knows a
        prompt that the files lack, a warning says so once.
        """
        return self.encode(inputs, *arguments, **self._with_prompt(QUERY_NAMES, arguments, options))

    def encode_document(self, inputs: Inputs | None = None, *arguments: Any, **options: Any) -> Any:
        """Embed documents with the first of "document", "passage" and "corpus" in `prompts`; see `encode_query`."""
        return self.encode(inputs, *arguments, **self._with_prompt(DOCUMENT_NAMES, arguments, options))

    def start_multi_process_pool(self, target_devices: Sequence[str] | None = None) -> Pool:
        """Return a pool without processes, for `encode_multi_process`: `encode` uses all threads of the model."""
        return {"input": None, "output": None, "processes": []}

    @staticmethod
    def stop_multi_process_pool(pool: Pool) -> None:
        """Accept the pool of `start_multi_process_pool`; there is nothing to stop."""

    def encode_multi_process(
        self,
        sentences: Sequence[Input],
        pool: Pool,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        chunk_size: int | None = None,
        show_progress_bar: bool | None = None,
        precision: Precision = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> NDArray[Any]:
        """Embed texts with all threads of the model; the arguments are those of `encode`."""
        check_arguments(
            "encode_multi_process", {"batch_size": batch_size, "chunk_size": chunk_size}, ENCODE_DEFAULTS, ENCODE
        )
        vectors: NDArray[Any] = self.encode(
            sentences,
            prompt_name,
            prompt,
            show_progress_bar=show_progress_bar,
            precision=precision,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
        )
        return vectors

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return the similarity of each row of the first (n, d) with each row of the second (m, d), as float32 (n, m).

        The function is `similarity_fn_name`. The result is a tensor if an argument is one.
        """
        return SimilarityFunction.to_similarity_fn(self._similarity)(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return the similarity of each row of the first (n, d) with the same row of the second, as float32 (n,)."""
        return SimilarityFunction.to_similarity_pairwise_fn(self._similarity)(embeddings1, embeddings2)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model; see `Tokenizer`."""
        return Tokenizer(self.embedder)

    def tokenize(self, texts: Sequence[Input]) -> Mapping[str, NDArray[np.int64]]:
        """Return `input_ids` and `attention_mask`, each int64 (n, longest), of texts cut to `max_seq_length`."""
        rows, _ = self.tokenizer.rows(input_texts(list(texts)), self.max_seq_length)
        return pad_rows(rows)

    def preprocess(self, inputs: Sequence[Input], prompt: str | None = None) -> Mapping[str, NDArray[np.int64]]:
        """Return `tokenize` of the texts with `prompt` before each."""
        return self.tokenize([(prompt or "") + text for text in input_texts(list(inputs))])

    def tokens(self, sentences: str | Sequence[str]) -> list[int]:
        """Count the tokens of each text, special tokens included."""
        return self.embedder.count_tokens(sentences)

    def evaluate(self, evaluator: Callable[..., Any], output_path: str | None = None) -> Any:
        """Call an evaluator of that library with this model, and return its result."""
        return evaluator(self, output_path)

    def close(self) -> None:
        """Free the model."""
        self.embedder.close()

    def _with_prompt(self, names: Sequence[str], arguments: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
        """Return `options` with the prompt of a query or document, unless the caller named one."""
        positional = [argument for argument in arguments[:2] if argument is not None]
        if positional or any(options.get(name) is not None for name in ("prompt", "prompt_name")):
            return options
        found = self._prompts.first_of(names, self.embedder)
        return options if found is None else {**options, "prompt_name": found}

    def _embed(self, texts: list[str], task: str | None, progress: bool | None) -> Vectors:
        if self._max_seq_length is None:
            return self.embedder.embed(texts, task=task, truncate=True, progress=progress)
        rows, cut = self.tokenizer.rows(texts, self._max_seq_length, task)
        if cut:
            message = f"{len(cut)} inputs were cut to {self._max_seq_length} tokens: indices {cut[:10]}"
            warnings.warn(message, TruncationWarning, stacklevel=caller_stacklevel())
        return self.embedder.embed(rows, progress=progress)


def _make(
    kind: Callable[..., SentenceTransformer],
    options: LoadOptions,
    settings: Mapping[str, Any],
    max_seq_length: int | None,
) -> SentenceTransformer:
    """Load a pickled or copied model again."""
    renamed = {
        "model_name_or_path": options.model,
        "cache_folder": options.hf_cache_path,
        "token": False if options.token_source == "none" else None,
    }
    same = ("dtype", "threads", "dense_from", "allow_missing_dense", "arch", "window", "tokenizer", "revision")
    model = kind(**renamed, **{name: getattr(options, name) for name in same}, **settings)
    if max_seq_length is not None:
        model.max_seq_length = max_seq_length
    return model


def _token_source(token: bool | str | None) -> str | None:
    if isinstance(token, str):
        return f"literal:{token}"
    return "none" if token is False else None
