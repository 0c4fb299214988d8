import json
import os
import sys

os.environ["MEM0_TELEMETRY"] = "False"

from mem0.utils.factory import EmbedderFactory

url, *texts = sys.argv[1:]
# docs: begin
embedder = {
    "provider": "openai",
    "config": {
        "openai_base_url": url,
        "api_key": "any",
        "model": "default:document",
        "embedding_dims": 96,
    },
}
# docs: end
model = EmbedderFactory.create(embedder["provider"], embedder["config"], None)
print(json.dumps({"document": [model.embed(text, "add") for text in texts]}))
