"""Clients of an embergem server: `Client` and `AsyncClient`, and the HTTP below them.

The classes are imported at first use. Python runs this file before any module of the package, and the embedders need
`embergem.client.remote`: importing the classes here, which need the embedders, would be a cycle.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embergem.client.client import AsyncClient as AsyncClient
    from embergem.client.client import Client as Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'embergem.client' has no attribute {name!r}")
    from embergem.client import client

    return getattr(client, name)


def __dir__() -> list[str]:
    return __all__
