"""Types of the mistral.rs interface: `EmbeddingRequest`, `Which`, `ModelDType`, `EmbeddingArchitecture`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Self, cast

import numpy as np

from embergem.compat.arguments import check_arguments
from embergem.compat.mistralrs.tables import WHICH_EMBEDDING
from embergem.engine import Request
from embergem.errors import EmptyInput, InvalidTask, InvalidType
from embergem.keywords import checked_class
from embergem.suggestions import did_you_mean
from embergem.tasks import Task

Input = str | list[str] | list[int] | list[list[int]]


class EmbeddingArchitecture(Enum):
    """Model families by their mistral.rs names. The value is the `model_type` of config.json."""

    EmbeddingGemma = "gemma3_text"
    Qwen3Embedding = "qwen3"


class ModelDType(Enum):
    """Arithmetic of the forward pass. The value is the name that `Embedder(dtype=)` takes; `Auto` is float32.

    A string may be given in place of a member. The string "auto" has the meaning of `Embedder(dtype="auto")`: int16
    if it was measured to be near lossless for the model.
    """

    Auto = "auto"
    F32 = "float32"
    BF16 = "bfloat16"
    F16 = "float16"
    I16 = "int16"
    I8 = "int8"


def arithmetic(dtype: ModelDType | str) -> str:
    """Return the engine's name for a dtype.

    >>> arithmetic(ModelDType.Auto), arithmetic(ModelDType.I16), arithmetic("auto")
    ('float32', 'int16', 'auto')
    """
    if isinstance(dtype, ModelDType):
        return "float32" if dtype is ModelDType.Auto else dtype.value
    return dtype


@checked_class
class EmbeddingRequest:
    """Inputs to embed: one text, texts, one row of token ids, or rows of token ids (taken verbatim).

    Args:
        input: The inputs.
        truncate_sequence: Cut inputs that are longer than the model's limit, with a `TruncationWarning`, instead of
            refusing them.

    Raises:
        ValueError: There is no input, or a token id is not an unsigned 32-bit number.
        TypeError: `input` is none of the four forms.

    Example:
        >>> from embergem import EmbeddingRequest
        >>> EmbeddingRequest(input=["What is graphene?"], truncate_sequence=True)
        EmbeddingRequest(1 input, truncate_sequence=True)
        >>> EmbeddingRequest.builder().add_prompt("What is graphene?").add_tokens([5, 6]).build()
        EmbeddingRequest(2 inputs, truncate_sequence=False)
    """

    def __init__(self, input: Input, truncate_sequence: bool = False) -> None:  # noqa: A002 - the interface's name
        if not isinstance(truncate_sequence, bool):
            kind = type(truncate_sequence).__name__
            raise TypeError(f"truncate_sequence={truncate_sequence!r} is of type {kind}. Give True or False.")
        self._inputs: list[str | list[int]] = _parse(input)
        self._truncate = truncate_sequence
        self._task: str | None = None
        self._dimensions: int | None = None

    @staticmethod
    def builder() -> "EmbeddingRequestBuilder":
        """Return a builder that collects texts and token ids."""
        return EmbeddingRequestBuilder()

    def __repr__(self) -> str:
        plural = "" if len(self._inputs) == 1 else "s"
        return f"EmbeddingRequest({len(self._inputs)} input{plural}, truncate_sequence={self._truncate})"

    def requests(self, task: str | None = None, dimensions: int | None = None) -> list[tuple[list[int], Request]]:
        """Split the inputs into engine requests of texts and of ids, each with the indices of its inputs.

        `task` and `dimensions` apply if this request sets none.
        """
        task, dimensions = self._task or task, self._dimensions or dimensions
        texts = [index for index, value in enumerate(self._inputs) if isinstance(value, str)]
        rows = [index for index, value in enumerate(self._inputs) if not isinstance(value, str)]
        if self._task is not None and rows:
            raise InvalidTask(
                f"task={self._task!r} needs texts, and this request has token ids. Leave out the task, or give texts.",
                param="task",
            )
        parts = []
        if texts:
            inputs = [cast(str, self._inputs[index]) for index in texts]
            parts.append((texts, Request(texts=inputs, task=task, dimensions=dimensions, truncate=self._truncate)))
        if rows:
            ids = [cast("list[int]", self._inputs[index]) for index in rows]
            parts.append((rows, Request(ids=ids, dimensions=dimensions, truncate=self._truncate)))
        return parts


@checked_class
class EmbeddingRequestBuilder:
    """Collects inputs; every method returns the builder itself.

    Example:
        >>> from embergem import EmbeddingRequest
        >>> request = EmbeddingRequest.builder().add_prompts(["a", "b"]).with_task("query").with_dimensions(256)
        >>> request.build()
        EmbeddingRequest(2 inputs, truncate_sequence=False)
    """

    def __init__(self) -> None:
        self._inputs: list[str | list[int]] = []
        self._truncate = False
        self._task: str | None = None
        self._dimensions: int | None = None

    def add_prompt(self, prompt: str) -> Self:
        """Add a text."""
        if not isinstance(prompt, str):
            raise TypeError(f"A prompt is of type {type(prompt).__name__}. Give a str.")
        self._inputs.append(prompt)
        return self

    def add_prompts(self, prompts: Iterable[str]) -> Self:
        """Add texts."""
        if isinstance(prompts, str):
            raise TypeError("add_prompts takes several texts. Give a list of texts, or use add_prompt for one.")
        for prompt in prompts:
            self.add_prompt(prompt)
        return self

    def add_tokens(self, tokens: Sequence[int]) -> Self:
        """Add one row of token ids, taken verbatim."""
        self._inputs.append(_row(list(tokens), tokens))
        return self

    def add_tokens_batch(self, batch: Iterable[Sequence[int]]) -> Self:
        """Add rows of token ids."""
        for tokens in batch:
            self.add_tokens(tokens)
        return self

    def with_truncate_sequence(self, truncate: bool) -> Self:
        """Cut inputs that are longer than the model's limit, with a `TruncationWarning`, instead of refusing them."""
        self._truncate = truncate
        return self

    def with_task(self, task: Task | str) -> Self:
        """Put the model's prompt for this task around each text. A request with a task must have no token ids."""
        self._task = str(task)
        return self

    def with_dimensions(self, dimensions: int) -> Self:
        """Cut the vectors to this size and scale them to length 1 again."""
        self._dimensions = dimensions
        return self

    def build(self) -> EmbeddingRequest:
        """Return the request.

        Raises:
            EmptyInput: Nothing was added.
        """
        if not self._inputs:
            raise EmptyInput("the request has no input. Add at least one with add_prompt or add_tokens.")
        request = EmbeddingRequest("", truncate_sequence=self._truncate)
        request._inputs = list(self._inputs)
        request._task, request._dimensions = self._task, self._dimensions
        return request


class Which:
    """Selects a model: `Which.Embedding(...)`."""

    @checked_class
    @dataclass(frozen=True)
    class Embedding:
        """An embedding model.

        Args:
            model_id: Hub id, alias or directory.
            arch: The model family that the checkpoint must be of; None accepts the one in config.json.
            tokenizer_json: A tokenizer.json to use instead of the one in the checkpoint.
            dtype: Arithmetic of the forward pass: a `ModelDType`, or a name that `Embedder(dtype=)` takes.
            hf_cache_path: Cache directory of the hub's library, in place of its own ($HF_HOME/hub).
            topology, write_uqff, from_uqff, imatrix, calibration_file: Refused by `Runner` if set, with the reason.
            window, dense_from, allow_missing_dense, revision: As for `Embedder`.
        """

        model_id: str
        arch: EmbeddingArchitecture | None = None
        tokenizer_json: str | None = None
        topology: str | None = None
        write_uqff: str | None = None
        from_uqff: str | list[str] | None = None
        dtype: ModelDType | str = ModelDType.Auto
        hf_cache_path: str | None = None
        imatrix: str | None = None
        calibration_file: str | None = None
        window: int | None = field(default=None, kw_only=True)
        dense_from: str | None = field(default=None, kw_only=True)
        allow_missing_dense: bool = field(default=False, kw_only=True)
        revision: str | None = field(default=None, kw_only=True)


def check_selector(which: object) -> "Which.Embedding":
    """Return `which` if it is a selector that embergem supports.

    Raises:
        TypeError: `which` is not a `Which.Embedding`, or its `arch` is no `EmbeddingArchitecture`.
        UnsupportedOption: It sets an argument that embergem refuses.
    """
    if not isinstance(which, Which.Embedding):
        raise TypeError(
            f"which must be a Which.Embedding(...), not {type(which).__name__}. Give Which.Embedding(model_id)"
        )
    check_architecture(which.arch)
    check_arguments("Which.Embedding", vars(which), {}, WHICH_EMBEDDING)
    return which


def check_architecture(arch: object) -> None:
    """Raise `InvalidType` for a value that is neither an `EmbeddingArchitecture` nor None."""
    if arch is not None and not isinstance(arch, EmbeddingArchitecture):
        names = EmbeddingArchitecture.__members__
        raise InvalidType(
            f"arch={arch!r} is no EmbeddingArchitecture.{did_you_mean(str(arch), names)} Give "
            f"{' or '.join(f'EmbeddingArchitecture.{name}' for name in names)}, or leave it out.",
            param="arch",
        )


def _parse(value: Input) -> list[str | list[int]]:
    """Convert the four accepted forms to a list of texts or rows of ids."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise _type_error(value)
    if not value:
        raise ValueError("input is empty. Give at least one text or one row of token ids.")
    if all(isinstance(item, str) for item in value):
        return [str(item) for item in value]
    rows = cast("list[list[int]]", value if all(isinstance(item, list) for item in value) else [value])
    return [_row(row, value) for row in rows]


def _row(row: list[int], value: object) -> list[int]:
    if not all(isinstance(token, int | np.integer) and not isinstance(token, bool) for token in row):
        raise _type_error(value)
    if not row:
        raise ValueError("a row of token ids is empty. Give at least one id in each row.")
    for token in row:
        if not 0 <= token < 2**32:
            raise ValueError(
                f"The token id {token} is not from 0 to 4294967295. Give ids of the model's own tokenizer."
            )
    return [int(token) for token in row]


def _type_error(value: object) -> TypeError:
    return TypeError(
        f"input must be str, list[str], list[int] or list[list[int]], not this {type(value).__name__}: {value!r:.80}"
    )
