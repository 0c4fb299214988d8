"""Use EmbeddingGemma in both Python styles.

    python examples/python/embedding_gemma.py [MODEL]

MODEL is a hub id, an alias or a directory. The default, google/embeddinggemma-300m, is gated: accept its licence on the
hub and set HF_TOKEN. unsloth/embeddinggemma-300m has the same weights and is not gated.
"""

import sys

from embergem import Embedder, EmbeddingArchitecture, EmbeddingRequest, Runner, Which

DOCUMENTS = [
    "Graphene is a single layer of carbon atoms in a honeycomb lattice.",
    "An apple is the edible fruit of an apple tree.",
    "Superconductors carry electric current without resistance.",
]


def everyday(model: str) -> None:
    """Search three documents. Each method adds the prompt of its task."""
    with Embedder(model) as embedder:
        documents = embedder.embed_documents(DOCUMENTS)
        queries = embedder.embed_query(["What is graphene?", "Explain superconductors in simple terms."])
        for query, scores in zip(("graphene", "superconductors"), embedder.similarity(queries, documents), strict=True):
            print(f"{query}: " + ", ".join(f"{score:.3f}" for score in scores))


def selector(model: str) -> None:
    """Search the same documents with the mistral.rs classes. The inputs contain the prompts."""
    runner = Runner(which=Which.Embedding(model_id=model, arch=EmbeddingArchitecture.EmbeddingGemma))
    request = EmbeddingRequest(
        input=[
            "task: search result | query: What is graphene?",
            "task: search result | query: Explain superconductors in simple terms.",
        ],
        truncate_sequence=True,
    )
    for index, embedding in enumerate(runner.send_embedding_request(request)):
        print(f"Embedding {index}: {len(embedding)} dimensions")


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "google/embeddinggemma-300m"
    everyday(name)
    selector(name)
