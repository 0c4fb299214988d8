"""The input of a batch: reading its lines from any place on, and checking all of them before the first is computed."""

import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import IO

import msgspec
import numpy as np
from msgspec import Raw

from embergem.batch_protocol import BatchError
from embergem.errors import InvalidRequest
from embergem.server.bounded_json import NOT_JSON, decode_fields

MAX_REQUESTS = 1_000_000
"""Most requests of a batch."""

MAX_CUSTOM_ID = 512
"""Most characters of a `custom_id`."""

OVERHEAD = 16 * 1024
"""Most bytes of a line besides its body."""

SHOWN_ERRORS = 100
"""Most errors that are listed. One more says that there are others."""

BLOCK_LINES, BLOCK_BYTES = 256, 2**20
"""Lines that are read at a time: at most this many, and no more once they have this many bytes."""

GIVE_WAY = 32
"""Lines after which a thread that works on all lines lets other threads run."""

MAX_NAMES = 1000
"""Most names of models whose check is remembered."""

_DIGEST = 16
"""Bytes of the hash of a `custom_id`. A file of a million requests needs 16 MB to find two that are equal."""


class Line(msgspec.Struct, frozen=True):
    """A line of the input.

    Attributes:
        number: Its number, from 1.
        end: Place in the file after it, in bytes.
        content: Its bytes without white space around them; empty for a blank line.
    """

    number: int
    end: int
    content: bytes


class LineRequest(msgspec.Struct, frozen=True):
    """A line as JSON; `body` stays raw."""

    custom_id: str
    method: str
    url: str
    body: Raw


class _Model(msgspec.Struct, frozen=True):
    model: str | None = None


class LineReader:
    """Reads the lines of a file. It is used as a context.

    Args:
        path: The file.
        max_bytes: Most bytes of a line; of a longer one, the content is only the beginning and `end` is after it all.
        number, offset: How many lines to skip, and their bytes.
    """

    def __init__(self, path: Path, max_bytes: int, number: int = 0, offset: int = 0) -> None:
        self._file: IO[bytes] = path.open("rb")
        self._file.seek(offset)
        self._max_bytes = max_bytes
        self._number = number
        self._offset = offset

    def read(self) -> list[Line]:
        """Return the next lines; an empty list at the end."""
        lines: list[Line] = []
        size = 0
        while len(lines) < BLOCK_LINES and size < BLOCK_BYTES:
            content = self._file.readline(self._max_bytes + 2)
            if not content:
                break
            self._offset += len(content)
            rest = content
            while not rest.endswith(b"\n") and (rest := self._file.readline(BLOCK_BYTES)):
                self._offset += len(rest)
            if not self._number:
                content = content.removeprefix(b"\xef\xbb\xbf")
            self._number += 1
            size += len(content)
            lines.append(Line(self._number, self._offset, content.strip(b" \t\r\n")))
        return lines

    def __iter__(self) -> Iterator[Line]:
        """Iterate over the lines, on a thread that lets other threads run now and then."""
        while lines := self.read():
            for line in lines:
                if line.number % GIVE_WAY == 0:
                    time.sleep(0)  # otherwise the event loop waits for 5 ms each time that it needs the GIL
                yield line

    def __enter__(self) -> "LineReader":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._file.close()


class Checked(msgspec.Struct):
    """What the check of an input found.

    Attributes:
        requests: Number of requests.
        model: The name of the model, if all requests have the same.
        errors: Why the batch cannot begin; empty if it can.
    """

    requests: int
    model: str | None
    errors: list[BatchError]


class LineError(Exception):
    """A line is no request of the batch; `error` says why."""

    def __init__(self, error: BatchError) -> None:
        super().__init__(error.message)
        self.error = error


def decode_line(line: Line, endpoint: str, max_bytes: int) -> LineRequest:
    """Decode a line and check everything but its body.

    Raises:
        LineError: The line is no request of the batch.

    >>> line = b'{"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"input": "x"}}'
    >>> decode_line(Line(1, 85, line), "/v1/embeddings", 1000).custom_id
    'a'
    """

    def fault(code: str, message: str, param: str | None = None) -> LineError:
        return LineError(BatchError(code, message, line.number, param))

    if len(line.content) > max_bytes:
        raise fault("line_too_long", f"The line has more than {max_bytes:,} bytes. Divide its inputs among several.")
    try:
        request = msgspec.json.decode(line.content, type=LineRequest)
    except msgspec.ValidationError as error:
        raise fault(
            "invalid_request", f"The line is no request: {error}. It has custom_id, method, url, body."
        ) from None
    except NOT_JSON:
        raise fault("invalid_json_line", _not_json(line.content)) from None
    if not 0 < len(request.custom_id) <= MAX_CUSTOM_ID:
        raise fault("invalid_custom_id", f"custom_id must have 1 to {MAX_CUSTOM_ID} characters.", "custom_id")
    if request.method != "POST":
        raise fault("invalid_method", f"method is {request.method[:20]!r}. It must be 'POST'.", "method")
    if request.url != endpoint:
        raise fault("invalid_url", f"url is {request.url[:80]!r}, and the batch is for {endpoint!r}.", "url")
    if bytes(memoryview(request.body)[:1]) != b"{":
        raise fault("invalid_request", "body is not a JSON object.", "body")
    return request


def _not_json(content: bytes) -> str:
    """Say why a line is not JSON; it may have a lone surrogate."""
    try:
        decode_fields(content, 1)
    except InvalidRequest as error:
        return error.message.replace("The body", "The line", 1)
    return "The line is not valid JSON."


def check_lines(
    lines: Iterable[Line], endpoint: str, max_bytes: int, check_model: Callable[[str], str | None]
) -> Checked:
    """Check every line of an input: that it is a request of the batch, with a `custom_id` of its own and a known model.

    Errors in bodies are not looked for here: such requests get an answer each.

    Args:
        lines: All lines of the input.
        endpoint: Path that all requests must have.
        max_bytes: Most bytes of a line.
        check_model: Returns what is wrong with the name of a model, or None.
    """
    errors: list[BatchError] = []
    digests = bytearray()
    numbers = array("L")
    known: dict[str, str | None] = {}
    for line in lines:
        if not line.content:
            continue
        if len(numbers) == MAX_REQUESTS:
            message = f"The file has more than {MAX_REQUESTS:,} requests. Divide it among several batches."
            errors.append(BatchError("too_many_requests", message, line.number))
            break
        if len(errors) > SHOWN_ERRORS:
            break
        numbers.append(line.number)
        try:
            request = decode_line(line, endpoint, max_bytes)
        except LineError as error:
            errors.append(error.error)
            digests += bytes(_DIGEST)
            continue
        digests += blake2b(request.custom_id.encode(), digest_size=_DIGEST).digest()
        try:
            name = msgspec.json.decode(request.body, type=_Model).model or "default"
        except NOT_JSON:
            continue  # the request gets an error of its own
        if name not in known and len(known) < MAX_NAMES:
            known[name] = check_model(name)
        if (fault := known[name] if name in known else check_model(name)) is not None:
            errors.append(BatchError("model_not_found", fault, line.number, "body.model"))
    errors += _repeated(digests, numbers)
    if not numbers:
        errors.append(BatchError("empty_file", "The file has no requests."))
    if len(errors) > SHOWN_ERRORS:
        message = f"The first {SHOWN_ERRORS} errors are listed, and there are more."
        errors[SHOWN_ERRORS:] = [BatchError("too_many_errors", message)]
    return Checked(len(numbers), next(iter(known)) if len(known) == 1 else None, errors)


def _repeated(digests: bytearray, numbers: "array[int]") -> list[BatchError]:
    """Return an error for each `custom_id` that an earlier line has; a digest of zeros stands for no `custom_id`."""
    if not numbers:
        return []
    rows = np.frombuffer(digests, dtype=f"V{_DIGEST}")
    _, first, place = np.unique(rows, return_index=True, return_inverse=True)
    later = np.flatnonzero(first[place] != np.arange(len(rows)))
    return [
        BatchError(
            "duplicate_custom_id",
            f"The custom_id is that of line {numbers[first[place[row]]]}. Give each request one of its own.",
            numbers[row],
            "custom_id",
        )
        for row in later[: SHOWN_ERRORS + 1]
        if rows[row].tobytes() != bytes(_DIGEST)
    ]
