"""The names that a checkpoint's own files give for the model, or for the model that it was made from.

Separate because two readers use it: one reads config.json, the other GGUF metadata.
"""

from typing import Any


def of_config(config: dict[str, Any]) -> tuple[str, ...]:
    """Return what config.json was loaded from before it was saved: transformers notes that up to version 4."""
    name = config.get("_name_or_path")
    return (name,) if isinstance(name, str) else ()


def of_gguf(metadata: dict[str, Any]) -> tuple[str, ...]:
    """Return the names in a GGUF file's metadata, its own before those of the models that it was made from."""
    bases = sorted(key for key in metadata if key.startswith("general.base_model."))
    keys = ["general.name", *(key for key in bases if key.endswith((".repo_url", ".name")))]
    return tuple(name for key in keys if isinstance(name := metadata.get(key), str))
