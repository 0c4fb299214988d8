"""Code that comes with a model (`auto_map`): it is never run, so the model is refused unless the catalog knows it.

Separate because it joins the files of a checkpoint with the catalog, and `engine.prepare` and `embergem verify` use it.
"""

from pathlib import Path
from typing import Any

from embergem import paths
from embergem.catalog import CATALOG, PinnedFile
from embergem.checkpoint.checkpoint import Checkpoint
from embergem.checkpoint.files import sha256
from embergem.models import canonical_model_type
from embergem.models.unread import REMOTE_CODE, remote_code_error


def accept_known_code(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return config.json, without `auto_map` if the catalog knows by the weights that the code is not needed.

    Raises:
        UnsupportedModel: Another file of an unknown model names code. `architecture` refuses the field of config.json.
    """
    config = checkpoint.config
    if REMOTE_CODE not in config and not checkpoint.remote_code:
        return config
    family = canonical_model_type(config.get("model_type"))
    if has_known_code(family, [path for _, path in checkpoint.weights]):
        return {name: value for name, value in config.items() if name != REMOTE_CODE}
    if checkpoint.remote_code:
        raise remote_code_error(checkpoint.remote_code[0], "a tokenizer", family)
    return config


def has_known_code(family: str, files: list[Path]) -> bool:
    """Return whether the model with these weights is one whose own code computes what embergem computes."""
    known = (entry.files for entry in CATALOG if entry.remote_code and entry.family == family)
    weights = ([pin for pin in pins if pin.path.endswith(".safetensors")] for pins in known)
    return any(pins and all(any(_has_bytes(path, pin) for path in files) for pin in pins) for pins in weights)


def _has_bytes(path: Path, pin: PinnedFile) -> bool:
    from embergem._native import Note  # imported here because `embergem --help` does without it

    if not path.as_posix().endswith(f"/{pin.path}") or path.stat().st_size != pin.size:
        return False
    note = Note(paths.cache_root(), "pinned", [path], [pin.sha256])
    if note.read() is None:
        if not pin.matches(sha256(path)):
            return False
        note.write("")
    return True
