"""Measure how near each dtype comes to float32: the vectors, and what search and similarity make of them.

    python benchmarks/exactness.py [MODEL ...] [--dtypes int8 int16 bfloat16] [--json FILE]

This is the one procedure behind every published figure of the accuracy of a dtype (`make exactness`). MODEL is a name
in `MODELS` or a directory; the default is every name. For each model and dtype:

- The least and the mean cosine to float32 of 24 texts: 18 news articles of the Lee corpus, code, other scripts and
  single words.
- The change of the Pearson correlation with the 1,225 similarities that people gave the 50 articles of the Lee corpus.
- For the 300 articles of the Lee background corpus, each taken as a query: the share of its 10 nearest others in
  float32 that are among its 10 nearest in the dtype. Texts beyond the limit of a model are truncated.
"""

import json
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench import processor
from fetch_assets import Unavailable
from parity_real import MODELS as REAL
from rivals import ROOT, assets  # adds scripts/ to the path

from embergem.engine import Request
from embergem.hub.resolve import resolve
from embergem.loader import load
from embergem.options import LoadOptions

Vectors = np.ndarray[tuple[int, int], np.dtype[np.float64]]

DTYPES = ("bfloat16", "int16", "int8")
NEAREST = 10
RESULTS = ROOT / "benchmarks" / "results" / "exactness.json"
NO_EOS = "-no-eos"
MODELS: dict[str, Callable[[], Path]] = {
    "gemma-3-270m": lambda: made("gemma-3-270m"),
    "gemma-3-270m-causal": lambda: made("gemma-3-270m-causal"),
    "gemma-3-270m-no-eos": lambda: made("gemma-3-270m"),
    "gemma-3-270m-causal-no-eos": lambda: made("gemma-3-270m-causal"),
    "all-MiniLM-L6-v2": lambda: resolve(LoadOptions()).path,
    "all-mpnet-base-v2": REAL[0].directory,
    "random-embeddinggemma-300m": lambda: made("random-embeddinggemma-300m"),
}
"""Directory of each model. `scripts/real_gemma.py --causal` writes the first two: real weights with the mask of
EmbeddingGemma and with the one that they were trained with. A model whose name ends in `NO_EOS` gets texts without the
`<eos>` at the end. EmbeddingGemma has it; Gemma 3 270M as published has not, and its vector of that token is the least
exact one."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Unit vectors of all texts in one dtype.

    Attributes:
        texts: The 24 texts.
        judged: The 50 articles with judged similarities.
        documents: The 300 articles.
        instruction_set: The kernels that were used.
    """

    texts: Vectors
    judged: Vectors
    documents: Vectors
    instruction_set: str


@dataclass(frozen=True, slots=True)
class Exactness:
    """How near a dtype comes to float32, as the module describes."""

    model: str
    dtype: str
    instruction_set: str
    least: float
    mean: float
    pearson_change: float
    neighbours_kept: float


def made(name: str) -> Path:
    """Return the directory of a model that a script writes beside the test assets."""
    directory = assets() / name
    if not directory.exists():
        raise Unavailable(f"{directory} does not exist. Write it with `make exactness`.")
    return directory


def corpus(name: str, encoding: str) -> list[str]:
    """Return the documents of a corpus among the test assets."""
    return (assets() / name).read_text(encoding).strip().split("\n")


def texts() -> list[str]:
    """Return the 24 texts, from one word to 150 tokens."""
    return [
        *corpus("lee/lee.cor", "latin-1")[:18],
        "apple",
        "What is graphene?",
        "def area(r):\n    return 3.14159 * r * r",
        "你好，世界",
        "Привет",
        "🦆🦆",
    ]


def vectors(model: Path, dtype: str, groups: Sequence[list[str]], eos: bool = True) -> tuple[str, list[Vectors]]:
    """Return the kernels in use and the unit vectors of each group of texts, with or without their last token."""
    found = []
    # Gemma 3 270M is not an embedding model and has no dense layers. It is measured for its trained weights.
    with load(LoadOptions(model=model, allow_missing_dense=True, dtype=dtype)) as engine:
        for group in groups:
            rows = [row.ids.tolist() for row in engine.prepare(Request(texts=group, truncate=True))]
            request = Request(ids=rows if eos else [row[:-1] for row in rows])
            found.append(engine.embed(request).vectors.astype(np.float64))
        kernels = engine.instruction_set
    return kernels, [each / np.linalg.norm(each, axis=1, keepdims=True) for each in found]


def embed_all(model: Path, dtype: str, eos: bool) -> Loaded:
    """Return the vectors of all texts."""
    groups = texts(), corpus("lee/lee.cor", "latin-1"), corpus("lee-background/lee_background.cor", "ascii")
    kernels, (short, judged, documents) = vectors(model, dtype, groups, eos)
    return Loaded(short, judged, documents, kernels)


def pearson(judged: Vectors) -> float:
    """Return the correlation of cosine similarities with the judgements of people."""
    pairs = np.triu_indices(len(judged), 1)
    judgements = np.loadtxt(assets() / "lee" / "similarities0-1.txt")[pairs]
    return float(np.corrcoef((judged @ judged.T)[pairs], judgements)[0, 1])


def nearest(documents: Vectors) -> np.ndarray[tuple[int, int], np.dtype[np.intp]]:
    """Return the indices of the `NEAREST` other documents of each document."""
    similarities = documents @ documents.T
    np.fill_diagonal(similarities, -np.inf)
    return np.argsort(-similarities, axis=1, kind="stable")[:, :NEAREST]


def compare(name: str, dtype: str, exact: Loaded, found: Loaded) -> Exactness:
    """Return the figures of one dtype."""
    cosines = np.sum(exact.texts * found.texts, axis=1)
    pairs = zip(nearest(exact.documents), nearest(found.documents), strict=True)
    kept = np.mean([np.isin(right, other).mean() for right, other in pairs])
    change = pearson(found.judged) - pearson(exact.judged)
    return Exactness(
        name, dtype, found.instruction_set, float(cosines.min()), float(cosines.mean()), change, float(kept)
    )


def row(result: Exactness) -> str:
    """Return one row of the table."""
    cells = [result.model, result.dtype, f"{result.least:.6f}", f"{result.mean:.6f}"]
    cells += [f"{result.pearson_change:+.4f}", f"{result.neighbours_kept:.4f}"]
    return f"| {' | '.join(cells)} |"


def keep(file: Path, result: dict[str, Any]) -> None:
    """Write one result into a JSON file, in place of an earlier one of the same model and dtype."""
    results = json.loads(file.read_text()) if file.exists() else []
    results = [each for each in results if any(each[key] != result[key] for key in ("model", "dtype"))]
    file.write_text(json.dumps([*results, result], indent=1) + "\n")


def main() -> None:
    """Print the table, and write the figures as JSON."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"{', '.join(MODELS)}, or a directory; default: all")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--json", type=Path, default=RESULTS, help="file of figures; those of other models are kept")
    given = parser.parse_args()
    columns = ["model", "dtype", "least cosine", "mean cosine", "change of Pearson", f"top {NEAREST} kept"]
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    about = {"date": time.strftime("%Y-%m-%d"), "processor": processor()}
    for name in given.models or MODELS:
        model, eos = MODELS[name]() if name in MODELS else Path(name), not name.endswith(NO_EOS)
        exact = embed_all(model, "float32", eos)
        for dtype in given.dtypes:
            result = compare(name, dtype, exact, embed_all(model, dtype, eos))
            print(row(result), flush=True)
            keep(given.json, asdict(result) | about)


if __name__ == "__main__":
    main()
