"""Search in two stages, with one-bit vectors first: python examples/python/two_stage_search.py [MODEL].

A vector with one bit for each number is 32 times smaller than float32, and counting equal bits compares two of them.
This is coarse, so the best few are scored again with int8 vectors, which are nearly exact and have a quarter of the
size of float32.
"""

import sys

import numpy as np

from embergem import Embedder

ANIMALS = ["heron", "otter", "badger", "lynx", "swift", "hare", "newt", "pike", "wren", "stoat"]
PLACES = ["in the reeds", "under a bridge", "at the edge of the wood", "over the roofs", "in deep snow"]
DOCUMENTS = [f"We saw a {animal} {place}." for animal in ANIMALS for place in PLACES]
QUERY = "a bird flying above houses"
CANDIDATES = 10

with Embedder(*sys.argv[1:]) as embedder:
    bits = embedder.embed_documents(DOCUMENTS, output="binary")
    numbers = embedder.embed_documents(DOCUMENTS, output="int8")
    exact = embedder.embed_documents(DOCUMENTS)
    query = embedder.embed_query(QUERY)

    coarse = embedder.similarity(embedder.embed_query(QUERY, output="binary"), bits)[0]
    candidates = np.argsort(-coarse, kind="stable")[:CANDIDATES]
    scores = embedder.similarity(query, numbers[candidates])[0]
    order = candidates[np.argsort(-scores, kind="stable")]

    best = set(np.argsort(-embedder.similarity(query, exact)[0], kind="stable")[:3])
    print(f"{bits.nbytes:,} bytes of bits, {numbers.nbytes:,} of int8, {exact.nbytes:,} of float32")
    for index in order[:3]:
        print(f"  {DOCUMENTS[index]}")
    print(f"{len(best & set(order[:3]))} of the 3 that float32 finds")
