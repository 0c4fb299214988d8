"""Plot the cost of fewer dimensions: python examples/python/matryoshka.py [MODEL] [PICTURE.png].

For each vector size that the model allows, the script compares the nearest texts with those of the whole vectors. The
default, nomic-ai/nomic-embed-text-v1.5, was trained for 768, 512, 256, 128 and 64 dimensions, and loses little. Most
models were trained for one size only. Needs matplotlib: pip install matplotlib
"""

import sys

import matplotlib as mpl
import numpy as np

from embergem import Embedder

mpl.use("Agg")
from matplotlib import pyplot as plt

THINGS = ["carbon", "bread", "a violin", "the moon", "a glacier", "honey", "a bridge", "the tide"]
TEXTS = [f"{verb} {thing}" for thing in THINGS for verb in ("How old is", "The price of", "A photograph of", "We like")]
NEAREST = 5
MODEL = sys.argv[1] if len(sys.argv) > 1 else "nomic-ai/nomic-embed-text-v1.5"
PICTURE = sys.argv[2] if len(sys.argv) > 2 else "matryoshka.png"


def neighbours(vectors: np.ndarray) -> list[set[int]]:
    """Return the nearest other texts of each text."""
    scores = embedder.similarity(vectors, vectors)
    np.fill_diagonal(scores, -np.inf)
    return [set(row) for row in np.argsort(-scores, axis=1, kind="stable")[:, :NEAREST].tolist()]


with Embedder(MODEL) as embedder:
    if len(embedder.allowed_dimensions) == 1:
        print(f"{embedder.model} was trained for {embedder.dimensions} dimensions only.")
    whole = neighbours(embedder.embed_documents(TEXTS))
    sizes, kept = [], []
    for size in embedder.allowed_dimensions[:8]:
        found = neighbours(embedder.embed_documents(TEXTS, dimensions=size))
        sizes.append(size)
        kept.append(float(np.mean([len(a & b) / NEAREST for a, b in zip(whole, found, strict=True)])))
        print(f"{size:5} dimensions, {size * 4:5} bytes a vector: {kept[-1]:.0%} of the {NEAREST} nearest kept")
plt.plot(sizes, kept, "o-")
plt.xlabel("dimensions")
plt.ylabel(f"share of the {NEAREST} nearest kept")
plt.ylim(0, 1.05)
plt.savefig(PICTURE, dpi=120)
print(f"wrote {PICTURE}")
