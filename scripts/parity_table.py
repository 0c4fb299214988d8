"""How near each family comes to the published library's vectors, from the stored ones: the table in docs/models.md.

    python scripts/parity_table.py [--print]

Every tiny checkpoint is there; all-MiniLM-L6-v2 and the full-size random EmbeddingGemma are measured where they can be
had. The exit code is 1 when a family differs by more than the tolerance.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from models_page import PAGE, page
from random_gemma import assets

from embergem.checkpoint.checkpoint import Location
from embergem.diagnostics.verify.ours import Ours
from embergem.errors import EmbergemError
from embergem.hub.resolve import resolve
from embergem.options import LoadOptions

GOLDENS = Path(__file__).parents[1] / "tests" / "data" / "goldens"
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Row:
    """A family: its name, the checkpoints people ask for, what differs, its tiny checkpoints, and larger weights."""

    family: str
    checkpoints: str
    differs: str
    tiny: tuple[str, ...]
    larger: str | None = None


ROWS = (
    Row(
        "EmbeddingGemma 300m", "google, unsloth mirror, QAT variants, fine-tunes",
        "window in both directions, dense layers after pooling", ("gemma3_text",), "gemma300m_random",
    ),
    Row(
        "EmbeddingGemma 2, text", "google/embeddinggemma-2",
        "per-layer embeddings and head sizes, projection before pooling", ("embedding_gemma2",),
    ),
    Row("Qwen3-Embedding", "0.6B, 4B, 8B", "causal, last-token pooling, closing token, instructions", ("qwen3",)),
    Row(
        "BERT", "all-MiniLM, bge, e5, gte, arctic, mxbai",
        "cls or mean, prefixes", ("bert_mean", "bert_cls"), "minilm",
    ),
    Row("MPNet", "all-mpnet-base-v2", "relative position biases", ("mpnet",)),
    Row("XLM-RoBERTa", "bge-m3, multilingual-e5, arctic-l-v2", "position offset, unigram tokenizer", ("xlm_roberta",)),
    Row("ModernBERT", "gte-modernbert-base, granite-embedding r2", "GeGLU, local and global layers", ("modernbert",)),
    Row("NomicBERT", "nomic-embed-text-v1.5", "rotary, SwiGLU, cut after a layer norm", ("nomic_bert",)),
    Row("Static (Model2Vec)", "potion family", "a table and a mean", ("static",)),
)  # fmt: skip


def difference(name: str, directory: Path) -> float:
    """Return the largest difference in any component over the stored rows of a golden."""
    inputs = json.loads((GOLDENS / name / "inputs.json").read_text())
    expected = np.load(GOLDENS / name / "expected.npz")["vectors"].astype(np.float64)
    rows = [np.array(ids, dtype=np.uint32) for ids in inputs["ids"]]
    found = Ours(Location(name, directory)).vectors(rows).astype(np.float64)
    return float(np.abs(found - expected).max())


def larger(name: str) -> Path | None:
    """Where the larger weights of a golden are, if they can be had."""
    if name == "gemma300m_random":
        directory = assets() / "random-embeddinggemma-300m"
        return directory if directory.exists() else None
    try:
        return resolve(LoadOptions()).path
    except EmbergemError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return None


def main() -> int:
    """Measure every family and write the table, or print it."""
    lines = [
        "| family | checkpoints | what differs | tiny checkpoint | larger weights |",
        "| --- | --- | --- | --- | --- |",
    ]
    worst = 0.0
    for row in ROWS:
        tiny = [difference(name, GOLDENS / name) for name in row.tiny if (GOLDENS / name / "config.json").exists()]
        directory = larger(row.larger) if row.larger else None
        cell = ""
        if row.larger and directory:
            off = difference(row.larger, directory)
            worst = max(worst, off)
            cell = f"{off:.1e} ({'all-MiniLM-L6-v2' if row.larger == 'minilm' else 'full size, random'})"
        worst = max([worst, *tiny])
        figure = ", ".join(f"{off:.1e}" for off in tiny) or "not measured"
        lines.append(f"| {row.family} | {row.checkpoints} | {row.differs} | {figure} | {cell} |")
    table = "\n".join(lines) + "\n"
    print(table + f"{'within' if worst <= TOLERANCE else 'NOT within'} {TOLERANCE:g}")
    if "--print" not in sys.argv:
        PAGE.write_text(page(table))
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
