"""Protocol of an embedder's backend, which computes the vectors: an engine in this process, or a model of a server."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from embergem.types import Request, Vectors


class ReadInput(Protocol):
    """One input as the model read it."""

    @property
    def length(self) -> int | None:
        """Number of tokens before truncation; None where a server does not send it."""


class EmbeddingResult(Protocol):
    """Vectors of one request, and how the model read its inputs."""

    @property
    def vectors(self) -> Vectors:
        """Float32 array (n, dimensions) in input order."""

    @property
    def rows(self) -> Sequence[ReadInput]:
        """The inputs, in order."""

    @property
    def truncated(self) -> Sequence[int]:
        """Indices of the truncated inputs."""


class Backend(Protocol):
    """Computes vectors for requests from any thread. `Engine` and `client.remote.RemoteModel` are backends.

    The properties are those of `sdk.base.EmbedderBase`, which documents them; `id` is its `model`.
    """

    @property
    def id(self) -> str: ...  # noqa: D102 - see the class
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
        """Tokenize a request and queue it; returns the future of an `EmbeddingResult`. Cancelling it stops the work.

        The type is `Future[Any]` because `Future` is invariant: the backends have futures of their own result types.

        Raises:
            InvalidRequest: The request is invalid.
        """

    def lengths(self, request: Request) -> Sequence[int]:
        """Count the tokens of each input before truncation."""

    def close(self) -> None:
        """Free the model or the connections. Later requests raise `EngineClosed`."""
