"""What an embedder speaks to: an engine in this process, or a server."""

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol, TypedDict, Unpack

from embergem.engine import Engine, Request
from embergem.errors import UnsupportedOption
from embergem.hub.resolve import resolve
from embergem.types import Vectors


class ReadRow(Protocol):
    """How one input was read; `length` is its tokens before any cut, None where a server did not say."""

    @property
    def length(self) -> int | None:
        """Tokens before any cut."""


class Answer(Protocol):
    """Vectors of one request, shape `(n, dimensions)`, and how its inputs were read."""

    @property
    def vectors(self) -> Vectors:
        """Float32 array in input order."""

    @property
    def rows(self) -> Sequence[ReadRow]:
        """One an input."""

    @property
    def truncated(self) -> Sequence[int]:
        """Indices of the inputs that were cut."""


class Backend(Protocol):
    """Takes requests from any thread. `Engine` is one; `client.remote.Remote` is the other."""

    # What these say is in `sdk.methods.Methods`, which hands them on.
    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def dtype(self) -> str: ...  # noqa: D102
    @property
    def dimensions(self) -> int: ...  # noqa: D102
    @property
    def allowed_dimensions(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def limit(self) -> int: ...  # noqa: D102
    @property
    def tasks(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def fingerprint(self) -> str | None: ...  # noqa: D102

    def submit(self, request: Request) -> Future[Any]:
        """Begin, and return the future of an `Answer`; cancelling it stops the work.

        `Future` is invariant, so it cannot be one of `Answer` for both kinds of backend.
        """

    def lengths(self, request: Request) -> Sequence[int]:
        """Tokens of each input, before any cut."""

    def close(self) -> None:
        """Free what it holds."""


class LoadOptions(TypedDict, total=False):
    """How a model in this process is to be loaded; see `Embedder`. None and False leave it at the default."""

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


def load_engine(
    model: str | Path | None,
    *,
    max_batch_rows: int | None = None,
    throughput_logging: bool = False,
    **options: Unpack[LoadOptions],
) -> Engine:
    """Find a model and load it into this process; `max_batch_rows` and `throughput_logging` are for `Engine.load`.

    Raises:
        UnknownModel, LoadError, InsufficientMemory: The model cannot be had.
        UnsupportedOption: An option that this engine does not have.
    """
    location = resolve(
        model,
        dense_from=options.get("dense_from"),
        allow_missing_dense=options.get("allow_missing_dense", False),
        revision=options.get("revision"),
        hf_cache_path=options.get("hf_cache_path"),
        token_source=options.get("token_source"),
    )
    tokenizer = options.get("tokenizer")
    return Engine.load(
        location,
        dtype=options.get("dtype") or "float32",
        threads=options.get("threads"),
        device=options.get("device"),
        arch=options.get("arch") or "auto",
        window=options.get("window"),
        max_batch_rows=max_batch_rows,
        throughput_logging=throughput_logging,
        tokenizer=None if tokenizer is None else Path(tokenizer).expanduser(),
    )


def open_backend(model: str | Path | None, **options: Unpack[LoadOptions]) -> Backend:
    """Load the model, or connect to the server if `model` is an address.

    Raises:
        UnknownModel, LoadError, InsufficientMemory: The model cannot be had.
        ServerUnreachable, UnexpectedAnswer: There is no such server.
        UnsupportedOption: An option that this engine does not have, or any at all for a server.
    """
    if not is_address(model):
        return load_engine(model, **options)
    for name, value in options.items():
        if value is not None and value is not False:
            raise UnsupportedOption(
                f"{_shown(name, value)} is for models in this process; the server at {model} has its own", param=name
            )
    from embergem.client.remote import Remote

    return Remote(str(model))


def _shown(name: str, value: object) -> str:
    return name if name == "token_source" else f"{name}={value!r}"  # a token stands in no message


def is_address(model: str | Path | None) -> bool:
    """Whether `model` names a server."""
    return isinstance(model, str) and model.startswith(("http://", "https://"))
