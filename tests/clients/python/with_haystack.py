import json
import os
import sys

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

from haystack import Document
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.utils import Secret

url, *texts = sys.argv[1:]
# docs: begin
queries = OpenAITextEmbedder(api_base_url=url, api_key=Secret.from_token("any"), model="default:query")
# docs: end
documents = OpenAIDocumentEmbedder(
    api_base_url=url, api_key=Secret.from_token("any"), model="default:document", progress_bar=False
)
found = documents.run(documents=[Document(content=text) for text in texts])["documents"]
print(
    json.dumps(
        {
            "query": [queries.run(text=texts[0])["embedding"]],
            "document": [document.embedding for document in found],
        }
    )
)
