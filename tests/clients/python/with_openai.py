import json
import sys

from openai import OpenAI

url, *texts = sys.argv[1:]
# docs: begin
client = OpenAI(base_url=url, api_key="any")
answer = client.embeddings.create(model="default:query", input=texts)
# docs: end
print(json.dumps({"query": [item.embedding for item in answer.data]}))
