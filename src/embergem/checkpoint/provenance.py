"""Which model a checkpoint says it is, or was made from: by the place of its files, and by what stands in them."""

from pathlib import Path
from typing import Any

from embergem.hub import model_cache

_SNAPSHOTS = "snapshots"
_MODELS = "models--"


def hub_id(path: Path) -> str | None:
    """Return the id that a directory was fetched under, where it lies in the hub library's cache or in embergem's.

    >>> hub_id(Path("hub/models--intfloat--e5-base-v2/snapshots/f52bf8ec8c7124536f0efb74aca902b2995e5bcd"))
    'intfloat/e5-base-v2'
    """
    folder = path.parent
    if folder.name == _SNAPSHOTS and folder.parent.name.startswith(_MODELS):
        return folder.parent.name.removeprefix(_MODELS).replace("--", "/", 1)
    if "--" in folder.name and (path / model_cache.MANIFEST).is_file():
        return folder.name.replace("--", "/", 1)
    return None


def of_config(config: dict[str, Any]) -> tuple[str, ...]:
    """Return what config.json was loaded from before it was saved: transformers notes that up to version 4."""
    name = config.get("_name_or_path")
    return (name,) if isinstance(name, str) else ()


def of_gguf(metadata: dict[str, Any]) -> tuple[str, ...]:
    """Return the names in a GGUF file's metadata, its own before those of the models that it was made from."""
    bases = sorted(key for key in metadata if key.startswith("general.base_model."))
    keys = ["general.name", *(key for key in bases if key.endswith((".repo_url", ".name")))]
    return tuple(name for key in keys if isinstance(name := metadata.get(key), str))
