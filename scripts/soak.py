"""Attack a server, then run one under mixed load for a while: it must not leak memory, fail, or mix up responses.

    python scripts/soak.py [--minutes 10] [--connections 1000] [--model DIRECTORY] [--seed 1]
        [--attack-seconds 20] [--attack NAME]...

The attacks run one after the other, each for `--attack-seconds` (0 leaves them out), while an innocent client is
measured; see `attacked`. Then the mixed load runs for `--minutes` on another server (0 leaves it out).

Most connections of the mixed load are open and idle. The others send requests one after the other: known texts, whose
vectors are compared with those of this process; new texts, which are not in the cache; and invalid requests. Some
connections close in the middle of a request. At the end there must have been no 5xx and no vector of another text. The
largest memory use in the last tenth of the time must be at most 10 % above the largest of the first fifth. The server's
cache is small, so that it is full by then.
"""

import argparse
import asyncio
import base64
import itertools
import json
import os
import random
import sys
import time
from collections import Counter
from typing import Any

import numpy as np
from attacked import attacked, memory, report
from attacks import ATTACKS
from rawhttp import Stream, ask, hang_up
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
            stream = await asyncio.open_connection(self.host, self.port)
            try:
                while time.monotonic() < self.until:
                    status, _ = await ask(stream, "GET", "/health", b"")
                    self.statuses[status] += 1
                    await asyncio.sleep(min(20 * self.random.random(), max(0.0, self.until - time.monotonic())))
            except (ConnectionError, asyncio.IncompleteReadError):
                self.faults.append("an idle connection was closed")
            finally:
                await hang_up(stream[1])

    async def busy(self) -> None:
        """Send requests, some of them invalid, and sometimes close the connection."""
        while time.monotonic() < self.until:
            stream = await asyncio.open_connection(self.host, self.port)
            try:
                for _ in range(self.random.randrange(1, 40)):
                    if time.monotonic() >= self.until:
                        break
                    what = self.random.random()
                    if what < 0.05:
                        await self.leave(stream[1])
                        break
                    await (self.bad(stream) if what < 0.2 else self.good(stream))
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                self.faults.append(f"a connection failed: {error!r}")
            finally:
                await hang_up(stream[1])

    async def good(self, stream: Stream) -> None:
        """Request some texts. Compare the vectors of known texts with the expected ones.

        Known texts are mostly in the cache. Only new texts test rows that the server computes.
        """
        size, is_fresh = self.random.choice((1, 1, 1, 2, 8, 40)), self.random.random() < 0.5
        picked = [next(self.fresh) if is_fresh else self.random.randrange(len(TEXTS)) for _ in range(size)]
        texts = [f"fresh text {number}" if is_fresh else TEXTS[number] for number in picked]
        body = {"input": texts, "encoding_format": "base64"}
        status, answer = await ask(stream, "POST", "/v1/embeddings", json.dumps(body).encode())
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

    async def bad(self, stream: Stream) -> None:
        """Send an invalid request."""
        body = json.dumps(self.random.choice(BAD)).encode()
        if self.random.random() < 0.2:
            body = body[: self.random.randrange(len(body) + 1)] + self.random.randbytes(3)
        status, answer = await ask(stream, "POST", "/v1/embeddings", body)
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


async def soak(load: Soak, pid: int, connections: int, seconds: float) -> list[int]:
    """Run the load; return the server's memory in bytes, in 50 samples over the time."""
    asking = max(8, connections // 50)
    tasks = [asyncio.create_task(load.busy()) for _ in range(asking)]
    tasks += [asyncio.create_task(load.idle()) for _ in range(connections - asking)]
    used = []
    while time.monotonic() < load.until:
        await asyncio.sleep(seconds / 50)
        used.append(memory(pid, "VmRSS"))
    await asyncio.gather(*tasks)
    return used


def mixed_load(model: str, connections: int, seconds: float, seed: int) -> bool:
    """Run the mixed load and print the results; return whether a check failed."""
    with Embedder(model) as embedder:
        expected = embedder.embed(TEXTS)
    os.environ["EMBERGEM_CACHE_BYTES"] = str(CACHE_BYTES)
    with served("-m", model, "--access-log", "off") as (url, pid):
        host, port = url.removeprefix("http://").split(":")
        load = Soak(host, int(port), expected, seed, time.monotonic() + seconds)
        used = asyncio.run(soak(load, pid, connections, seconds))
    settled, last = max(used[: len(used) // 5]), max(used[-(len(used) // 10) :])
    print(f"responses by status: {dict(sorted(load.statuses.items()))}; {load.hung_up} closed by the client")
    print(f"memory: {settled / 2**20:.0f} MiB in the first fifth of the time, {last / 2**20:.0f} MiB at the end")
    for fault, times in Counter(load.faults).most_common(10):
        print(f"{times} times: {fault}")
    return any(status >= 500 for status in load.statuses) or bool(load.faults) or last / settled > 1.1


def main() -> int:
    """Run the load and print the results; return 1 if a check fails."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--model", default=str(TINY))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--attack-seconds", type=float, default=20)
    parser.add_argument("--attack", choices=ATTACKS, action="append", help="only this attack; may be repeated")
    asked = parser.parse_args()
    failed = False
    if asked.attack_seconds:
        findings = list(attacked(asked.model, asked.attack_seconds, asked.seed, asked.attack or tuple(ATTACKS)))
        print(report(findings))
        failed = any(found.faults for found in findings)
    if asked.minutes:
        failed |= mixed_load(asked.model, asked.connections, 60 * asked.minutes, asked.seed)
    print("FAILED" if failed else "passed")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
