"""What an embedder speaks to: an engine in this process, or a server."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

from embergem.checkpoint.checkpoint import Location
from embergem.errors import UnsupportedOption
from embergem.loader import load
from embergem.options import LoadOptions
from embergem.types import Request, Vectors


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


def open_backend(options: LoadOptions, *, location: Location | None = None) -> Backend:
    """Load the model, or connect to the server if `options.model` is an address.

    Args:
        options: Which model, and how to load it. A server takes no option besides its address.
        location: The files of the model, if the caller has resolved `options` before.

    Raises:
        UnknownModel, LoadError, InsufficientMemory: The model cannot be loaded.
        ServerUnreachable, UnexpectedAnswer: No embergem server answers at the address.
        UnsupportedOption: An option does not apply to this model, or an option is set for a server.
    """
    if not is_address(options.model):
        return load(options, location=location)
    for field in fields(options):
        value = getattr(options, field.name)
        if field.name != "model" and value != field.default:
            given = f"{field.name}={value!r}" if field.repr else field.name  # repr is off for the access token
            raise UnsupportedOption(
                f"{given} applies to models that are loaded into this process, and the model is at {options.model}: "
                f"leave {field.name} out, or set it where the server is started",
                param=field.name,
            )
    from embergem.client.remote import Remote

    return Remote(str(options.model))


def is_address(model: str | Path | None) -> bool:
    """Whether `model` is the address of a server."""
    return isinstance(model, str) and model.startswith(("http://", "https://"))
