"""An embergem server as a backend: one asynchronous client on a thread of its own, for callers of both kinds."""

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, TypedDict, TypeVar
from urllib.parse import quote

from embergem.client.codec import (
    Answered,
    Description,
    describe,
    embeddings_body,
    parse_counts,
    parse_model,
    parse_vectors,
    tokenize_body,
)
from embergem.client.token_estimate import TokenGuess
from embergem.client.transport import Http
from embergem.errors import EmbergemError, EngineClosed, ForkedProcess, UnexpectedAnswer
from embergem.sdk.chunks import chunk_lengths, slice_request
from embergem.types import Request

T = TypeVar("T")

PART_TOKENS = 16_384
"""Tokens of one request to a server: a few of its batches, half a minute where EmbeddingGemma has two cores. So what
has to be sent again is never much, and nobody's time for an answer runs out. No server says what it would like."""


class RemoteOptions(TypedDict, total=False):
    """How a server is to be asked; see `Client`."""

    model: str
    api_key: str | None
    timeout: float
    retries: int
    connections: int


class Remote:
    """One model of a server. Safe from many threads and event loops; requests share pooled connections.

    Args:
        url: Address of the server, with or without "/v1".
        model: Name it is served under.
        api_key: Sent as a bearer token; None takes EMBERGEM_API_KEY from the environment, if it is set.
        timeout: Seconds to wait for one answer.
        retries: Times that a request is sent again after 429, 502, 503, 504 or a broken connection.
        connections: Requests that are on their way at a time, at most.

    Raises:
        ServerUnreachable, UnexpectedAnswer: There is no such server.
        UnknownModel: It does not serve `model`.
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
        self._http = Http(url, api_key=key, timeout=timeout, retries=retries, connections=connections)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_serve, args=(self._loop,), name="embergem client", daemon=True)
        self._thread.start()
        # For a client that is dropped unclosed; what it has on its way holds it.
        self._ended = weakref.finalize(self, _end, self._loop, self._http, self._pid)
        self._ended.atexit = False
        try:
            self._described = self.call(self._describe).result()
        except BaseException:
            self.close()
            raise
        self._space = self._described.fingerprint
        self._guess = TokenGuess(self._described.max_tokens)

    @property
    def id(self) -> str:
        """Name of the model at the server."""
        return self._described.id

    @property
    def dtype(self) -> str:
        """Arithmetic of the server."""
        return self._described.dtype

    @property
    def dimensions(self) -> int:
        """Full width of the vectors."""
        return self._described.dimensions

    @property
    def allowed_dimensions(self) -> tuple[int, ...]:
        """Sizes that can be asked for, largest first."""
        return self._described.allowed_dimensions

    @property
    def limit(self) -> int:
        """Most tokens of an input."""
        return self._described.max_tokens

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks of the model."""
        return self._described.tasks

    @property
    def fingerprint(self) -> str | None:
        """Space of the vectors, where the server says it."""
        return self._space

    def submit(self, request: Request) -> Future[Answered]:
        """Send a request; cancelling the future closes its connection, and the server stops its work."""
        return self.call(lambda: self._embed(request))

    def lengths(self, request: Request) -> Sequence[int]:
        """Let the server count."""
        content = tokenize_body(self._name, request)

        async def count() -> list[int]:
            answer, _ = await self._http.post("/v1/tokenize", content)
            return parse_counts(answer, len(request))

        return self.call(count).result()

    def get(self, path: str) -> bytes:
        """Return the body at `path`."""
        return self.call(lambda: self._http.get(path)).result()

    def call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        """Run `work` on the client's thread.

        Raises:
            EngineClosed: After `close`; a call that is on its way then ends with it, too.
        """
        if self._pid != os.getpid():
            raise ForkedProcess(
                f"this client belongs to process {self._pid}, from which this one was forked; make one of your own"
            )
        with self._closing:  # what gets in has begun before the end does
            if self._closed:
                raise EngineClosed("the client was closed; make a new one")
            return asyncio.run_coroutine_threadsafe(self._until_closed(work), self._loop)

    def close(self) -> None:
        """Close the connections and end the thread; requests on their way fail with `EngineClosed`."""
        with self._closing:
            if self._closed or self._pid != os.getpid():
                return
            self._closed = True
            ending = self._ended()
        self._thread.join()
        if ending is not None:
            ending.result()

    async def _until_closed(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return await work()
        except asyncio.CancelledError:
            if self._closed:
                raise EngineClosed("the client was closed before the request was done") from None
            raise

    async def _describe(self) -> Description:
        path = f"/v1/models/{quote(self._name)}"
        model = parse_model(await self._http.get(path))
        if model.status in ("unloaded", "loading"):
            # The server loads such a model for the first request that needs it.
            await self._http.post("/v1/tokenize", tokenize_body(self._name, Request(texts=[""])))
            model = parse_model(await self._http.get(path))
        return describe(model)

    async def _embed(self, request: Request) -> Answered:
        """Send a request, in parts of about `PART_TOKENS`; how many these are is learned from part to part."""
        parts: list[Answered] = []
        start = 0
        while start < len(request):
            rest = slice_request(request, slice(start, None))
            count = next(chunk_lengths(self._guess.sizes(rest), PART_TOKENS))
            try:
                parts.append(await self._send(slice_request(rest, slice(count))))
            except EmbergemError as error:
                error.renumber_input(range(start, start + count))
                raise
            start += count
        return Answered.joined(parts)

    async def _send(self, request: Request) -> Answered:
        wanted = request.dimensions or self.dimensions
        content = embeddings_body(self._name, request)
        try:
            answer, headers = await self._http.post("/v1/embeddings", content)
        except EmbergemError as error:
            if error.status != 413 or len(request) == 1:
                raise
            return await self._in_halves(request)
        self._check_space(headers.get("x-embergem-space"))
        parsed = parse_vectors(answer, len(request), wanted)
        if not parsed.truncated:
            self._guess.learn(request, parsed.tokens)
        return parsed

    def _check_space(self, space: str | None) -> None:
        """Refuse vectors of another space than those before; a server may exchange its model under a client."""
        self._space = self._space or space  # where the description lacks it, the first answer tells it
        if space is not None and space != self._space:
            raise UnexpectedAnswer(
                f"{self._http.url} now answers for {self._name!r} from another model: its vectors are of the space "
                f"{space}, and those of this client were of {self._space}. They cannot be compared: make a new client, "
                "and embed again what you keep"
            )

    async def _in_halves(self, request: Request) -> Answered:
        """Send what is too large for the server as two requests."""
        middle = len(request) // 2
        first = await self._send(slice_request(request, slice(middle)))
        try:
            second = await self._send(slice_request(request, slice(middle, None)))
        except EmbergemError as error:
            error.renumber_input(range(middle, len(request)))
            raise
        return Answered.joined([first, second])


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _end(loop: asyncio.AbstractEventLoop, http: Http, pid: int) -> Future[None] | None:
    """Cancel what is on its way, close the connections and end the thread.

    It waits for nothing, because it may be run as a finalizer; the future tells how it went. In a fork, where the
    thread is not, there is none.
    """

    async def end() -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        try:
            await http.close()
        finally:
            loop.call_soon(loop.stop)  # not at once: what waits for this task is to be told first

    return asyncio.run_coroutine_threadsafe(end(), loop) if pid == os.getpid() else None
