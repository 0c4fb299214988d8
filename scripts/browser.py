"""Test a server with OpenAI's client in Chromium, from pages of a listed and of another origin.

    python scripts/browser.py

The pages are served from origins of their own, as a web application is. From the listed origin the page must get the
same bits as this process, the response headers, and errors with their codes. From another origin it must get nothing.
Needs node, npm and Chromium. `pages` and `drive` serve and run other tests in the browser.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from served import ROOT, TINY, served

from embergem import Embedder
from embergem.server.api_keys import new_key

BROWSER = ROOT / "tests" / "browser"
TEXTS = ["What is graphene?", "Graphene is a single layer of carbon atoms.", "Ünïcödé, 東京 and 🦆"]


class _Page(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def pages(directory: Path = BROWSER) -> Iterator[str]:
    """Serve the files of a directory on a free port until the block ends; yields the origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Page, directory=str(directory))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def drive(script: str, *arguments: str, timeout: float = 300) -> Any:
    """Run a script of tests/browser in node, at most `timeout` seconds; returns the JSON that it prints."""
    command = ["node", str(BROWSER / script), *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=timeout).stdout)


def install() -> None:
    """Install the packages of the lock, if they are not there; exit if a program is missing."""
    missing = [program for program in ("node", "npm", "chromium") if shutil.which(program) is None]
    if missing:
        raise SystemExit(f"make test-browser needs {', '.join(missing)}: apt-get install nodejs npm chromium")
    lock, mark = BROWSER / "package-lock.json", BROWSER / "node_modules" / "installed.json"
    if not mark.exists() or mark.read_text() != lock.read_text():
        subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=BROWSER, check=True)
        shutil.copy(lock, mark)


def openai_client() -> bool:
    """Compare what pages of both origins get with what they should get; print which differ."""
    key, digest = new_key()
    requests: list[dict[str, Any]] = [
        {"key": key, "request": {"model": "default:query", "input": TEXTS}},
        {"key": key, "request": {"model": "default:query", "input": TEXTS, "encoding_format": "float"}},
        {"key": key, "request": {"model": "nobody", "input": TEXTS}},
        {"key": "wrong", "request": {"model": "default", "input": TEXTS}},
    ]
    failures = [
        {"error": "NotFoundError", "status": 404, "code": "model_not_found"},
        {"error": "AuthenticationError", "status": 401, "code": "invalid_api_key"},
    ]
    with ExitStack() as stack:
        listed, other = stack.enter_context(pages()), stack.enter_context(pages())
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (scratch / "keys.toml").write_text(f'[[keys]]\nname = "page"\nsha256 = "{digest}"\n')
        keys = ("--keys", str(scratch / "keys.toml"))
        url, _ = stack.enter_context(served("-m", str(TINY), "--cors", listed, "--access-log", "off", *keys))
        allowed = drive("openai.mjs", f"{listed}/openai.html", url, json.dumps(requests))
        refused = drive("openai.mjs", f"{other}/openai.html", url, json.dumps(requests))
    with Embedder(TINY) as embedder:
        vectors, space = embedder.embed(TEXTS, task="query"), embedder.fingerprint
    results = {
        "vectors from the listed origin": all(
            np.array_equal(np.float32(found.get("vectors", [])), vectors) for found in allowed[:2]
        ),
        "response headers and models": all(
            found.get("space") == space and found.get("models") for found in allowed[:2]
        ),
        "errors from the listed origin": allowed[2:] == failures,
        "nothing from another origin": all(
            found == {"error": "APIConnectionError", "status": None, "code": None} for found in refused
        ),
    }
    for name, good in results.items():
        print(f"{name:32} {'as expected' if good else 'DIFFERENT'}")
    if not all(results.values()):
        shown = json.dumps([[{**one, "vectors": "..."} if "vectors" in one else one for one in allowed], refused])
        print(shown, file=sys.stderr)
    return all(results.values())


if __name__ == "__main__":
    install()
    sys.exit(not openai_client())
