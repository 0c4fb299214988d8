"""Test a real server with the OpenAI classes of LangChain and LlamaIndex, and with requests from its OpenAPI document.

    python scripts/clients.py [clients | schema]

Both libraries send OpenAI's fields only, so the model name holds the task, and queries and documents have one object
each. The vectors must have the same bits as those that this process computes. schemathesis must find no response with
status 500 or above, and no response that the document does not describe.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from served import TINY, python, served

from embergem import Embedder

PACKAGES = ("langchain-openai==1.7.4", "llama-index-embeddings-openai==0.7.0", "schemathesis==4.32.5")
TEXTS = ["What is graphene?", "Graphene is a single layer of carbon atoms.", "Ünïcödé, 東京 and 🦆"]

PROGRAM = """
import json, sys
from langchain_openai import OpenAIEmbeddings
from llama_index.embeddings.openai import OpenAIEmbedding

url, texts = sys.argv[1], json.loads(sys.argv[2])
found = {}
for task in ("query", "document"):
    chain = OpenAIEmbeddings(
        base_url=url, api_key="EMPTY", model=f"default:{task}", check_embedding_ctx_length=False
    )
    found[f"LangChain {task}"] = chain.embed_documents(texts)
    found[f"LangChain {task}, one"] = [chain.embed_query(texts[0])]
    index = OpenAIEmbedding(api_base=url, api_key="EMPTY", model_name=f"default:{task}")
    found[f"LlamaIndex {task}"] = index.get_text_embedding_batch(texts)
    found[f"LlamaIndex {task}, one"] = [index.get_query_embedding(texts[0])]
print(json.dumps(found))
"""


def clients(url: str) -> bool:
    """Compare each client's vectors with those of this process; print which differ."""
    command = [str(python("clients", PACKAGES)), "-c", PROGRAM, f"{url}/v1", json.dumps(TEXTS)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    good = True
    with Embedder(TINY) as embedder:
        for name, vectors in found.items():
            task = name.split()[1].rstrip(",")
            same = np.array_equal(np.float32(vectors), embedder.embed(TEXTS, task=task)[: len(vectors)])
            good &= same
            print(f"{name:30} {'the same bits' if same else 'DIFFERENT'}")
    return good


def schema(url: str, examples: int = 200) -> bool:
    """Run schemathesis on the OpenAPI document of a server."""
    program = Path(python("clients", PACKAGES)).with_name("schemathesis")
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [
        str(program), "run", f"{url}/openapi.json", "--checks", checks, "--max-examples", str(examples),
        "--seed", "1", "--generation-database", "none",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:  # schemathesis writes its notes to the working directory
        return subprocess.run(command, cwd=scratch).returncode == 0


def main() -> int:
    """Run the checks that the arguments name, or both; return 1 if one fails."""
    wanted = sys.argv[1:] or ["clients", "schema"]
    with served("-m", str(TINY), "--access-log", "off") as (url, _):
        results = [{"clients": clients, "schema": schema}[name](url) for name in wanted]
    return int(not all(results))


if __name__ == "__main__":
    sys.exit(main())
