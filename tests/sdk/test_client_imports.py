"""A client needs no engine: importing and using one does not load the native module."""

import subprocess
import sys

import pytest

USE_A_CLIENT = """
import asyncio, json, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from embergem import AsyncClient, Client

HEAVY = {"embergem._native", "embergem.loader", "embergem.engine", "huggingface_hub", "typer", "starlette", "rich"}
after_import = HEAVY & set(sys.modules)
MODEL = {
    "id": "m", "created": 0, "root": "m", "status": "loaded", "dtype": "float32",
    "dimensions": 2, "allowed_dimensions": [2], "max_tokens": 9, "tasks": ["query"],
}
VECTOR = {"index": 0, "embedding": "AACAPwAAAAA=", "tokens": 3, "truncated": False}
ANSWER = {"data": [VECTOR], "model": "m", "usage": {"prompt_tokens": 3, "total_tokens": 3}}


class Stub(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(MODEL)

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(ANSWER)

    def answer(self, body):
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


server = HTTPServer(("127.0.0.1", 0), Stub)
threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
with Client(url) as client:
    assert client.embed_query("a").tolist() == [[1, 0]]


async def main():
    async with await AsyncClient.connect(url) as client:
        return await client.embed("a")


assert asyncio.run(main()).tolist() == [[1, 0]]
server.shutdown()
after_use = (HEAVY - {"rich"}) & set(sys.modules)
print(after_import, after_use)
"""


def test_a_client_loads_no_engine():
    done = subprocess.run([sys.executable, "-c", USE_A_CLIENT], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "set() set()"


@pytest.mark.parametrize("module", ["embergem.protocol", "embergem.errors", "embergem.client.codec"])
def test_shared_modules_load_no_engine(module):
    code = f"import {module}, sys; print('embergem._native' in sys.modules, 'embergem.engine' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
