import json
import sys

from llama_index.embeddings.openai import OpenAIEmbedding

url, *texts = sys.argv[1:]
# docs: begin
queries = OpenAIEmbedding(api_base=url, api_key="any", model_name="default:query")
# docs: end
documents = OpenAIEmbedding(api_base=url, api_key="any", model_name="default:document")
found = {"query": [queries.get_query_embedding(texts[0])], "document": documents.get_text_embedding_batch(texts)}
print(json.dumps(found))
