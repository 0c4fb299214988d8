import json
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else the import fetches a price list

import litellm

url, *texts = sys.argv[1:]
# docs: begin
answer = litellm.embedding(model="openai/default:query", api_base=url, api_key="any", input=texts)
# docs: end
print(json.dumps({"query": [item["embedding"] for item in answer.data]}))
