"""A server with files and batches, for the time of a test, and batches to give it."""

import json
import threading
from contextlib import contextmanager

import httpx
from openai import OpenAI
from serving import QUIET, serving

from embergem.server.api_keys import KeyStore
from embergem.server.batches.batch_records import UNFINISHED, BatchRecord, FileRecord, OwnerLimits, new_id
from embergem.server.batches.batch_service import BatchService
from embergem.server.batches.batch_store import BatchStore
from embergem.server.state import ServerState


class Clock:
    """A clock that a test sets."""

    def __init__(self, now=1_800_000_000.0):
        self.now = now

    def __call__(self):
        return self.now


class BatchServer:
    """A running server.

    Attributes:
        url: Its address.
        state: Its state.
        store: Its files and batches.
    """

    def __init__(self, url, state):
        self.url = url
        self.state = state
        self.store = state.batches.store

    def client(self, key="any"):
        """Return OpenAI's client with an API key."""
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)

    def http(self, key="any"):
        """Return a plain client with an API key."""
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {key}"}, timeout=60)


@contextmanager
def batch_server(registry, directory, *, settings=QUIET, keys=(), now=None):
    """Serve the models of a registry with files and batches in a directory."""
    service = BatchService(BatchStore(directory), settings, now)
    state = ServerState(registry, settings, KeyStore(keys), batches=service)
    try:
        with serving(state) as url:
            yield BatchServer(url, state)
    finally:
        service.close()


def line(number, **body):
    """Return a line of an input."""
    body = {"model": "default", "input": f"text number {number}"} | body
    return {"custom_id": f"request-{number}", "method": "POST", "url": "/v1/embeddings", "body": body}


def jsonl(lines):
    """Return the bytes of an input."""
    return "".join(json.dumps(one) + "\n" for one in lines).encode()


def accepted(store, content, **fields):
    """Put an input and its batch into a store without a server, as it is after the server accepted the batch."""
    limits = OwnerLimits(2**30, 10)
    file = FileRecord(
        id=new_id("file-"), owner="", purpose="batch", filename="a", bytes=len(content), created_at=1, expires_at=2**32
    )
    store.path(file.id).write_bytes(content)
    store.reserve("", len(content), limits)
    store.add_file(file)
    batch = BatchRecord(
        id=new_id("batch_"), owner="", input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h",
        metadata=None, output_seconds=10**9, created_at=1, expires_at=2**32, output_id=new_id("file-"),
        error_id=new_id("file-"), **fields,
    )  # fmt: skip
    store.add_batch(batch, limits)
    return batch


def start(client, lines, **fields):
    """Upload an input (lines, or bytes) and start a batch."""
    content = lines if isinstance(lines, bytes) else jsonl(lines)
    file = client.files.create(file=("requests.jsonl", content), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h", **fields)


def finished(client, batch):
    """Wait until a batch is finished, and return it."""
    while (found := client.batches.retrieve(batch.id)).status in UNFINISHED:
        threading.Event().wait(0.01)
    return found


def results(client, file_id):
    """Return the lines of a file of results; [] without a file."""
    return [] if file_id is None else [json.loads(one) for one in client.files.content(file_id).text.splitlines()]


def contents(server):
    """Return the names of the files on the disk."""
    return sorted(path.name for path in (server.store.directory / "files").iterdir())


def error(answer):
    return answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["param"]
