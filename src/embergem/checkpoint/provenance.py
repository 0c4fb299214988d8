"""Names that a checkpoint's own files give for the model, or for the model that it was made from.

Separate because two readers use it: `read` for config.json, `gguf` for GGUF metadata.
"""

from typing import Any


def names_in_config(config: dict[str, Any]) -> tuple[str, ...]:
    """Return the name that the model was loaded from; transformers saved it in config.json up to version 4."""
    name = config.get("_name_or_path")
    return (name,) if isinstance(name, str) else ()


def names_in_gguf(metadata: dict[str, Any]) -> tuple[str, ...]:
    """Return the names in the metadata of a GGUF file: the model's own first, then those of its base models."""
    bases = sorted(key for key in metadata if key.startswith("general.base_model."))
    keys = ["general.name", *(key for key in bases if key.endswith((".repo_url", ".name")))]
    return tuple(name for key in keys if isinstance(name := metadata.get(key), str))
