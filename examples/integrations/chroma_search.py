"""Search with Chroma: python examples/integrations/chroma_search.py [MODEL]."""

import sys

import chromadb

from embergem.integrations.chroma import EmbergemEmbeddingFunction

texts = ["Graphene is a single layer of carbon atoms.", "An apple is the fruit of an apple tree."]
client = chromadb.EphemeralClient(chromadb.Settings(anonymized_telemetry=False))
collection = client.create_collection("facts", embedding_function=EmbergemEmbeddingFunction(*sys.argv[1:]))
collection.add(ids=["graphene", "apple"], documents=texts)
print(collection.query(query_texts=["What is graphene?"], n_results=1)["documents"][0][0])
