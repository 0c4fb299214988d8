import json
import sys

from pydantic_ai import Embedder
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.providers.openai import OpenAIProvider

url, *texts = sys.argv[1:]
# docs: begin
queries = Embedder(OpenAIEmbeddingModel("default:query", provider=OpenAIProvider(base_url=url, api_key="any")))
# docs: end
documents = Embedder(OpenAIEmbeddingModel("default:document", provider=OpenAIProvider(base_url=url, api_key="any")))
print(
    json.dumps(
        {
            "query": [list(vector) for vector in queries.embed_query_sync(texts).embeddings],
            "document": [list(vector) for vector in documents.embed_documents_sync(texts).embeddings],
        }
    )
)
