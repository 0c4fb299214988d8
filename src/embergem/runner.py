"""The selector-style API: name the kind of model with `Which`, make a `Runner`, send it requests.

The names and argument lists are those of mistral.rs' Python package as far as they concern embeddings, so that code
written for it runs after changing the import. An argument without meaning on this engine warns when it is used, or is
refused with the reason; none is swallowed.
"""

import inspect
import warnings
from dataclasses import dataclass
from enum import Enum
from typing import cast

import numpy as np

from embergem.checkpoint.resolve import resolve
from embergem.engine import Engine, Request
from embergem.errors import IgnoredOptionWarning, UnknownModel, UnsupportedModel, UnsupportedOption

Input = str | list[str] | list[int] | list[list[int]]


class EmbeddingArchitecture(Enum):
    """Model families by the names that selectors use; the value is the `model_type` of config.json."""

    EmbeddingGemma = "gemma3_text"
    Qwen3Embedding = "qwen3"


class ModelDType(Enum):
    """Arithmetic of the forward pass. `Auto` is float32."""

    Auto = "auto"
    F32 = "float32"
    BF16 = "bfloat16"
    F16 = "float16"


class EmbeddingRequest:
    """Inputs to embed: one text, texts, one row of token ids, or rows of token ids (taken verbatim).

    Args:
        input: What to embed.
        truncate_sequence: Cut inputs that are longer than the model's limit instead of refusing them.

    Raises:
        ValueError: There is nothing to embed, or a token id is not an unsigned 32-bit number.
        TypeError: `input` is none of the four forms.

    Example:
        >>> from embergem import EmbeddingRequest
        >>> EmbeddingRequest(input=["What is graphene?"], truncate_sequence=True)
        EmbeddingRequest(1 text, truncate_sequence=True)
    """

    def __init__(self, input: Input, truncate_sequence: bool = False) -> None:  # noqa: A002 - the interface's name
        if not isinstance(truncate_sequence, bool):
            raise TypeError(f"truncate_sequence is a bool, not {type(truncate_sequence).__name__}")
        self._texts, self._ids = _parse(input)
        self._truncate = truncate_sequence

    def __repr__(self) -> str:
        count, noun = (len(self._texts), "text") if self._texts else (len(self._ids or ()), "token row")
        plural = "" if count == 1 else "s"
        return f"EmbeddingRequest({count} {noun}{plural}, truncate_sequence={self._truncate})"


class Which:
    """Selects a model: `Which.Embedding(...)`."""

    @dataclass(frozen=True)
    class Embedding:
        """An embedding model.

        Args:
            model_id: Hub id, alias or directory.
            arch: The family it must be of; None takes what its config.json says.
            dtype: Arithmetic; `Auto` is float32.
            tokenizer_json, topology, write_uqff, from_uqff, hf_cache_path, imatrix, calibration_file: Part of the
                interface; `Runner` refuses those that are set, by name.
        """

        model_id: str
        arch: EmbeddingArchitecture | None = None
        tokenizer_json: str | None = None
        topology: str | None = None
        write_uqff: str | None = None
        from_uqff: str | list[str] | None = None
        dtype: ModelDType = ModelDType.Auto
        hf_cache_path: str | None = None
        imatrix: str | None = None
        calibration_file: str | None = None


_REFUSED_BY_WHICH = {
    "tokenizer_json": "the tokenizer comes with the checkpoint; put yours there as tokenizer.json",
    "topology": "there is one device, so nothing to place",
    "write_uqff": "embergem does not write UQFF",
    "from_uqff": "embergem reads safetensors",
    "hf_cache_path": "set HF_HOME, which the hub library honours",
    "imatrix": "nothing is quantised in float32",
    "calibration_file": "nothing is quantised in float32",
}
_REFUSED_BY_RUNNER = {
    "token_source": "set HF_TOKEN, which the hub library honours",
    "num_device_layers": "there is one device, so nothing to place",
    "in_situ_quant": "this version computes in float32 only",
    "anymoe_config": "this is for chat models",
    "enable_search": "this is for chat models",
    "search_embedding_model": "this is for chat models",
    "search_callback": "this is for chat models",
    "tool_callbacks": "this is for chat models",
    "mcp_client_config": "this is for chat models",
    "code_execution_config": "this is for chat models",
    "shell_config": "this is for chat models",
}


class Runner:
    """One model, ready for requests.

    Args:
        which: `Which.Embedding(...)`.
        max_seqs, …: The other arguments of the interface. Scheduling, cache and paged-attention settings change
            nothing about an embedding and warn with `IgnoredOptionWarning` when they differ from their defaults;
            those that ask for something embergem does not do are refused.

    Raises:
        ValueError: The model cannot be had or an argument is refused. (Every error of embergem that concerns the
            caller's input is a ValueError.)
        TypeError: `which` is no `Which.Embedding`, or an argument that the interface does not have.

    Example:
        >>> from embergem import EmbeddingArchitecture, EmbeddingRequest, Runner, Which
        >>> which = Which.Embedding("tests/data/goldens/gemma3_text", arch=EmbeddingArchitecture.EmbeddingGemma)
        >>> runner = Runner(which=which)
        >>> [vector] = runner.send_embedding_request(EmbeddingRequest(input="What is graphene?"))
        >>> len(vector)
        96
    """

    def __init__(
        self,
        which: "Which.Embedding",
        max_seqs: int = 16,
        no_kv_cache: bool = False,
        prefix_cache_n: int | None = 16,
        token_source: str = "cache",
        mtp_model: str | None = None,
        mtp_n_predict: int | None = None,
        chat_template: str | None = None,
        jinja_explicit: str | None = None,
        num_device_layers: list[str] | None = None,
        in_situ_quant: str | None = None,
        anymoe_config: object = None,
        pa_gpu_mem: int | None = None,
        pa_gpu_mem_usage: float | None = None,
        pa_ctxt_len: int | None = None,
        pa_blk_size: int | None = None,
        pa_cache_type: object = None,
        no_paged_attn: bool = False,
        paged_attn: bool = False,
        seed: int | None = None,
        enable_search: bool = False,
        search_embedding_model: object = None,
        search_callback: object = None,
        tool_callbacks: object = None,
        mcp_client_config: object = None,
        code_execution_config: object = None,
        shell_config: object = None,
    ) -> None:
        given = locals()  # first of all, while it holds the arguments and nothing else
        if not isinstance(which, Which.Embedding):
            raise TypeError(f"which is a Which.Embedding(...), not {type(which).__name__}")
        for name, reason in _REFUSED_BY_WHICH.items():
            if getattr(which, name) is not None:
                raise UnsupportedOption(f"Which.Embedding({name}=…) is not supported: {reason}", param=name)
        for name, argument in inspect.signature(Runner).parameters.items():
            if name == "which" or given[name] == argument.default:
                continue
            if name in _REFUSED_BY_RUNNER:
                raise UnsupportedOption(f"Runner({name}=…) is not supported: {_REFUSED_BY_RUNNER[name]}", param=name)
            message = f"Runner({name}={given[name]!r}) has no meaning for embedding models on this engine; not used"
            warnings.warn(message, IgnoredOptionWarning, stacklevel=2)
        dtype = ModelDType(which.dtype)
        name = "float32" if dtype is ModelDType.Auto else dtype.value
        self._engine = Engine.load(resolve(which.model_id), dtype=name)
        self._aliases = {"default", self._engine.id, which.model_id}
        if which.arch is not None and which.arch.value != self._engine.model_type:
            found = self._engine.model_type
            self._engine.close()
            raise UnsupportedModel(
                f"{which.model_id} is of the family {found!r}, not {which.arch.name}; leave out arch"
            )

    def send_embedding_request(self, request: EmbeddingRequest, model_id: str | None = None) -> list[list[float]]:
        """Embed the inputs of `request`, in order; one list of floats each.

        Raises:
            ValueError: No model is called `model_id`, or an input cannot be embedded.
        """
        if not isinstance(request, EmbeddingRequest):
            raise TypeError(f"request is an EmbeddingRequest, not {type(request).__name__}")
        if model_id is not None and model_id not in self._aliases:
            raise UnknownModel(f"the model {model_id!r} was not found; this runner has {self._engine.id!r}")
        result = self._engine.embed(Request(texts=request._texts, ids=request._ids, truncate=request._truncate))
        vectors: list[list[float]] = result.vectors.tolist()
        return vectors


def _parse(value: Input) -> tuple[list[str] | None, list[list[int]] | None]:
    """Tell the four forms apart: (texts, None) or (None, rows of ids)."""
    if isinstance(value, str):
        return [value], None
    if not isinstance(value, list):
        raise _type_error(value)
    if not value:
        raise ValueError("input is empty; give at least one text or one row of token ids")
    if all(isinstance(item, str) for item in value):
        return [str(item) for item in value], None
    rows = cast("list[list[int]]", value if all(isinstance(item, list) for item in value) else [value])
    return None, [_row(row, value) for row in rows]


def _row(row: list[int], value: Input) -> list[int]:
    if not all(isinstance(token, int | np.integer) and not isinstance(token, bool) for token in row):
        raise _type_error(value)
    if not row:
        raise ValueError("a row of token ids is empty; each needs at least one id")
    for token in row:
        if not 0 <= token < 2**32:
            raise ValueError(f"the token id {token} is not an unsigned 32-bit number")
    return [int(token) for token in row]


def _type_error(value: object) -> TypeError:
    return TypeError(f"input is a str, list[str], list[int] or list[list[int]]; this {type(value).__name__} is not")
