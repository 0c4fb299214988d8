"""Every error embergem raises on purpose, in one tree.

EmbergemError                     the base; carries the HTTP status and the OpenAI error code it is answered with
├── InvalidRequest  (ValueError)  400  the caller's input cannot be embedded as it stands
│   ├── EmptyInput                     no input at all, or a token list without a token
│   ├── InvalidText                    a string that is not valid Unicode text (a lone surrogate)
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

from typing import ClassVar


class EmbergemError(Exception):
    """Base of all errors; `status` and `code` are what the HTTP server answers with."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


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

    def __init__(self, message: str, *, retry_after: float, param: str | None = None) -> None:
        super().__init__(message, param=param)
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
