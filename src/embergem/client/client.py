"""Clients of an embergem server: the methods of the embedders, from afar."""

from typing import Self, Unpack

from embergem.async_embedder import AsyncEmbedder, run_in_thread
from embergem.client.codec import parse_model_names
from embergem.client.remote import Remote, RemoteOptions
from embergem.embedder import Embedder


class Client(Embedder):
    """`Embedder` on a server: the same methods and the same bits. Safe from many threads.

    Requests share pooled connections. Large ones are sent in parts of about 16,384 tokens: ids are counted, and what a
    text takes is guessed from what the server says of the texts before. What fails for a while (429, 502, 503, 504, a
    broken connection) is sent again when the server's `Retry-After` says, or after a growing pause. Vectors travel as
    base64. Errors are those of `embergem.errors`, as if the model were here; a server that comes to answer from another
    model, whose vectors cannot be compared with those before, is an `UnexpectedAnswer`.

    Args:
        url: Address of the server, such as "http://localhost:1234", with or without "/v1".
        model: Name of the model there; "default" unless given.
        api_key: Sent as a bearer token; None takes EMBERGEM_API_KEY from the environment, where it is set.
        timeout: Seconds to wait for one answer; 600 unless given.
        retries: Times that one request is sent again; 4 unless given.
        connections: Requests on their way at a time; 8 unless given.

    Raises:
        ServerUnreachable: Nobody answers there.
        UnexpectedAnswer: Somebody does, and it is not embergem.
        UnknownModel: `model` is not served.
        UnsupportedOption: The package httpx2 is missing: `pip install 'embergem[client]'`.

    Example:
        >>> from embergem import Client
        >>> with Client("http://localhost:1234") as client:  # doctest: +SKIP
        ...     client.embed_query("What is graphene?").shape
        (1, 384)
    """

    def __init__(self, url: str, **options: Unpack[RemoteOptions]) -> None:
        self._remote = Remote(url, **options)
        super().__init__(self._remote)

    def models(self) -> list[str]:
        """Names of the models that the server has."""
        return parse_model_names(self._remote.get("/v1/models"))


class AsyncClient(AsyncEmbedder):
    """`AsyncEmbedder` on a server; see `Client` for its arguments and errors.

    The constructor asks the server about its model where it stands; inside of an event loop, use `await
    AsyncClient.connect(...)`.

    Example:
        >>> from embergem import AsyncClient
        >>> async def main():
        ...     async with await AsyncClient.connect("http://localhost:1234") as client:
        ...         return await client.embed_query("What is graphene?")
    """

    def __init__(self, url: str, **options: Unpack[RemoteOptions]) -> None:
        self._remote = Remote(url, **options)
        super().__init__(self._remote)

    @classmethod
    async def connect(cls, url: str, **options: Unpack[RemoteOptions]) -> Self:
        """Connect without holding the event loop; see the class."""
        return await run_in_thread(lambda: cls(url, **options), undo=lambda client: client._remote.close())

    async def models(self) -> list[str]:
        """Names of the models that the server has."""
        return parse_model_names(await run_in_thread(lambda: self._remote.get("/v1/models")))
