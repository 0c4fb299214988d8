"""Directories where embergem and the Hugging Face hub library keep files on this machine. Nothing here is created.

Separate because `checkpoint`, `hub` and `engine` all read these directories, and `checkpoint` imports no `hub`.
"""

import os
from pathlib import Path

MODEL_MANIFEST = "embergem.json"
"""File in each cached version of a model that lists its files; see `hub.model_cache`."""

_SNAPSHOTS = "snapshots"
_MODELS = "models--"


def cache_root() -> Path:
    """Return embergem's cache directory: `$EMBERGEM_CACHE`, `$XDG_CACHE_HOME/embergem` or `~/.cache/embergem`."""
    if own := os.environ.get("EMBERGEM_CACHE"):
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "embergem"


def model_directory(model: str) -> Path:
    """Return the directory in embergem's cache that holds all versions of the model with this hub id."""
    return cache_root() / "models" / model.replace("/", "--")


def hub_cache() -> Path:
    """Return the cache directory of the hub library: `$HF_HUB_CACHE`, or `hub` under `$HF_HOME`."""
    from huggingface_hub import constants  # imported here because it takes a while

    return Path(constants.HF_HUB_CACHE)


def hub_id(path: Path) -> str | None:
    """Return the hub id that a directory was downloaded under, if it lies in embergem's cache or the hub library's.

    >>> hub_id(Path("hub/models--intfloat--e5-base-v2/snapshots/f52bf8ec8c7124536f0efb74aca902b2995e5bcd"))
    'intfloat/e5-base-v2'
    """
    parent = path.parent
    if parent.name == _SNAPSHOTS and parent.parent.name.startswith(_MODELS):
        return parent.parent.name.removeprefix(_MODELS).replace("--", "/", 1)
    if "--" in parent.name and (path / MODEL_MANIFEST).is_file():
        return parent.name.replace("--", "/", 1)
    return None
