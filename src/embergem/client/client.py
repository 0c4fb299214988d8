"""`Client` and `AsyncClient`: the embedders with a model of a server as their backend."""

from typing import Self, Unpack

from embergem.async_embedder import AsyncEmbedder, run_in_thread
from embergem.client.codec import parse_model_names
from embergem.client.remote import ConnectionOptions, RemoteModel
from embergem.embedder import Embedder
from embergem.keywords import checked_class


@checked_class
class Client(Embedder):
    """An `Embedder` on a server: the same methods return the same bits. Can be used from many threads.

    Requests share pooled connections. A large call is sent in parts of about 16,384 tokens: token ids are counted, and
    the tokens of texts are estimated from the token counts in earlier answers. A request is sent again after a
    temporary failure (429, 502, 503, 504, a broken connection), at the time in the server's `Retry-After` or after a
    growing pause. Vectors travel as base64. Errors are those of `embergem.errors`, as if the model were in this
    process. `UnexpectedAnswer` is raised if the server begins to answer from a model with another vector space.

    Args:
        url: Address of the server, such as "http://localhost:1234", with or without "/v1".
        model: Name of the model at the server; "default" unless given.
        api_key: Sent as a bearer token; None is the environment variable EMBERGEM_API_KEY, if it is set.
        timeout: Seconds to wait for one answer; 600 unless given.
        retries: Times that one request is sent again; 4 unless given.
        connections: Most requests at a time; 8 unless given.

    Raises:
        ServerUnreachable: No server answers at the address.
        UnexpectedAnswer: The server there is not embergem.
        UnknownModel: The server does not have `model`.
        UnsupportedOption: The package httpx2 is missing: `pip install 'embergem[client]'`.

    Example:
        >>> from embergem import Client
        >>> with Client("http://localhost:1234") as client:  # doctest: +SKIP
        ...     client.embed_query("What is graphene?").shape
        (1, 384)
    """

    def __init__(self, url: str, **options: Unpack[ConnectionOptions]) -> None:
        self._remote = RemoteModel(url, **options)
        super().__init__(self._remote)
        self._model, self._options = url, options

    def models(self) -> list[str]:
        """Return the names of the models that the server has."""
        return parse_model_names(self._remote.get("/v1/models"))


@checked_class
class AsyncClient(AsyncEmbedder):
    """An `AsyncEmbedder` on a server; see `Client` for arguments and errors.

    The constructor blocks until the server has described its model. In a coroutine, use `await
    AsyncClient.connect(...)`.

    Example:
        >>> from embergem import AsyncClient
        >>> async def main():
        ...     async with await AsyncClient.connect("http://localhost:1234") as client:
        ...         return await client.embed_query("What is graphene?")
    """

    def __init__(self, url: str, **options: Unpack[ConnectionOptions]) -> None:
        self._remote = RemoteModel(url, **options)
        super().__init__(self._remote)
        self._model, self._options = url, options

    @classmethod
    async def connect(cls, url: str, **options: Unpack[ConnectionOptions]) -> Self:
        """Connect without blocking the event loop; see the class."""
        return await run_in_thread(lambda: cls(url, **options), undo=lambda client: client._remote.close())

    async def models(self) -> list[str]:
        """Return the names of the models that the server has."""
        return parse_model_names(await run_in_thread(lambda: self._remote.get("/v1/models")))
