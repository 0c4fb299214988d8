"""`RemoteModel`: a model of a server as the backend of an embedder.

One asynchronous HTTP client runs on a thread of its own. Blocking and asyncio callers wait for the same futures.
"""

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, TypedDict, TypeVar
from urllib.parse import quote

from embergem.client.codec import (
    ModelDescription,
    RemoteResult,
    describe,
    embeddings_body,
    parse_counts,
    parse_model,
    parse_vectors,
    tokenize_body,
)
from embergem.client.token_estimate import TokenEstimate
from embergem.client.transport import Transport
from embergem.errors import EmbergemError, EngineClosed, ForkedProcess, UnexpectedAnswer, renumbered_inputs
from embergem.sdk.chunks import chunk_lengths, slice_request
from embergem.types import Request

T = TypeVar("T")

PART_TOKENS = 16_384
"""Tokens of one request to a server: a few batches, or half a minute for EmbeddingGemma on two cores. A part of this
size does not reach the timeout, and sending it again costs little. Servers do not announce a size of their own."""


class ConnectionOptions(TypedDict, total=False):
    """Keyword arguments of `Client` and `AsyncClient`."""

    model: str
    api_key: str | None
    timeout: float
    retries: int
    connections: int


class RemoteModel:
    """One model of a server. Can be used from many threads and event loops; requests share pooled connections.

    Args:
        url: Address of the server, with or without "/v1".
        model: Name of the model at the server.
        api_key: Sent as a bearer token; None is the environment variable EMBERGEM_API_KEY, if it is set.
        timeout: Seconds to wait for one answer.
        retries: Times that a request is sent again after 429, 502, 503, 504 or a broken connection.
        connections: Most requests at a time.

    Raises:
        ServerUnreachable, UnexpectedAnswer: No embergem server answers at the address.
        UnknownModel: The server does not have `model`.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "default",
        api_key: str | None = None,
        timeout: float = 600,
        retries: int = 4,
        connections: int = 8,
    ) -> None:
        self._name = model
        self._pid = os.getpid()
        self._closed = False
        self._closing = threading.Lock()
        key = api_key or os.environ.get("EMBERGEM_API_KEY")
        self._transport = Transport(url, api_key=key, timeout=timeout, retries=retries, connections=connections)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_run_loop, args=(self._loop,), name="embergem client", daemon=True)
        self._thread.start()
        # Closes a client that is garbage-collected without `close`. Requests in flight keep the client alive.
        self._shut_down = weakref.finalize(self, _shut_down, self._loop, self._transport, self._pid)
        self._shut_down.atexit = False
        try:
            self._description = self.run(self._describe).result()
        except BaseException:
            self.close()
            raise
        self._fingerprint = self._description.fingerprint
        self._estimate = TokenEstimate(self._description.max_tokens)

    @property
    def id(self) -> str:
        """Name of the model at the server."""
        return self._description.id

    @property
    def dtype(self) -> str:
        """Arithmetic of the model."""
        return self._description.dtype

    @property
    def dimensions(self) -> int:
        """Full size of the vectors."""
        return self._description.dimensions

    @property
    def allowed_dimensions(self) -> tuple[int, ...]:
        """Sizes that a request can ask for, largest first."""
        return self._description.allowed_dimensions

    @property
    def limit(self) -> int:
        """Most tokens of an input."""
        return self._description.max_tokens

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks of the model."""
        return self._description.tasks

    @property
    def fingerprint(self) -> str | None:
        """Name of the vector space; None if the server has not sent it yet."""
        return self._fingerprint

    def submit(self, request: Request) -> Future[RemoteResult]:
        """Send a request. Cancelling the future closes the connection, and the server then stops its work."""
        return self.run(lambda: self._embed(request))

    def lengths(self, request: Request) -> Sequence[int]:
        """Let the server count the tokens of each input before truncation."""
        content = tokenize_body(self._name, request)

        async def count() -> list[int]:
            answer, _ = await self._transport.post("/v1/tokenize", content)
            return parse_counts(answer, len(request))

        return self.run(count).result()

    def get(self, path: str) -> bytes:
        """Return the body at `path` of the server."""
        return self.run(lambda: self._transport.get(path)).result()

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        """Run the coroutine that `work` makes on the client's thread.

        Raises:
            EngineClosed: The client was closed. Its closing ends a coroutine in work with the same error.
            ForkedProcess: This process was forked from the one that made the client.
        """
        if self._pid != os.getpid():
            raise ForkedProcess(
                f"This client belongs to process {self._pid}, from which this process was forked. Make a client in "
                "this process."
            )
        with self._closing:  # so that `close` sees every coroutine that was scheduled
            if self._closed:
                raise EngineClosed("The client was closed. Make a new one.")
            return asyncio.run_coroutine_threadsafe(self._until_closed(work), self._loop)

    def close(self) -> None:
        """Close the connections and end the thread; requests in flight fail with `EngineClosed`."""
        with self._closing:
            if self._closed or self._pid != os.getpid():
                return
            self._closed = True
            shutdown = self._shut_down()
        self._thread.join()
        if shutdown is not None:
            shutdown.result()

    async def _until_closed(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return await work()
        except asyncio.CancelledError:
            if self._closed:
                raise EngineClosed("The client was closed before the request was done.") from None
            raise

    async def _describe(self) -> ModelDescription:
        path = f"/v1/models/{quote(self._name)}"
        model = parse_model(await self._transport.get(path))
        if model.status in ("unloaded", "loading"):
            # The server loads such a model for the first request that needs it.
            await self._transport.post("/v1/tokenize", tokenize_body(self._name, Request(texts=[""])))
            model = parse_model(await self._transport.get(path))
        return describe(model)

    async def _embed(self, request: Request) -> RemoteResult:
        """Send a request in parts of about `PART_TOKENS`. Each answer improves the estimate for the next part."""
        parts: list[RemoteResult] = []
        start = 0
        while start < len(request):
            rest = slice_request(request, slice(start, None))
            count = next(chunk_lengths(self._estimate.sizes(rest), PART_TOKENS))
            parts.append(await self._send_slice(request, range(start, start + count)))
            start += count
        return RemoteResult.concatenate(parts)

    async def _send_slice(self, request: Request, places: range) -> RemoteResult:
        """Send the inputs of a request at `places`; an error has its `input_index` counted in the request."""
        with renumbered_inputs(places):
            return await self._send(slice_request(request, slice(places.start, places.stop)))

    async def _send(self, request: Request) -> RemoteResult:
        dimensions = request.dimensions or self.dimensions
        content = embeddings_body(self._name, request)
        try:
            answer, headers = await self._transport.post("/v1/embeddings", content)
        except EmbergemError as error:
            if error.status == 413 and len(request) > 1:
                return await self._send_halves(request)
            if error.input_index is not None and error.input_index >= len(request):
                error.input_index = None
            raise
        self._check_space(headers.get("x-embergem-space"))
        result = parse_vectors(answer, len(request), dimensions)
        if not result.truncated:
            self._estimate.learn(request, result.tokens)
        return result

    async def _send_halves(self, request: Request) -> RemoteResult:
        """Send a request that is too large for the server as two."""
        middle = len(request) // 2
        halves = (range(middle), range(middle, len(request)))
        return RemoteResult.concatenate([await self._send_slice(request, places) for places in halves])

    def _check_space(self, space: str | None) -> None:
        """Refuse vectors of another space than earlier ones: a server can exchange its model while a client is in use.

        Raises:
            UnexpectedAnswer: The space has changed.
        """
        self._fingerprint = self._fingerprint or space  # a model description may lack the fingerprint
        if space is not None and space != self._fingerprint:
            raise UnexpectedAnswer(
                f"{self._transport.url} now answers for {self._name!r} from another model: the new vectors are of the "
                f"space {space}, and those of this client were of {self._fingerprint}. They cannot be compared. Make a "
                "new client, and embed stored texts again."
            )


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _shut_down(loop: asyncio.AbstractEventLoop, transport: Transport, pid: int) -> Future[None] | None:
    """Cancel the requests in flight, close the connections and end the thread.

    Returns:
        A future of the shutdown, because a finalizer must not wait; None in a forked process, which has no such thread.
    """

    async def shut_down() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await transport.close()
        finally:
            # Stop the loop only after the callbacks of this task, which set the result of the future.
            loop.call_soon(loop.stop)

    return asyncio.run_coroutine_threadsafe(shut_down(), loop) if pid == os.getpid() else None
