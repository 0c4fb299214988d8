"""Find texts with the same meaning: python examples/python/near_duplicates.py [MODEL] [THRESHOLD]."""

import sys

import numpy as np

from embergem import Embedder

TEXTS = [
    "The meeting was moved to Thursday at ten.",
    "The invoice of last month has not been paid.",
    "We moved the meeting to 10 o'clock on Thursday.",
    "Please water the plants while I am away.",
    "Last month's invoice is still unpaid.",
    "The museum is closed on Mondays.",
]
THRESHOLD = float(sys.argv[2]) if len(sys.argv) > 2 else 0.8

with Embedder(*sys.argv[1:2]) as embedder:
    task = "semantic_similarity" if "semantic_similarity" in embedder.tasks else None
    vectors = embedder.embed(TEXTS, task=task)
    scores = np.triu(embedder.similarity(vectors, vectors), k=1)  # k=1: each pair once
    for first, second in np.argwhere(scores >= THRESHOLD):
        print(f"{scores[first, second]:.3f}  {TEXTS[first]}\n       {TEXTS[second]}")
    print(f"{np.count_nonzero(scores >= THRESHOLD)} pairs at {THRESHOLD} or above")
