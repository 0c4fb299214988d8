"""Golden checkpoints with other fields, tensor names or modules, and their vectors by sentence-transformers.

    python scripts/variants.py

tests/data/variants.json lists the variants. This script computes the vectors in float32, each row of ids alone, and
tests/models/test_variants.py compares embergem with them.
"""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

DATA = Path(__file__).parents[1] / "tests" / "data"
VARIANTS: list[dict[str, Any]] = json.loads((DATA / "variants.json").read_text())
VECTORS = DATA / "variants.npz"


def rows_of(variant: dict[str, Any]) -> list[list[int]]:
    """Return the rows of a variant: its own ones, or four of its golden, long ones among them."""
    if "rows" in variant:
        own: list[list[int]] = variant["rows"]
        return own
    rows = json.loads((DATA / "goldens" / variant["golden"] / "inputs.json").read_text())["ids"]
    return [rows[2], *rows[-3:]]


def write(variant: dict[str, Any], directory: Path) -> Path:
    """Write the model files of a variant and return the directory."""
    shutil.copytree(
        DATA / "goldens" / variant["golden"],
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


REFERENCE = """
import json, sys
import numpy as np
import sentence_transformers, torch, transformers
from sentence_transformers import SentenceTransformer

order = json.load(open(sys.argv[1]))
made_with = {module.__name__: module.__version__ for module in (sentence_transformers, transformers, torch)}
vectors = {"made_with": np.array(json.dumps(made_with))}
for name, (model, rows) in order.items():
    reference = SentenceTransformer(model, device="cpu", local_files_only=True, model_kwargs={"dtype": "float32"})
    found = []
    with torch.inference_mode():
        for row in rows:
            ids = torch.tensor([row])
            features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            found.append(reference(features)["sentence_embedding"][0].numpy())
    vectors[name] = np.stack(found)
    print(name, flush=True)
np.savez_compressed(sys.argv[2], **vectors)
"""


def main() -> None:
    """Write the vectors."""
    from parity import python  # imported here because the tests import this module for its files

    with tempfile.TemporaryDirectory() as scratch:
        order = {}
        for number, variant in enumerate(VARIANTS):
            order[variant["name"]] = (str(write(variant, Path(scratch) / str(number))), rows_of(variant))
        (Path(scratch) / "order.json").write_text(json.dumps(order))
        subprocess.run([str(python()), "-c", REFERENCE, f"{scratch}/order.json", str(VECTORS)], check=True)


if __name__ == "__main__":
    main()
