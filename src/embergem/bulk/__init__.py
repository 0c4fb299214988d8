"""Bulk: embeds a corpus in files or Arrow tables, keeps finished parts, and continues after a crash."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embergem.bulk.table import embed_table as embed_table

__all__ = ["embed_table"]


def __getattr__(name: str) -> Any:
    if name != "embed_table":
        raise AttributeError(f"module 'embergem.bulk' has no attribute {name!r}")
    from embergem.bulk.table import embed_table

    return embed_table


def __dir__() -> list[str]:
    return __all__
