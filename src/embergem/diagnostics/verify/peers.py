"""The engines to compare with: any server with OpenAI's embeddings API, or sentence-transformers in another Python."""

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
"""Seconds to wait for a response of a server."""
LIBRARY = "sentence-transformers"


@dataclass(frozen=True, slots=True)
class Answer:
    """The vector of a text, or the reason for none. `tokens` is the number of tokens that the engine reports."""

    vector: NDArray[np.float64] | None
    tokens: int | None = None
    refused: str | None = None


class Peer(Protocol):
    """Another embedding engine."""

    name: str

    def embed_one(self, text: str) -> Answer:
        """Embed one text in a request of its own."""

    def embed_together(self, texts: Sequence[str]) -> list[NDArray[np.float64]] | None:
        """Embed texts in one request; return None if that is not possible."""


class ServerPeer:
    """An OpenAI-compatible server.

    Args:
        url: Address of the server, with or without /v1.
        model: Name of the model there; None is the first that the server lists.
        key: API key.

    Raises:
        DownloadError: The server does not respond.
    """

    def __init__(self, url: str, model: str | None = None, key: str | None = None) -> None:
        base = url.rstrip("/").removesuffix("/embeddings")
        self.name = url
        self._base = base if base.endswith("/v1") else f"{base}/v1"
        self._key = key
        self._model = model or self._first_model()

    def embed_one(self, text: str) -> Answer:
        """Embed one text. An HTTP error is an answer without a vector."""
        try:
            response = self._request("/embeddings", {"model": self._model, "input": [text]})
        except urllib.error.HTTPError as error:
            return Answer(None, refused=f"status {error.code}: {error.read(300).decode(errors='replace')}")
        usage = response.get("usage") or {}
        return Answer(_decode_vector(response["data"][0]["embedding"]), usage.get("prompt_tokens") or None)

    def embed_together(self, texts: Sequence[str]) -> list[NDArray[np.float64]] | None:
        """Embed texts in one request; return None after an HTTP error."""
        try:
            response = self._request("/embeddings", {"model": self._model, "input": list(texts)})
        except urllib.error.HTTPError:
            return None
        rows = sorted(response["data"], key=lambda row: row.get("index", 0))
        return [_decode_vector(row["embedding"]) for row in rows]

    def _first_model(self) -> str:
        try:
            return str(self._request("/models")["data"][0]["id"])
        except (urllib.error.HTTPError, KeyError, IndexError):
            return "default"

    def _request(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "User-Agent": "embergem verify"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self._base + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                decoded: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError:
            raise
        except (OSError, ValueError) as error:
            raise DownloadError(
                f"{self._base}{path} gives no readable response: {error}. Check the address, and that the server runs."
            ) from error
        return decoded


_SCRIPT = """
import json, sys
import numpy as np
from sentence_transformers import SentenceTransformer
path, texts_file, vectors_file = sys.argv[1:]
texts = json.load(open(texts_file))
model = SentenceTransformer(path, device="cpu", local_files_only=True, model_kwargs={"dtype": "float32"})
alone = np.stack([np.asarray(model.encode([text], show_progress_bar=False))[0] for text in texts])
np.savez(vectors_file, alone=alone, together=np.asarray(model.encode(texts, show_progress_bar=False)))
"""


class LibraryPeer:
    """sentence-transformers with the same model directory, in a process of its own.

    The process embeds all texts at once when the peer is made, because starting it takes seconds.

    Args:
        model: Directory of the model.
        texts: All texts that will be asked for.
        python: Interpreter that has sentence-transformers; None is this one.

    Raises:
        UnsupportedOption: The interpreter cannot run sentence-transformers.
    """

    name = LIBRARY

    def __init__(self, model: Path, texts: Sequence[str], python: str | None = None) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            texts_file, vectors_file = Path(scratch) / "texts.json", Path(scratch) / "vectors.npz"
            texts_file.write_text(json.dumps(list(texts)))
            command = [python or sys.executable, "-c", _SCRIPT, str(model), str(texts_file), str(vectors_file)]
            process = subprocess.run(command, capture_output=True, text=True, check=False)
            if process.returncode:
                reason = (process.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise UnsupportedOption(
                    f"{command[0]} could not run sentence-transformers: {reason}. Install sentence-transformers in a "
                    "virtual environment and name its interpreter with --python.",
                    param="python",
                )
            vectors = np.load(vectors_file)
            self._alone = dict(zip(texts, vectors["alone"].astype(np.float64), strict=True))
            self._together = list(vectors["together"].astype(np.float64))

    def embed_one(self, text: str) -> Answer:
        """Return the vector of one of the texts, embedded alone."""
        return Answer(self._alone[text])

    def embed_together(self, texts: Sequence[str]) -> list[NDArray[np.float64]] | None:
        """Return the vectors of all texts, embedded in one call; None for a part of the texts."""
        return self._together if len(texts) == len(self._together) else None


def _decode_vector(value: str | list[float | None]) -> NDArray[np.float64]:
    """Decode a vector: base64 of float32, or a list in which null stands for NaN."""
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value), "<f4").astype(np.float64)
    return np.array([np.nan if number is None else number for number in value], dtype=np.float64)
