"""`Worker`: an actor of Ray Data with one engine, which embeds rows of token ids.

Rows and vectors travel as bytes: the driver has tokenized the texts already.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from embergem import errors
from embergem.errors import EmbergemError, JobError
from embergem.packed_rows import PackedRows
from embergem.ray.feed import DONE
from embergem.ray.shipment import Identity, Shipment
from embergem.types import Request, Row, Vectors

SCHEMA = pa.schema([("number", pa.int64()), ("vectors", pa.large_binary()), ("error", pa.string())])
"""Columns of the result of an item."""


class RowsMessage(msgspec.Struct, frozen=True, array_like=True):
    """Rows of token ids to embed: the ids of all rows as uint32, and the number of each row's ids."""

    ids: bytes
    counts: tuple[int, ...]
    dimensions: int | None


class ErrorMessage(msgspec.Struct, frozen=True):
    """An error of embergem: the name of its class, and its message."""

    kind: str
    message: str


class Worker:
    """Embeds the items of a feed.

    Args:
        shipment: The model.

    Raises:
        JobError: The node would compute other vectors than the driver's machine.
    """

    def __init__(self, shipment: Shipment) -> None:
        self._engine = shipment.load()
        if (reason := shipment.expected.difference(Identity.of(self._engine))) is not None:
            raise JobError(f"A node of the Ray cluster would give other vectors: {reason}. Take the node out.")

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return the columns of `SCHEMA` for a table with the columns `number` and `payload`."""
        found = [self._embed(payload) for payload in batch["payload"].to_pylist()]
        columns = [batch["number"].to_pylist(), [one[0] for one in found], [one[1] for one in found]]
        return pa.table([pa.array(c, field.type) for c, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)

    def _embed(self, payload: bytes) -> tuple[bytes | None, str | None]:
        if payload == DONE:
            return None, None
        message = decode_rows(payload)
        rows = split_rows(message)
        request = Request(dimensions=message.dimensions, truncate=True, lane="bulk")
        try:
            return self._engine.submit_rows(request, rows).result().vectors.tobytes(), None
        except EmbergemError as error:
            return None, msgspec.json.encode(ErrorMessage(type(error).__name__, error.message)).decode()


def encode_rows(rows: Sequence[Row], dimensions: int | None) -> bytes:
    """Return rows as the payload of an item."""
    if isinstance(rows, PackedRows):
        ids, counts = rows.ids, rows.counts.tolist()
    else:
        ids, counts = np.concatenate([row.ids for row in rows]), [len(row.ids) for row in rows]
    data = ids.astype("<u4", copy=False).tobytes()
    return msgspec.msgpack.encode(RowsMessage(data, tuple(counts), dimensions))


def decode_rows(payload: bytes) -> RowsMessage:
    """Return the rows of a payload."""
    return msgspec.msgpack.decode(payload, type=RowsMessage)


def split_rows(message: RowsMessage) -> list[Row]:
    """Return the rows of a message, each with its token ids."""
    ids = np.frombuffer(message.ids, dtype="<u4").astype(np.uint32, copy=False)
    parts = np.split(ids, np.cumsum(message.counts)[:-1])
    return [Row(part, len(part)) for part in parts]


def decode_vectors(data: bytes, count: int) -> Vectors:
    """Return the vectors of a result, (count, dimensions)."""
    vectors: Vectors = np.frombuffer(data, dtype=np.float32).reshape(count, -1)
    return vectors


def decode_error(text: str) -> EmbergemError:
    """Return the error of a result."""
    message = msgspec.json.decode(text, type=ErrorMessage)
    kind: Any = getattr(errors, message.kind, EmbergemError)
    error: EmbergemError = kind(message.message)
    return error
