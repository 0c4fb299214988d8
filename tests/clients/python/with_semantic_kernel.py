import asyncio
import json
import sys

from openai import AsyncOpenAI
from semantic_kernel.connectors.ai.open_ai import OpenAITextEmbedding

url, *texts = sys.argv[1:]
# docs: begin
service = OpenAITextEmbedding(ai_model_id="default:query", async_client=AsyncOpenAI(base_url=url, api_key="any"))
# docs: end
print(json.dumps({"query": asyncio.run(service.generate_embeddings(texts)).tolist()}))
