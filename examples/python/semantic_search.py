"""Search texts by meaning: python examples/python/semantic_search.py [MODEL]."""

import sys

from embergem import Embedder

DOCUMENTS = [
    "Graphene is a single layer of carbon atoms in a honeycomb lattice.",
    "An apple is the edible fruit of an apple tree.",
    "Superconductors carry electric current without resistance.",
    "The mitochondrion makes most of the energy that a cell uses.",
    "A fugue is a piece of music in which voices take up a theme one after the other.",
    "Sourdough rises by wild yeast and bacteria instead of baker's yeast.",
]
QUERIES = [
    "Which material is one atom thick?",
    "How does electricity flow without loss?",
    "baking bread without yeast from a packet",
]

with Embedder(*sys.argv[1:]) as embedder:
    documents = embedder.embed_documents(DOCUMENTS)  # embed the documents once, and keep the vectors with the texts
    queries = embedder.embed_query(QUERIES)
    for query, scores in zip(QUERIES, embedder.similarity(queries, documents), strict=True):
        best = int(scores.argmax())
        print(f"{query}\n  {scores[best]:.3f}  {DOCUMENTS[best]}")
