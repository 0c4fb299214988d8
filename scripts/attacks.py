"""The attackers of `make soak`: clients that try to make a server slow, large or wrong.

    python scripts/attacks.py NAME HOST:PORT [--seconds 10] [--seed 1] [--directory COPY]

Each attack is a number of clients that run until the time is over. They are a process of their own, so that their work
does not delay the innocent client that `soak` measures. The process prints a JSON object: the responses by status and
error code, and embeddings with their texts for `soak` to check. Bodies are at most 8 MiB, and all traffic goes to
127.0.0.1.
"""

import argparse
import asyncio
import json
import os
import random
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from rawhttp import Stream, ask, hang_up, head, read_response

MIB = 2**20
UNITS = (".", "中", "a", "graphene ", "é", "(a)", "🙂", "\\u00e9", "x\\n", "Ａ")
"""What long texts repeat, as it stands in JSON: punctuation and CJK are one token a character for many tokenizers."""

SHIFT = 4096
"""Bytes between the place of changed weights and the place that they are copied from."""

CHECKED = 5000
"""Most embeddings that an attack keeps for checking."""


class Attack:
    """Some clients that attack a server.

    Attributes:
        clients: Number of clients.
        body_bytes: Bytes of the largest request and response of one client, from which `soak` derives the memory that
            the server may use.
        statuses: Responses by status and error code.
        answers: Texts and base64 vectors of correct requests.
        model: The model that the clients name.
        allowed: Statuses and error codes that the attackers may get.
    """

    clients: ClassVar[int] = 4
    body_bytes: ClassVar[int] = 1024
    model: ClassVar[str] = "default"
    allowed: ClassVar[frozenset[str]] = frozenset({"200", "429 overloaded"})

    def __init__(self, host: str, port: int, seconds: float, seed: int, directory: Path | None) -> None:
        self.host, self.port, self.directory = host, port, directory
        self.until = time.monotonic() + seconds
        self.random = random.Random(seed)
        self.statuses: Counter[str] = Counter()
        self.answers: list[tuple[str, str]] = []
        self.fresh = count()

    async def run(self) -> None:
        """Run the clients until the time is over."""
        await asyncio.gather(*(self.loop() for _ in range(self.clients)))

    async def loop(self) -> None:
        """Be one client."""
        while time.monotonic() < self.until:
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + self.remaining()):
                    await self.once()
            except (ConnectionError, asyncio.IncompleteReadError):
                self.statuses["closed by the server"] += 1
            except TimeoutError:
                return

    async def once(self) -> None:
        """Do one round of the attack."""
        raise NotImplementedError

    def remaining(self) -> float:
        """Return the seconds that are left."""
        return max(0.0, self.until - time.monotonic())

    def record(self, status: int, body: bytes) -> None:
        """Count a response."""
        code = json.loads(body)["error"]["code"] if status >= 400 else ""
        self.statuses[f"{status} {code}".strip()] += 1

    async def connect(self) -> Stream:
        """Open a connection."""
        return await asyncio.open_connection(self.host, self.port, limit=4 * MIB)

    def long_body(self) -> bytes:
        """Return the body of a request with one long text."""
        unit = self.random.choice(UNITS)
        size = self.random.randrange(MIB, self.body_bytes) // len(unit.encode())
        options = {"model": self.model, "truncate_sequence": True}
        return json.dumps(options).encode()[:-1] + b', "input": "' + (unit * size).encode() + b'"}'

    async def embed(self, stream: Stream, headers: dict[str, str] | None = None) -> None:
        """Embed a new text and keep its vector."""
        text = f"{type(self).__name__} {next(self.fresh)}"
        body = json.dumps({"model": self.model, "input": text, "encoding_format": "base64"}).encode()
        stream[1].write(head("POST", "/v1/embeddings", len(body), headers) + body)
        status, answer = await read_response(stream[0])
        self.record(status, answer)
        if status == 200 and len(self.answers) < CHECKED:
            self.answers.append((text, json.loads(answer)["data"][0]["embedding"]))


class LongTexts(Attack):
    """Embed and tokenize long texts of one repeated character or word, as fast as the server responds."""

    clients = 6
    body_bytes = 8 * MIB

    async def once(self) -> None:
        """Send one long text and wait for the response."""
        path = self.random.choice(("/v1/embeddings", "/v1/tokenize"))
        stream = await self.connect()
        try:
            self.record(*await ask(stream, "POST", path, self.long_body()))
        finally:
            await hang_up(stream[1])


class HangUps(Attack):
    """Send long texts and large requests, and close the connection at once."""

    clients = 8
    body_bytes = 8 * MIB
    allowed = frozenset({"hung up"})

    async def once(self) -> None:
        """Send a request or a part of it, and hang up."""
        path = self.random.choice(("/v1/embeddings", "/v1/tokenize"))
        if self.random.random() < 0.5:
            body = self.long_body()
        else:
            body = json.dumps({"input": [f"hang up {next(self.fresh)}" for _ in range(200)]}).encode()
        sent = len(body) if self.random.random() < 0.7 else self.random.randrange(len(body))
        _, writer = await self.connect()
        try:
            writer.write(head("POST", path, len(body)) + body[:sent])
            await writer.drain()
            self.statuses["hung up"] += 1
        finally:
            await hang_up(writer)
        await asyncio.sleep(min(self.remaining(), 2 * self.random.random()))


class RefusedBodies(Attack):
    """Send half a body to an operation that refuses the request, read the response, and keep the connection open.

    There are more clients than the server has connections, so other clients get none unless the server takes back the
    connections of requests that it has answered.
    """

    clients = 60
    allowed = frozenset({"404 not_found", "405 method_not_allowed", "413 body_too_large", "closed by the server"})

    async def once(self) -> None:
        """Have one request refused, then wait for the server to close the connection."""
        method, path, length = self.random.choice(
            (
                ("PUT", "/v1/embeddings", 1000),
                ("POST", "/v1/nothing", 1000),
                ("POST", "/v1/embeddings", 10**12),
                ("DELETE", "/health", 1000),
                ("POST", "/metrics", 1000),
            )
        )
        reader, writer = await self.connect()
        try:
            writer.write(head(method, path, length) + b"x" * 500)
            self.record(*await read_response(reader))
            await reader.read()
        finally:
            await hang_up(writer)


class UpgradesToHttp2(Attack):
    """Offer an upgrade to HTTP/2 as Java's HttpClient does, and sometimes speak HTTP/2 without asking."""

    allowed = frozenset({"200", "400 invalid_http"})

    OFFER: ClassVar[dict[str, str]] = {
        "Connection": "Upgrade, HTTP2-Settings",
        "Upgrade": "h2c",
        "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    }

    async def once(self) -> None:
        """Send some requests on one connection."""
        stream = await self.connect()
        try:
            if self.random.random() < 0.1:
                stream[1].write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
                self.record(*await read_response(stream[0]))
                return
            for _ in range(self.random.randrange(1, 20)):
                await self.embed(stream, self.OFFER)
        finally:
            await hang_up(stream[1])


class ChangedFiles(Attack):
    """Overwrite and cut short the weights of a model that is being served, and use the model meanwhile.

    `directory` is a copy of the model. Its files are as before at the end.
    """

    model = "copy"
    allowed = frozenset({"200", "503 model_failed", "503 model_loading", "503 model_not_ready"})

    async def run(self) -> None:
        """Change the files while the clients use the model."""
        assert self.directory is not None
        path = max(self.directory.glob("*.safetensors"), key=lambda one: one.stat().st_size)
        with restored(path) as content:
            await asyncio.gather(super().run(), self.change(path, content))
        await self.reload()

    async def change(self, path: Path, content: bytes) -> None:
        """Change the file in some way, wait, and put it back, until the time is over."""
        while time.monotonic() < self.until:
            before = path.stat()
            with restored(path):
                what = self.random.randrange(3)
                with path.open("r+b") as file:
                    if what == 0:
                        file.truncate(self.random.randrange(len(content)))
                    else:  # weights of other places, so that the vectors are finite and wrong
                        start = self.random.randrange(len(content) // 8)
                        file.seek(start)
                        file.write(content[start + SHIFT : len(content) // 2 + SHIFT])
                if what == 1:
                    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
                await asyncio.sleep(min(self.remaining(), 0.3))
            await self.reload()
            await asyncio.sleep(min(self.remaining(), 0.3))

    async def reload(self) -> None:
        """Load the model again from its present files."""
        stream = await self.connect()
        self.record(*await ask(stream, "POST", "/v1/models/reload", b'{"model_id": "copy"}'))
        await hang_up(stream[1])

    async def once(self) -> None:
        """Embed some texts with the model."""
        stream = await self.connect()
        try:
            for _ in range(10):
                await self.embed(stream)
        finally:
            await hang_up(stream[1])
        await asyncio.sleep(0.01)


class SlowReaders(Attack):
    """Ask for large responses and read them a little at a time."""

    clients = 10
    body_bytes = 6 * MIB

    async def once(self) -> None:
        """Ask for one large response, and read it slowly."""
        body = json.dumps({"input": ["the same text"] * 2000}).encode()
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (self.host, self.port))
        reader, writer = await asyncio.open_connection(sock=connection, limit=4096)
        try:
            writer.write(head("POST", "/v1/embeddings", len(body)) + body)
            status = int((await reader.readline()).split()[1])
            self.statuses[str(status)] += 1
            while await reader.read(1024):
                await asyncio.sleep(min(self.remaining(), 0.1))
        finally:
            await hang_up(writer)


ATTACKS: dict[str, type[Attack]] = {
    "refused bodies": RefusedBodies,
    "h2c": UpgradesToHttp2,
    "changed files": ChangedFiles,
    "slow readers": SlowReaders,
    "long texts": LongTexts,
    "hang-ups": HangUps,
}
"""All attacks, those that need much memory last, because it is measured from the start of each attack."""


@contextmanager
def restored(path: Path) -> Iterator[bytes]:
    """Yield the content of a file; put content and times back at the end."""
    content, before = path.read_bytes(), path.stat()
    try:
        yield content
    finally:
        with path.open("r+b") as file:
            file.write(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def main() -> None:
    """Run one attack and print its result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=ATTACKS)
    parser.add_argument("address")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path)
    asked = parser.parse_args()
    host, port = asked.address.split(":")
    attack = ATTACKS[asked.name](host, int(port), asked.seconds, asked.seed, asked.directory)
    asyncio.run(attack.run())
    result: dict[str, Any] = {"statuses": attack.statuses, "answers": attack.answers}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
