"""Measure how near each dtype comes to float32 on vectors of real texts, after each layer and at the end.

    python benchmarks/exactness.py [MODEL ...]     (default: the random EmbeddingGemma, real Gemma 3 270M, MiniLM)

The texts are from the Lee corpus, and there are code, other scripts and single words. To measure a layer, the script
runs a model that ends after it. `scripts/real_gemma.py` writes the outliers of a trained model, which random weights
lack.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from random_gemma import assets  # noqa: E402

from embergem.engine import Request  # noqa: E402
from embergem.hub.resolve import resolve  # noqa: E402
from embergem.loader import load  # noqa: E402
from embergem.options import LoadOptions  # noqa: E402

DTYPES = ("bfloat16", "int16", "int8")


def texts() -> list[str]:
    """Return the 24 texts that are embedded, from one word to 150 tokens."""
    lee = (assets() / "lee" / "lee.cor").read_text("latin-1").strip().split("\n")[:18]
    return [
        *lee,
        "apple",
        "What is graphene?",
        "def area(r):\n    return 3.14159 * r * r",
        "你好，世界",
        "Привет",
        "🦆🦆",
    ]


def vectors(model: str | Path | None, dtype: str) -> np.ndarray:
    """Return the unit vectors of the texts."""
    # Gemma 3 270M is not an embedding model and has no dense layers. It is measured for its trained weights.
    with load(LoadOptions(model=model, allow_missing_dense=True, dtype=dtype)) as engine:
        found = engine.embed(Request(texts=texts())).vectors.astype(np.float64)
    unit: np.ndarray = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


def cut_off(model: Path) -> Iterator[tuple[int, Path]]:
    """Yield (layers, directory) for copies of the model that end after 1, 2, … layers."""
    config = json.loads((model / "config.json").read_text())
    for layers in range(1, config["num_hidden_layers"] + 1):
        with tempfile.TemporaryDirectory() as scratch:
            for path in model.iterdir():
                if path.is_dir():  # the reader refuses a link that points out of the checkpoint
                    shutil.copytree(path, Path(scratch) / path.name)
                elif path.name != "config.json":
                    (Path(scratch) / path.name).symlink_to(path)
            shorter = {"num_hidden_layers": layers}
            if "layer_types" in config:
                shorter["layer_types"] = config["layer_types"][:layers]
            (Path(scratch) / "config.json").write_text(json.dumps(config | shorter))
            yield layers, Path(scratch)


def worst_layer(model: Path, dtype: str) -> tuple[float, int]:
    """Return the least cosine to float32 after any layer, and the number of that layer."""
    found = []
    for layers, directory in cut_off(model):
        cosines = np.sum(vectors(directory, "float32") * vectors(directory, dtype), axis=1)
        found.append((float(cosines.min()), layers))
    return min(found)


def main() -> None:
    """Print the table."""
    models = sys.argv[1:] or [assets() / "random-embeddinggemma-300m", assets() / "gemma-3-270m", None]
    print("| model | dtype | least cosine to float32 | mean | least after any layer |\n| --- | --- | --- | --- | --- |")
    for model in models:
        exact = vectors(model, "float32")
        for dtype in DTYPES:
            cosines = np.sum(exact * vectors(model, dtype), axis=1)
            name = "all-MiniLM-L6-v2" if model is None else Path(model).name
            worst, layer = worst_layer(resolve(LoadOptions(model=model)).path, dtype)
            row = f"| {name} | {dtype} | {cosines.min():.6f} | {cosines.mean():.6f} | {worst:.6f} (layer {layer}) |"
            print(row, flush=True)


if __name__ == "__main__":
    main()
