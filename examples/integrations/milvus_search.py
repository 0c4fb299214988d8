"""Search with Milvus Lite, in a file: python examples/integrations/milvus_search.py [MODEL].

Install it with `pip install pymilvus milvus-lite`. Give `MilvusClient` the address of a server to use that instead.
"""

import sys
import tempfile
from pathlib import Path

from pymilvus import MilvusClient

from embergem import Embedder

FACTS = ["Graphene is a single layer of carbon atoms.", "An apple is the fruit of an apple tree."]

with tempfile.TemporaryDirectory() as directory, Embedder(*sys.argv[1:]) as embedder:
    client = MilvusClient(str(Path(directory) / "facts.db"))
    client.create_collection("facts", dimension=embedder.dimensions, metric_type="COSINE")
    vectors = embedder.embed_documents(FACTS)
    rows = [{"id": number, "vector": vector, "text": FACTS[number]} for number, vector in enumerate(vectors)]
    client.insert("facts", rows)
    query = embedder.embed_query("What is graphene?")
    [hits] = client.search("facts", query, limit=2, output_fields=["text"])
    for hit in hits:
        print(f"{hit['distance']:.2f}  {hit['entity']['text']}")
    client.close()
