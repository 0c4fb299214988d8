"""Run a server under mixed load for a while, and check that it does not leak memory, fail, or mix up responses.

    python scripts/soak.py [--minutes 10] [--connections 1000] [--model DIRECTORY] [--seed 1]

Most connections are open and idle. The others send requests one after the other: known texts, whose vectors are
compared with those of this process; new texts, which are not in the cache; and invalid requests. Some connections close
in the middle of a request. At the end there must have been no 5xx and no vector of another text. The largest memory use
in the last tenth of the time must be at most 10 % above the largest of the first fifth. The server's cache is small, so
that it is full by then.
"""

import argparse
import asyncio
import base64
import contextlib
import itertools
import json
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from served import TINY, served

from embergem import Embedder

TEXTS = [f"{word} {number}" for number in range(100) for word in ("graphene", "water", "東京", "an apple", "def f(x):")]
CACHE_BYTES = 2**20
BAD: tuple[Any, ...] = (
    {}, {"input": []}, {"input": [[]]}, {"input": 5}, {"input": ["a", 5]}, {"input": "a", "model": "nobody"},
    {"input": "a", "dimensions": 7}, {"input": "a", "task": "sing"}, {"input": [10**9]}, {"input": "a", "dimension": 5},
    {"input": "graphene " * 4000}, [], "text", None,
)  # fmt: skip


class Soak:
    """The clients of the server, and the results of their requests."""

    def __init__(self, host: str, port: int, expected: np.ndarray[Any, Any], seed: int, until: float) -> None:
        self.host, self.port, self.expected, self.until = host, port, expected, until
        self.random = random.Random(seed)
        self.statuses: Counter[int] = Counter()
        self.faults: list[str] = []
        self.hung_up = 0
        self.fresh = itertools.count()

    async def idle(self) -> None:
        """Hold a connection, with a request often enough that the server keeps the connection open."""
        while time.monotonic() < self.until:
            reader, writer = await asyncio.open_connection(self.host, self.port)
            try:
                while time.monotonic() < self.until:
                    status, _ = await self.ask(reader, writer, "GET", "/health", b"")
                    self.statuses[status] += 1
                    await asyncio.sleep(min(20 * self.random.random(), max(0.0, self.until - time.monotonic())))
            except (ConnectionError, asyncio.IncompleteReadError):
                self.faults.append("an idle connection was closed")
            finally:
                await hang_up(writer)

    async def busy(self) -> None:
        """Send requests, some of them invalid, and sometimes close the connection."""
        while time.monotonic() < self.until:
            reader, writer = await asyncio.open_connection(self.host, self.port)
            try:
                for _ in range(self.random.randrange(1, 40)):
                    if time.monotonic() >= self.until:
                        break
                    what = self.random.random()
                    if what < 0.05:
                        await self.leave(writer)
                        break
                    await (self.bad(reader, writer) if what < 0.2 else self.good(reader, writer))
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                self.faults.append(f"a connection failed: {error!r}")
            finally:
                await hang_up(writer)

    async def good(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Request some texts. Compare the vectors of known texts with the expected ones.

        Known texts are mostly in the cache. Only new texts test rows that the server computes.
        """
        size, is_fresh = self.random.choice((1, 1, 1, 2, 8, 40)), self.random.random() < 0.5
        picked = [next(self.fresh) if is_fresh else self.random.randrange(len(TEXTS)) for _ in range(size)]
        texts = [f"fresh text {number}" if is_fresh else TEXTS[number] for number in picked]
        body = {"input": texts, "encoding_format": "base64"}
        status, answer = await self.ask(reader, writer, "POST", "/v1/embeddings", json.dumps(body).encode())
        self.statuses[status] += 1
        if status == 429:
            return
        if status != 200:
            self.faults.append(f"{status} for good texts: {answer[:200]!r}")
            return
        found = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in json.loads(answer)["data"]]
        if is_fresh:
            if np.shape(found) != (size, self.expected.shape[1]):
                self.faults.append(f"{size} fresh texts have vectors of shape {np.shape(found)}")
        elif not np.array_equal(np.stack(found), self.expected[picked]):
            self.faults.append(f"wrong vectors for the texts {picked}")

    async def bad(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send an invalid request."""
        body = json.dumps(self.random.choice(BAD)).encode()
        if self.random.random() < 0.2:
            body = body[: self.random.randrange(len(body) + 1)] + self.random.randbytes(3)
        status, answer = await self.ask(reader, writer, "POST", "/v1/embeddings", body)
        self.statuses[status] += 1
        if status not in (400, 404, 429):
            self.faults.append(f"{status} for {body[:100]!r}: {answer[:200]!r}")

    async def leave(self, writer: asyncio.StreamWriter) -> None:
        """Send a request, or a part of one, and return without reading the response."""
        body = json.dumps({"input": self.random.choices(TEXTS, k=200)}).encode()
        head = f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        writer.write((head + body)[: self.random.choice((10, len(head), len(head) + 50, len(head) + len(body)))])
        await writer.drain()
        self.hung_up += 1

    async def ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, path: str, body: bytes
    ) -> tuple[int, bytes]:
        """Send one request on an open connection and return (status, body)."""
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        writer.write(head.encode() + b"\r\n\r\n" + body)
        await writer.drain()
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(answer.split("content-length:")[1].split("\r\n")[0])
        return int(answer.split()[1]), await reader.readexactly(length)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def resident(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


async def soak(load: Soak, pid: int, connections: int, seconds: float) -> list[int]:
    """Run the load; return the server's memory in bytes, in 50 samples over the time."""
    asking = max(8, connections // 50)
    tasks = [asyncio.create_task(load.busy()) for _ in range(asking)]
    tasks += [asyncio.create_task(load.idle()) for _ in range(connections - asking)]
    memory = []
    while time.monotonic() < load.until:
        await asyncio.sleep(seconds / 50)
        memory.append(resident(pid))
    await asyncio.gather(*tasks)
    return memory


def main() -> int:
    """Run the load and print the results; return 1 if a check fails."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--model", default=str(TINY))
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with Embedder(asked.model) as embedder:
        expected = embedder.embed(TEXTS)
    os.environ["EMBERGEM_CACHE_BYTES"] = str(CACHE_BYTES)
    with served("-m", asked.model, "--access-log", "off") as (url, pid):
        host, port = url.removeprefix("http://").split(":")
        load = Soak(host, int(port), expected, asked.seed, time.monotonic() + 60 * asked.minutes)
        memory = asyncio.run(soak(load, pid, asked.connections, 60 * asked.minutes))
    settled, last = max(memory[: len(memory) // 5]), max(memory[-(len(memory) // 10) :])
    growth = last / settled - 1
    print(f"responses by status: {dict(sorted(load.statuses.items()))}; {load.hung_up} closed by the client")
    print(f"memory: {settled / 2**20:.0f} MiB in the first fifth of the time, {last / 2**20:.0f} MiB at the end")
    for fault, times in Counter(load.faults).most_common(10):
        print(f"{times} times: {fault}")
    failed = any(status >= 500 for status in load.statuses) or load.faults or growth > 0.1
    print("FAILED" if failed else "passed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
