"""Variants: golden checkpoints with other fields, tensor names or modules, as tests/data/variants.json lists them.

Separate because the tests make the same files as `scripts/variant_vectors.py`, which runs the published library.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).parent
VARIANTS: list[dict[str, Any]] = json.loads((ROOT / "data" / "variants.json").read_text())
VECTORS = ROOT / "data" / "variants.npz"


def rows_of(variant: dict[str, Any]) -> list[list[int]]:
    """Return the rows of a variant: its own ones, or four of its golden, long ones among them."""
    if own := variant.get("rows"):
        return own
    rows = json.loads((ROOT / "data" / "goldens" / variant["golden"] / "inputs.json").read_text())["ids"]
    return [rows[2], *rows[-3:]]


def write(variant: dict[str, Any], directory: Path) -> Path:
    """Write the model files of a variant and return the directory."""
    shutil.copytree(
        ROOT / "data" / "goldens" / variant["golden"],
        directory,
        ignore=shutil.ignore_patterns("expected.npz", "inputs.json"),
    )
    config = json.loads((directory / "config.json").read_text()) | variant.get("config", {})
    config = {name: value for name, value in config.items() if name not in variant.get("remove", ())}
    (directory / "config.json").write_text(json.dumps(config))
    if renamed := variant.get("tensors"):
        tensors = load_file(directory / "model.safetensors")
        for old, new in renamed:
            tensors = {name.replace(old, new): value for name, value in tensors.items()}
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    if kinds := variant.get("modules"):
        _write_modules(directory / "modules.json", kinds)
    return directory


def _write_modules(file: Path, kinds: list[str]) -> None:
    """Write a chain of modules, each with the directory that it has in `file`; a new one has a directory of its own."""
    entries = {entry["type"].rpartition(".")[2]: entry for entry in json.loads(file.read_text())}
    prefix = "sentence_transformers.models."
    new = {kind: {"type": prefix + kind, "path": f"{index}_{kind}"} for index, kind in enumerate(kinds)}
    chain = [entries.get(kind, new[kind]) | {"idx": index, "name": str(index)} for index, kind in enumerate(kinds)]
    file.write_text(json.dumps(chain))
