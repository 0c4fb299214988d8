"""Ray: embeds a corpus on the nodes of a cluster, `Embed` for pipelines of Ray Data, and an application of Ray Serve.

Needs the extra `ray`: `pip install 'embergem[ray]'`. embergem has to be installed on every node in the same version.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embergem.ray.embed_batches import Embed as Embed

__all__ = ["Embed"]


def __getattr__(name: str) -> Any:
    if name != "Embed":
        raise AttributeError(f"module 'embergem.ray' has no attribute {name!r}")
    from embergem.ray.embed_batches import Embed

    return Embed


def __dir__() -> list[str]:
    return __all__
