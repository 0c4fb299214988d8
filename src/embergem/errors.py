"""Every error embergem raises on purpose, in one tree.

EmbergemError                     the base; carries the HTTP status and the OpenAI error code it is answered with
├── InvalidRequest  (ValueError)  400  the caller's input cannot be embedded as it stands
│   ├── EmptyInput                     no input at all, or a token list without a token
│   ├── InvalidText                    a string that is not valid Unicode text (a lone surrogate)
│   ├── InvalidType (TypeError)        an input, title or token id of the wrong Python type
│   ├── TokenOutOfRange                a token id outside the model's table
│   ├── InputTooLong                   more tokens than the model reads, and no permission to cut
│   ├── InvalidTask                    a task, or a title, that this model or this input cannot take
│   ├── InvalidDimensions              a vector size that this model was not trained for
│   └── UnsupportedOption              an option that has no meaning here; refused rather than ignored
├── UnknownModel    (ValueError)  404  a model name nobody knows
├── InvalidConfig   (ValueError)  500  a setting, or a file of settings, that cannot be used
├── LoadError       (ValueError)  500  a model that cannot be loaded
│   ├── DownloadError                  no source had the files, or the bytes were not the expected ones
│   ├── GatedModel                     the hub asks for an accepted licence first
│   ├── CorruptCheckpoint              a file that is damaged, incomplete or not what it claims to be
│   ├── MissingTensor                  a tensor the model needs is absent, misshapen or holds NaN
│   └── UnsupportedModel               an architecture, head module or setting that embergem does not have
├── InsufficientMemory (MemoryError) 507  the model does not fit into the memory that is free
├── NonFiniteOutput               500  a kernel produced NaN or infinity; nothing was returned
├── Cancelled                     499  the request was cancelled before it was done
├── DeadlineExceeded              504  the request's deadline passed before it was done
├── EngineClosed                  503  the engine was closed
├── NotReady                      503  the model failed its self-check and does not answer
├── ModelFailed                   503  a served model could not be loaded; the message has the reason
├── ForkedProcess (RuntimeError)  500  a fork of a process that had loaded a model: its threads stayed behind
├── ServerUnreachable             502  a client could not reach the server, or lost it
├── UnexpectedAnswer              502  a server answered with something other than its API
└── TryLater                           it can be had, but not now; carries `retry_after`, in seconds
    ├── Overloaded                429  more tokens wait than the queue takes
    └── ModelLoading              503  the model is being loaded

Warnings: `TruncationWarning` (an input was cut, with permission), `IgnoredOptionWarning` (an argument that has no
meaning on this engine).
"""

from collections.abc import Sequence
from typing import ClassVar


class EmbergemError(Exception):
    """Base of all errors.

    Args:
        message: What happened, and what to do. Where one input is at fault, a sentence without its subject, such as
            "has 900 tokens.": the subject "Input 3" is put before it.
        param: Name of the argument or field at fault.
        input_index: Place of the input at fault in the call or request, from 0; None where no single input is at fault.

    Attributes:
        status: HTTP status that the server answers with.
        code: Error code that the server answers with.

    >>> error = InputTooLong("has 900 tokens and this model reads at most 256.", input_index=3)
    >>> error.renumber_input(range(512, 768))
    >>> error.input_index, error.message
    (515, 'Input 515 has 900 tokens and this model reads at most 256.')
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, input_index: int | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.input_index = input_index

    @property
    def message(self) -> str:
        """What happened, and what to do, with the input at fault as the caller counts inputs."""
        text = str(self.args[0])
        return text if self.input_index is None else _input_prefix(self.input_index) + text

    def add_advice(self, sentence: str) -> None:
        """Append a sentence to the message."""
        self.args = (f"{self.args[0]} {sentence}",)

    def renumber_input(self, places: Sequence[int]) -> None:
        """Change `input_index` from a part's count to the whole call's, given the places of the part's inputs in it."""
        if self.input_index is not None:
            self.input_index = places[self.input_index]

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r})"


def without_input_prefix(message: str, input_index: int) -> str:
    """Return the argument `message` of an `EmbergemError`, given its attribute `message` and its `input_index`.

    >>> without_input_prefix("Input 3 has 900 tokens.", 3)
    'has 900 tokens.'
    """
    return message.removeprefix(_input_prefix(input_index))


def _input_prefix(index: int) -> str:
    return f"Input {index} "


class InvalidRequest(EmbergemError, ValueError):
    """The caller's input cannot be embedded as it stands."""

    status = 400
    code = "invalid_request"


class EmptyInput(InvalidRequest):
    """There is nothing to embed: no input at all, or a token list without a token."""

    code = "empty_input"


class InvalidText(InvalidRequest):
    """A string is not valid Unicode text."""

    code = "invalid_text"


class InvalidType(InvalidRequest, TypeError):
    """An input, a title or a token id has the wrong Python type."""


class TokenOutOfRange(InvalidRequest):
    """A token id lies outside the model's embedding table."""

    code = "token_out_of_range"


class InputTooLong(InvalidRequest):
    """An input has more tokens than the model reads and the caller gave no permission to cut it."""

    code = "context_length_exceeded"


class InvalidTask(InvalidRequest):
    """The task or title cannot be used with this model or this input."""

    code = "invalid_task"


class InvalidDimensions(InvalidRequest):
    """The requested vector size is not one the model was trained for."""

    code = "invalid_dimensions"


class UnsupportedOption(InvalidRequest):
    """An option has no meaning here and is refused rather than ignored."""

    code = "unsupported_option"


class UnknownModel(EmbergemError, ValueError):
    """No model is known by this name."""

    status = 404
    code = "model_not_found"


class InvalidConfig(EmbergemError, ValueError):
    """A setting, or a file of settings, cannot be used."""

    code = "invalid_config"


class LoadError(EmbergemError, ValueError):
    """A model cannot be loaded."""

    code = "model_load_failed"


class DownloadError(LoadError):
    """No source had the files, or the bytes were not the expected ones."""

    code = "download_failed"


class GatedModel(LoadError):
    """The hub asks for an accepted licence before it hands out the files."""

    code = "gated_model"


class CorruptCheckpoint(LoadError):
    """A file is damaged, incomplete or not what it claims to be."""

    code = "corrupt_checkpoint"


class MissingTensor(LoadError):
    """A tensor that the model needs is absent, misshapen or holds values that are not finite."""

    code = "missing_tensor"


class UnsupportedModel(LoadError):
    """The architecture, a head module or a setting is one that embergem does not have."""

    code = "unsupported_model"


class InsufficientMemory(EmbergemError, MemoryError):
    """The model does not fit into the memory that is free."""

    status = 507
    code = "insufficient_memory"


class NonFiniteOutput(EmbergemError):
    """A vector held NaN or infinity; nothing was returned."""

    code = "non_finite_output"
    row: int | None = None
    """Set by the native module: the first such row of what it computed, which need not be what a caller asked for."""


class Cancelled(EmbergemError):
    """The request was cancelled before it was done."""

    status = 499
    code = "cancelled"


class NotReady(EmbergemError):
    """The model failed its self-check and does not answer."""

    status = 503
    code = "model_not_ready"


class EngineClosed(EmbergemError):
    """The engine was closed."""

    status = 503
    code = "engine_closed"


class DeadlineExceeded(EmbergemError):
    """The request's deadline passed before it was done; what was left of it is not computed."""

    status = 504
    code = "deadline_exceeded"


class ModelFailed(EmbergemError):
    """A model that is served could not be loaded; the message says why."""

    status = 503
    code = "model_failed"


class TryLater(EmbergemError):
    """What was asked for can be had, but not now; `retry_after` says in how many seconds it is worth asking again."""

    status = 503

    def __init__(
        self, message: str, *, retry_after: float, param: str | None = None, input_index: int | None = None
    ) -> None:
        super().__init__(message, param=param, input_index=input_index)
        self.retry_after = retry_after


class Overloaded(TryLater):
    """More tokens wait than the queue takes."""

    status = 429
    code = "overloaded"


class ModelLoading(TryLater):
    """The model is being loaded."""

    code = "model_loading"


class ForkedProcess(EmbergemError, RuntimeError):
    """This process was forked from one that had loaded a model; the threads that compute stayed there."""

    code = "forked_process"


class ServerUnreachable(EmbergemError):
    """A client could not reach the server, or the connection broke, and retries did not help."""

    status = 502
    code = "server_unreachable"


class UnexpectedAnswer(EmbergemError):
    """A server answered with something other than what its API promises."""

    status = 502
    code = "unexpected_answer"


def without_panic(error: BaseException) -> BaseException:
    """Return a panic of native code as an error of ours, and any other error as it is.

    PyO3's `PanicException` is no `Exception`: whoever is told would not catch it, and a thread of ours would end.
    """
    if type(error).__module__ != "pyo3_runtime":
        return error
    panic = EmbergemError(f"native code panicked, which is a bug of embergem: {error}")
    panic.__cause__ = error
    return panic


class TruncationWarning(UserWarning):
    """An input was cut to the model's limit, with the caller's permission."""


class IgnoredOptionWarning(UserWarning):
    """An argument has no meaning on this engine and was not used."""
