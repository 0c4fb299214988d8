"""Search with Qdrant, in this process: python examples/integrations/qdrant_search.py [MODEL].

`QdrantClient(":memory:")` needs no server. Give it a path to keep the data, or the address of a Qdrant server.
"""

import sys

from qdrant_client import QdrantClient
from qdrant_client.models import Distance, PointStruct, VectorParams

from embergem import Embedder

FACTS = ["Graphene is a single layer of carbon atoms.", "An apple is the fruit of an apple tree."]

client = QdrantClient(":memory:")
with Embedder(*sys.argv[1:]) as embedder:
    client.create_collection("facts", VectorParams(size=embedder.dimensions, distance=Distance.COSINE))
    vectors = embedder.embed_documents(FACTS, output="list")
    points = [
        PointStruct(id=number, vector=vector, payload={"text": text})
        for number, (text, vector) in enumerate(zip(FACTS, vectors, strict=True))
    ]
    client.upsert("facts", points)
    [query] = embedder.embed_query("What is graphene?", output="list")
    for hit in client.query_points("facts", query, limit=2).points:
        print(f"{hit.score:.2f}  {hit.payload['text']}")
client.close()
