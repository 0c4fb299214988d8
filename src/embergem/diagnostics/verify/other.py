"""The other side: any server that speaks OpenAI's embeddings API, or sentence-transformers in an interpreter."""

import base64
import json
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embergem.errors import DownloadError, UnsupportedOption

TIMEOUT = 300.0
LIBRARY = "sentence-transformers"


@dataclass(frozen=True, slots=True)
class Answer:
    """A vector, or the reason for none; `tokens` is what the other side says it read."""

    vector: NDArray[np.float64] | None
    tokens: int | None = None
    refused: str | None = None


class Other(Protocol):
    """Something that embeds texts."""

    name: str

    def alone(self, text: str) -> Answer:
        """Embed one text."""

    def together(self, texts: Sequence[str]) -> list[NDArray[np.float64]] | None:
        """Embed texts in one request; `None` when that cannot be had."""


class Server:
    """An OpenAI-compatible server."""

    def __init__(self, url: str, model: str | None = None, key: str | None = None) -> None:
        base = url.rstrip("/").removesuffix("/embeddings")
        self.name = url
        self._base = base if base.endswith("/v1") else f"{base}/v1"
        self._key = key
        self._model = model or self._first_model()

    def alone(self, text: str) -> Answer:
        """Embed one text."""
        try:
            found = self._ask("/embeddings", {"model": self._model, "input": [text]})
        except urllib.error.HTTPError as error:
            return Answer(None, refused=f"status {error.code}: {error.read(300).decode(errors='replace')}")
        usage = found.get("usage") or {}
        return Answer(_vector(found["data"][0]["embedding"]), usage.get("prompt_tokens") or None)

    def together(self, texts: Sequence[str]) -> list[NDArray[np.float64]] | None:
        """Embed texts in one request."""
        try:
            found = self._ask("/embeddings", {"model": self._model, "input": list(texts)})
        except urllib.error.HTTPError:
            return None
        return [_vector(row["embedding"]) for row in sorted(found["data"], key=lambda row: row.get("index", 0))]

    def _first_model(self) -> str:
        try:
            return str(self._ask("/models")["data"][0]["id"])
        except (urllib.error.HTTPError, KeyError, IndexError):
            return "default"

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "User-Agent": "embergem verify"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self._base + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                found: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError:
            raise
        except (OSError, ValueError) as error:
            raise DownloadError(
                f"{self._base}{path} gives no answer that can be read: {error}. Is it running?"
            ) from error
        return found


_SCRIPT = """
import json, sys
import numpy as np
from sentence_transformers import SentenceTransformer
path, order, answer = sys.argv[1:]
texts = json.load(open(order))
model = SentenceTransformer(path, device="cpu", local_files_only=True, model_kwargs={"dtype": "float32"})
alone = np.stack([np.asarray(model.encode([text], show_progress_bar=False))[0] for text in texts])
np.savez(answer, alone=alone, together=np.asarray(model.encode(texts, show_progress_bar=False)))
"""


class Library:
    """sentence-transformers over the same directory, in a process of its own."""

    name = LIBRARY

    def __init__(self, model: Path, texts: Sequence[str], python: str | None = None) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            order, answer = Path(scratch) / "order.json", Path(scratch) / "answer.npz"
            order.write_text(json.dumps(list(texts)))
            command = [python or sys.executable, "-c", _SCRIPT, str(model), str(order), str(answer)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise UnsupportedOption(
                    f"{command[0]} could not run sentence-transformers: {last}. Install it in an environment of its "
                    "own and name that interpreter with --python",
                    param="python",
                )
            found = np.load(answer)
            self._alone = dict(zip(texts, found["alone"].astype(np.float64), strict=True))
            self._together = list(found["together"].astype(np.float64))

    def alone(self, text: str) -> Answer:
        """Return the vector of a text given at the start."""
        return Answer(self._alone[text])

    def together(self, texts: Sequence[str]) -> list[NDArray[np.float64]] | None:
        """Return the vectors of all texts, which went through in one call."""
        return self._together if len(texts) == len(self._together) else None


def _vector(given: str | list[float | None]) -> NDArray[np.float64]:
    if isinstance(given, str):
        return np.frombuffer(base64.b64decode(given), "<f4").astype(np.float64)
    return np.array([np.nan if value is None else value for value in given], dtype=np.float64)
