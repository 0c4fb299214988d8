"""Search with FAISS, by float32 and by packed bits: python examples/integrations/faiss_search.py [MODEL].

Vectors of length 1 have the same order by inner product and by cosine. Packed bits take 1/32 of the memory: FAISS finds
candidates by their Hamming distance, and the float32 query sorts these again.
"""

import sys

import faiss
import numpy as np

from embergem import Embedder

FACTS = [
    "Graphene is a single layer of carbon atoms.",
    "An apple is the fruit of an apple tree.",
    "A fugue is music in which voices take up a theme one after the other.",
]
CANDIDATES = 2

with Embedder(*sys.argv[1:]) as embedder:
    documents = embedder.embed_documents(FACTS)
    query = embedder.embed_query("What is graphene?")
    index = faiss.IndexFlatIP(embedder.dimensions)
    index.add(documents)
    scores, places = index.search(query, 1)
    print(f"float32, {documents.nbytes} bytes: {FACTS[places[0, 0]]} ({scores[0, 0]:.2f})")

    bits = np.packbits(documents > 0, axis=1)  # the same as output="binary", without embedding the texts again
    binary = faiss.IndexBinaryFlat(embedder.dimensions)
    binary.add(bits)
    _, candidates = binary.search(embedder.embed_query("What is graphene?", output="binary"), CANDIDATES)
    # Packed bits can be scored with a float32 query too: each bit stands for -1 or 1.
    signs = np.unpackbits(bits[candidates[0]], axis=1).astype(np.float32) * 2 - 1
    best = candidates[0][np.argmax(signs @ query[0])]
    print(f"binary, {bits.nbytes} bytes: {FACTS[best]}")
