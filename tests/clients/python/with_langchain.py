import json
import sys

from langchain_openai import OpenAIEmbeddings

url, *texts = sys.argv[1:]
# docs: begin
queries = OpenAIEmbeddings(base_url=url, api_key="any", model="default:query", check_embedding_ctx_length=False)
# docs: end
documents = OpenAIEmbeddings(base_url=url, api_key="any", model="default:document", check_embedding_ctx_length=False)
print(json.dumps({"query": [queries.embed_query(texts[0])], "document": documents.embed_documents(texts)}))
