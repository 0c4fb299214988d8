import json
import sys

import chromadb
from chromadb.config import Settings
from chromadb.utils.embedding_functions import OpenAIEmbeddingFunction

url, *texts = sys.argv[1:]
# docs: begin
function = OpenAIEmbeddingFunction(api_base=url, api_key="any", model_name="default:document")
# docs: end
client = chromadb.EphemeralClient(Settings(anonymized_telemetry=False))
collection = client.create_collection("texts", embedding_function=function)
collection.add(ids=[str(number) for number in range(len(texts))], documents=texts)
found = collection.get(include=["embeddings"])
order = sorted(range(len(texts)), key=lambda number: int(found["ids"][number]))
print(json.dumps({"document": [[float(value) for value in found["embeddings"][number]] for number in order]}))
