"""All exceptions and warnings of embergem.

EmbergemError                     base class; has the HTTP status and the error code that the server answers with
├── InvalidRequest  (ValueError)  400  the request cannot be embedded
│   ├── EmptyInput                     there is no input, or a list of token ids is empty
│   ├── InvalidText                    a string is not valid Unicode (it has a lone surrogate)
│   ├── InvalidType (TypeError)        an input, title or token id has the wrong Python type
│   ├── TokenOutOfRange                a token id is outside the model's embedding table
│   ├── InputTooLong                   an input has more tokens than the model reads, and truncation is not allowed
│   ├── InvalidTask                    the model or the input cannot be used with this task or title
│   ├── InvalidDimensions              the model was not trained for this vector size
│   └── UnsupportedOption              an option is not supported here; it is refused rather than ignored
│       └── UnknownOption (TypeError)  a callable has no option of this name; the message suggests one
├── UnknownModel    (ValueError)  404  no model has this name
├── InvalidConfig   (ValueError)  500  a setting or a configuration file is invalid
├── LoadError       (ValueError)  500  a model cannot be loaded
│   ├── DownloadError                  no source has the files, or their bytes are not the expected ones
│   ├── GatedModel                     the hub requires that a licence is accepted first
│   ├── CorruptCheckpoint              a file is damaged, incomplete or of another kind than its name says
│   ├── MissingTensor                  a tensor is missing, has the wrong shape, or has values that are not finite
│   └── UnsupportedModel               the architecture, a head module or a setting is not supported
├── InsufficientMemory (MemoryError) 507  the model, or the request, does not fit into the free memory
├── JobError                      500  a bulk job cannot begin or go on; its finished parts are kept
├── NonFiniteOutput               500  a vector has NaN or infinity; no vectors are returned
├── Cancelled                     499  the request was cancelled before it was done
├── DeadlineExceeded              504  the deadline of the request passed before it was done
├── EngineClosed                  503  the engine or client was closed
├── NotReady                      503  the model failed its self-check and does not answer
├── ModelFailed                   503  a served model could not be loaded, or a file of a loaded model was changed
├── ForkedProcess (RuntimeError)  500  the model or client belongs to the process that this one was forked from
├── ServerUnreachable             502  a client cannot reach the server, or the connection broke
├── UnexpectedAnswer              502  a server answered with something other than this API
└── TryLater                           a temporary failure; `retry_after` has the seconds to wait
    ├── Overloaded                429  the queue is full
    └── ModelLoading              503  the model is still being loaded

Warnings: `TruncationWarning` (an input was truncated, as the caller allowed), `IgnoredOptionWarning` (an argument has
no effect in this engine).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, TypeVar

AnyError = TypeVar("AnyError", bound=BaseException)


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


@contextmanager
def renumbered_inputs(places: Sequence[int]) -> Iterator[None]:
    """Context for work on a part of a call: `input_index` of an error becomes the place in the call.

    Args:
        places: Places in the call of the part's inputs.

    >>> try:
    ...     with renumbered_inputs(range(512, 768)):
    ...         raise InputTooLong("has 900 tokens.", input_index=3)
    ... except InputTooLong as error:
    ...     print(error)
    Input 515 has 900 tokens.
    """
    try:
        yield
    except EmbergemError as error:
        error.renumber_input(places)
        raise


def without_input_prefix(message: str, input_index: int) -> str:
    """Return the argument `message` of an `EmbergemError`, given its attribute `message` and its `input_index`.

    >>> without_input_prefix("Input 3 has 900 tokens.", 3)
    'has 900 tokens.'
    """
    return message.removeprefix(_input_prefix(input_index))


def _input_prefix(index: int) -> str:
    return f"Input {index} "


class InvalidRequest(EmbergemError, ValueError):
    """The request cannot be embedded; the subclass and the message say why."""

    status = 400
    code = "invalid_request"


class EmptyInput(InvalidRequest):
    """There is no input, or a list of token ids is empty."""

    code = "empty_input"


class InvalidText(InvalidRequest):
    """A string is not valid Unicode: it has a lone surrogate."""

    code = "invalid_text"


class InvalidType(InvalidRequest, TypeError):
    """An input, a title or a token id has the wrong Python type."""


class TokenOutOfRange(InvalidRequest):
    """A token id is outside the model's embedding table."""

    code = "token_out_of_range"


class InputTooLong(InvalidRequest):
    """An input has more tokens than the model reads, and the request does not allow truncation."""

    code = "context_length_exceeded"


class InvalidTask(InvalidRequest):
    """The model or the input cannot be used with this task or title."""

    code = "invalid_task"


class InvalidDimensions(InvalidRequest):
    """The model was not trained for the requested vector size."""

    code = "invalid_dimensions"


class UnsupportedOption(InvalidRequest):
    """An option is not supported here. It is refused rather than ignored."""

    code = "unsupported_option"


class UnknownOption(UnsupportedOption, TypeError):
    """A callable has no option of this name. It is a `TypeError` too, as Python raises for an unknown keyword."""

    code = "unsupported_option"


class UnknownModel(EmbergemError, ValueError):
    """No model has this name."""

    status = 404
    code = "model_not_found"


class InvalidConfig(EmbergemError, ValueError):
    """A setting or a configuration file is invalid."""

    code = "invalid_config"


class LoadError(EmbergemError, ValueError):
    """A model cannot be loaded."""

    code = "model_load_failed"


class DownloadError(LoadError):
    """No source has the files of the model, or their bytes are not the expected ones."""

    code = "download_failed"


class GatedModel(LoadError):
    """The hub requires that a licence is accepted before it sends the files."""

    code = "gated_model"


class CorruptCheckpoint(LoadError):
    """A file is damaged, incomplete or of another kind than its name says."""

    code = "corrupt_checkpoint"


class MissingTensor(LoadError):
    """A tensor that the model needs is missing, has the wrong shape, or has values that are not finite."""

    code = "missing_tensor"


class UnsupportedModel(LoadError):
    """The architecture, a head module or a setting of the model is not supported."""

    code = "unsupported_model"


class InsufficientMemory(EmbergemError, MemoryError):
    """The model, or the request, does not fit into the free memory."""

    status = 507
    code = "insufficient_memory"


class JobError(EmbergemError):
    """A bulk job cannot begin or go on: its output is in use, or the disk is full. Its finished parts are kept."""

    code = "job_failed"


class NonFiniteOutput(EmbergemError):
    """A vector has NaN or infinity. No vectors were returned."""

    code = "non_finite_output"
    row: int | None = None
    """Index of the first such vector in the native batch, which other requests can share. The native module sets it."""


class Cancelled(EmbergemError):
    """The request was cancelled before it was done."""

    status = 499
    code = "cancelled"


class NotReady(EmbergemError):
    """The model failed its self-check and does not answer."""

    status = 503
    code = "model_not_ready"


class EngineClosed(EmbergemError):
    """The engine or client was closed."""

    status = 503
    code = "engine_closed"


class DeadlineExceeded(EmbergemError):
    """The deadline of the request passed before it was done; its remaining rows are not computed."""

    status = 504
    code = "deadline_exceeded"


class ModelFailed(EmbergemError):
    """A served model could not be loaded, or a file of a loaded model was overwritten or cut short.

    The message has the reason. No vectors are returned until the model is loaded again.
    """

    status = 503
    code = "model_failed"


class TryLater(EmbergemError):
    """A temporary failure.

    Attributes:
        retry_after: Seconds after which the request can succeed.
    """

    status = 503

    def __init__(
        self, message: str, *, retry_after: float, param: str | None = None, input_index: int | None = None
    ) -> None:
        super().__init__(message, param=param, input_index=input_index)
        self.retry_after = retry_after


class Overloaded(TryLater):
    """The queue of the lane is full."""

    status = 429
    code = "overloaded"


class ModelLoading(TryLater):
    """The model is still being loaded."""

    code = "model_loading"


class ForkedProcess(EmbergemError, RuntimeError):
    """The model or client belongs to the process that this one was forked from, where its threads are."""

    code = "forked_process"


class ServerUnreachable(EmbergemError):
    """A client cannot reach the server, or the connection broke; retries did not help."""

    status = 502
    code = "server_unreachable"


class UnexpectedAnswer(EmbergemError):
    """A server answered with something other than this API."""

    status = 502
    code = "unexpected_answer"


def out_of_memory(error: AnyError) -> "AnyError | InsufficientMemory":
    """Return an error of Python that memory is used up as an `InsufficientMemory`, and any other error unchanged.

    >>> type(out_of_memory(MemoryError())).__name__, out_of_memory(KeyError("a"))
    ('InsufficientMemory', KeyError('a'))
    """
    no_thread = isinstance(error, RuntimeError) and "can't start new thread" in str(error)
    no_library = isinstance(error, ImportError) and "failed to map segment" in str(error)
    if isinstance(error, EmbergemError) or not (isinstance(error, MemoryError) or no_thread or no_library):
        return error
    failure = InsufficientMemory(
        "This process has no memory left. Load fewer models, send fewer texts at a time, or raise the limit of its "
        "memory (`ulimit -v`, or that of the container)."
    )
    failure.__cause__ = error
    return failure


def without_panic(error: BaseException) -> BaseException:
    """Return a panic of native code, or a lack of memory, as an `EmbergemError`, and any other error unchanged.

    PyO3's `PanicException` is not an `Exception`: callers would not catch it, and it would end a worker thread.
    """
    error = out_of_memory(error)
    if type(error).__module__ != "pyo3_runtime":
        return error
    panic = EmbergemError(f"Native code panicked, which is a bug of embergem: {error}. Please report it.")
    panic.__cause__ = error
    return panic


class TruncationWarning(UserWarning):
    """An input was truncated to the model's limit, as the caller allowed."""


class IgnoredOptionWarning(UserWarning):
    """An argument has no effect in this engine and was ignored."""
