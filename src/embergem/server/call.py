"""One HTTP request on its way through the server, and the table of what can be asked."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from embergem.config import Key
from embergem.server.state import Service


@dataclass(slots=True)
class Notes:
    """What became known about a request while it was answered, for the access log and the metrics."""

    request_id: str = ""
    path: str = ""
    key: str = ""
    model: str = ""
    task: str = ""
    inputs: int = 0
    tokens: int = 0
    truncated: int = 0
    cached: int = 0
    code: str = ""
    texts: list[str] | None = None


@dataclass(slots=True)
class Call:
    """A request with all that its handler needs; `key` is None on an open server."""

    http: HttpRequest
    service: Service
    key: Key | None
    notes: Notes = field(default_factory=Notes)

    def charge(self, tokens: int) -> None:
        """Charge tokens to whose request it is.

        Raises:
            RateLimited: The key has used up its minute.
        """
        if self.key is not None:
            self.service.limiter.charge(self.key, tokens)


Handler = Callable[[Call], Awaitable[Response]]
Access = Literal["open", "key", "admin"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that can be asked: its route is made from this, and its description in `/openapi.json`.

    `body` and `answer` are the structs that are read and written; `statuses` are those of its errors beside the ones
    that any operation may have. The first line of the handler's docstring is its summary.
    """

    method: Literal["GET", "POST"]
    path: str
    handler: Handler
    access: Access = "key"
    body: type[msgspec.Struct] | None = None
    answer: type[msgspec.Struct] | str = "application/json"
    statuses: tuple[int, ...] = ()

    @property
    def summary(self) -> str:
        """First line of the handler's docstring."""
        return (self.handler.__doc__ or "").strip().split("\n")[0]
