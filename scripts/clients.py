"""Test a real server with the client programs in tests/clients, and with requests from its OpenAPI document.

    python scripts/clients.py [clients | schema]

Each program is one client of docs/http.md with the configuration that the page shows. Its vectors must have the same
bits as those that this process computes; a client that cannot be installed here is named with the error.
schemathesis must find no response with status 500 or above, and no response that the document does not describe.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from client_programs import NotInstalled, client_programs
from served import TINY, python, served

from embergem import Embedder

PACKAGES = ("schemathesis==4.32.5",)
TEXTS = ["What is graphene?", "Graphene is a single layer of carbon atoms.", "Ünïcödé, 東京 and 🦆"]


def clients(url: str) -> bool:
    """Compare the vectors of each client program with those of this process; print which differ."""
    good = True
    with Embedder(TINY) as embedder:
        expected = {task: embedder.embed(TEXTS, task=task) for task in ("query", "document")}
    for client in client_programs():
        try:
            found = client.vectors(f"{url}/v1", TEXTS)
            same = all(
                np.array_equal(np.array(rows, np.float32), expected[task][: len(rows)]) for task, rows in found.items()
            )
            good &= bool(found) and same
            print(f"{client.name:24} {', '.join(found)}: {'the same bits' if same else 'DIFFERENT'}", flush=True)
        except NotInstalled as error:
            print(f"{client.name:24} not installed: {error}", flush=True)
        except subprocess.CalledProcessError as error:
            good = False
            print(f"{client.name:24} FAILED: {error.stderr.strip()}", flush=True)
    return good


def schema(url: str, examples: int = 200) -> bool:
    """Run schemathesis on the OpenAPI document of a server."""
    program = Path(python("schemathesis", PACKAGES)).with_name("schemathesis")
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
