"""Send requests to a running server with OpenAI's client.

embergem serve -p 1234 -m google/embeddinggemma-300m
python examples/server/embedding.py [BASE_URL]
"""

import sys

from openai import OpenAI

BASE_URL = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:1234/v1"

client = OpenAI(base_url=BASE_URL, api_key="EMPTY")

# The server embeds this text without changes: the input contains the prompt already.
answer = client.embeddings.create(
    model="default",
    input=["task: search result | query: What is graphene?", "task: search result | query: What is an apple?"],
)
for item in answer.data:
    print(f"Embedding {item.index}: {len(item.embedding)} dimensions")
print(f"{answer.usage.total_tokens} tokens")

# With embergem's own field `task`, the server adds the prompt that the model declares.
tasks = client.get("/models/default", cast_to=dict[str, object])["tasks"]
if isinstance(tasks, list) and "query" in tasks:
    same = client.embeddings.create(model="default", input="What is graphene?", extra_body={"task": "query"})
    print("The prompt by task is the same:", same.data[0].embedding == answer.data[0].embedding)
