"""Encoders turn texts into inputs of a model, and inputs into vectors, in this process or at a server.

An input has a key. Two inputs with the same key have the same vector to the bit, so a job embeds only one of them.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import msgspec
from msgspec.structs import replace

from embergem.bulk.job_options import JobOptions
from embergem.packed_rows import PackedRows
from embergem.sdk.backend import Backend
from embergem.types import Request, Row

KEY_BYTES = 16
"""Bytes of a key: two of 10^9 different inputs have the same one with a probability of 10^-21."""


class Input(Protocol):
    """One text as the model reads it: `Row` or `TextInput`."""

    @property
    def length(self) -> int:
        """Tokens before truncation."""


class TextInput(msgspec.Struct, frozen=True):
    """A text for a server, which tokenizes it there, and its tokens before truncation."""

    text: str
    title: str | None
    length: int


class Encoder(Protocol):
    """Reads and embeds texts with the prompt, the dimensions and the policy of a job."""

    backend: Backend

    def read(self, texts: Sequence[str], titles: Sequence[str | None] | None) -> Sequence[Any]:
        """Return the input of each text, cut to the limit. `Input.length` is above the limit if the text was cut."""

    def keys(self, inputs: Sequence[Any]) -> list[bytes]:
        """Return the key of each input."""

    def tokens(self, inputs: Sequence[Any]) -> int:
        """Return the tokens that the model reads of the inputs."""

    def submit(self, inputs: Sequence[Any]) -> Future[Any]:
        """Queue inputs, and return the future of their `EmbeddingResult`."""


@runtime_checkable
class RowBackend(Backend, Protocol):
    """A backend that tokenizes in this process: an `Engine`, or a model on the nodes of a Ray cluster."""

    def prepare(self, request: Request) -> list[Row]:
        """Return the rows of a request, cut to the limit."""

    def prepare_packed(self, request: Request) -> PackedRows:
        """Return the rows of a request in one piece, cut to the limit."""

    def submit_rows(self, request: Request, rows: Sequence[Row]) -> Future[Any]:
        """Queue rows that `prepare` returned, and return the future of the result."""


class EngineEncoder:
    """Tokenizes in this process and embeds rows of token ids. Keys are hashes of token ids."""

    def __init__(self, engine: RowBackend, options: JobOptions) -> None:
        self.backend: Backend = engine
        self._engine = engine
        self._request = Request(task=options.task, dimensions=options.dimensions, truncate=True, lane="bulk")

    def read(self, texts: Sequence[str], titles: Sequence[str | None] | None) -> PackedRows:
        """Tokenize; see `Encoder`."""
        return self._engine.prepare_packed(replace(self._request, texts=texts, titles=titles))

    def keys(self, inputs: Sequence[Row]) -> list[bytes]:
        """Hash the token ids; see `Encoder`."""
        if not isinstance(inputs, PackedRows):
            return [hashlib.blake2b(row.ids.data, digest_size=KEY_BYTES).digest() for row in inputs]
        ids, ends = inputs.ids.data.cast("B"), (4 * inputs.offsets).tolist()
        return [hashlib.blake2b(ids[start:stop], digest_size=KEY_BYTES).digest() for start, stop in pairwise(ends)]

    def tokens(self, inputs: Sequence[Row]) -> int:
        """Count the tokens; see `Encoder`."""
        return len(inputs.ids) if isinstance(inputs, PackedRows) else sum([len(row.ids) for row in inputs])

    def submit(self, inputs: Sequence[Row]) -> Future[Any]:
        """Queue rows of token ids; see `Encoder`."""
        return self._engine.submit_rows(self._request, inputs)


class RemoteEncoder:
    """Sends texts to a server. Keys are hashes of title and text."""

    def __init__(self, backend: Backend, options: JobOptions) -> None:
        self.backend = backend
        self._request = Request(task=options.task, dimensions=options.dimensions, truncate=True, lane="bulk")

    def read(self, texts: Sequence[str], titles: Sequence[str | None] | None) -> list[TextInput]:
        """Count the tokens at the server; see `Encoder`."""
        lengths = self.backend.lengths(replace(self._request, texts=texts, titles=titles))
        every = titles or [None] * len(texts)
        return [TextInput(text, title, length) for text, title, length in zip(texts, every, lengths, strict=True)]

    def keys(self, inputs: Sequence[TextInput]) -> list[bytes]:
        """Hash titles and texts; see `Encoder`."""
        return [
            hashlib.blake2b(repr((item.title, item.text)).encode(), digest_size=KEY_BYTES).digest() for item in inputs
        ]

    def tokens(self, inputs: Sequence[TextInput]) -> int:
        """Return the tokens that the server counted; see `Encoder`."""
        return sum(min(item.length, self.backend.limit) for item in inputs)

    def submit(self, inputs: Sequence[TextInput]) -> Future[Any]:
        """Send a request; see `Encoder`."""
        titles = [item.title for item in inputs]
        return self.backend.submit(
            replace(
                self._request,
                texts=[item.text for item in inputs],
                titles=titles if any(title is not None for title in titles) else None,
            )
        )


def make_encoder(backend: Backend, options: JobOptions) -> Encoder:
    """Return the encoder for a backend."""
    return EngineEncoder(backend, options) if isinstance(backend, RowBackend) else RemoteEncoder(backend, options)
