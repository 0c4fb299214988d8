"""`/v1/files`: uploads for batches and their results, in the form of OpenAI's API."""

from collections.abc import AsyncIterator
from typing import IO
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from embergem.batch_protocol import DeletedFile, FileList
from embergem.errors import InvalidRequest
from embergem.server.auth import require_same_origin
from embergem.server.batches.batch_records import BatchesOff, Page, UnknownFile, describe_file, storage_errors
from embergem.server.batches.batch_service import BatchService
from embergem.server.batches.batch_store import MAX_FILES, BatchStore
from embergem.server.encode import encode_each, json_response
from embergem.server.state import RequestContext

CHUNK = 256 * 1024
"""Bytes of a file that are read and sent at a time."""

ORDERS = ("asc", "desc")
PURPOSES = ("batch", "batch_output")


async def create_file(context: RequestContext) -> Response:
    """Upload a file of requests, as a form with the fields `file` and `purpose`."""
    from embergem.server.batches.upload import receive_upload

    require_same_origin(context)
    service = batches_of(context)
    record = await receive_upload(
        context, service.store, owner_of(context), service.limits(context.key), int(service.now())
    )
    return json_response(describe_file(record, with_owner=sees_all(context)))


async def list_files(context: RequestContext) -> Response:
    """List your files, the newest first. An admin key lists those of all keys."""
    service = batches_of(context)
    page = page_of(context, limit=MAX_FILES, most=MAX_FILES)

    def answer() -> Response:
        records, more = service.store.files(page)
        data = encode_each(describe_file(record, with_owner=sees_all(context)) for record in records)
        first, last = (records[0].id, records[-1].id) if records else (None, None)
        return json_response(FileList(data, first, last, more))

    return await service.store.on_thread(answer)  # so that 10,000 files do not stop the event loop


async def retrieve_file(context: RequestContext) -> Response:
    """Describe a file."""
    service = batches_of(context)
    record = await service.store.on_thread(service.store.file, context.http.path_params["file_id"], visible_to(context))
    return json_response(describe_file(record, with_owner=sees_all(context)))


async def file_content(context: RequestContext) -> Response:
    """Return the content of a file."""
    service = batches_of(context)
    store = service.store
    record = await store.on_thread(store.file, context.http.path_params["file_id"], visible_to(context))
    with storage_errors(store.directory):
        try:
            file = await store.on_thread(store.path(record.id).open, "rb")
        except FileNotFoundError:
            raise UnknownFile(f"The content of the file {record.id} was lost. Delete the file.") from None
    headers = {
        "content-length": str(record.bytes),
        "content-disposition": f"attachment; filename*=utf-8''{quote(record.filename)}",
        "x-content-type-options": "nosniff",
    }
    return StreamingResponse(_chunks(store, file, record.bytes), media_type="application/octet-stream", headers=headers)


async def delete_file(context: RequestContext) -> Response:
    """Delete a file. The input of an unfinished batch cannot be deleted."""
    require_same_origin(context)
    service = batches_of(context)
    file_id = context.http.path_params["file_id"]
    await service.store.on_thread(service.store.delete_file, file_id, visible_to(context))
    return json_response(DeletedFile(file_id))


async def _chunks(store: BatchStore, file: IO[bytes], size: int) -> AsyncIterator[bytes]:
    """Yield the first `size` bytes of a file, and close it."""
    try:
        while size and (chunk := await store.on_thread(file.read, min(CHUNK, size))):
            size -= len(chunk)
            yield chunk
    finally:
        file.close()


def batches_of(context: RequestContext) -> BatchService:
    """Return the files and batches of the server.

    Raises:
        BatchesOff: It keeps none.
    """
    service = context.state.batches
    if service is None:
        raise BatchesOff(
            "This server keeps no files and batches. Its administrator turns them on with `embergem serve --batch-path "
            "DIRECTORY`."
        )
    return service


def owner_of(context: RequestContext) -> str:
    """Return the name that files and batches of the client belong to."""
    return context.key.name if context.key else ""


def sees_all(context: RequestContext) -> bool:
    """Whether the client sees the files and batches of all keys: it has an admin key."""
    return context.key is not None and context.key.admin


def visible_to(context: RequestContext) -> str | None:
    """Return whose files and batches the client sees; None for those of all keys."""
    return None if sees_all(context) else owner_of(context)


def page_of(context: RequestContext, *, limit: int, most: int) -> Page:
    """Return the page of a list that the query parameters ask for; `limit` is the default, and `most` the largest.

    Raises:
        InvalidRequest: A parameter has an impossible value.
    """
    query = context.http.query_params
    order, purpose, given = query.get("order", "desc"), query.get("purpose"), query.get("limit", str(limit))
    if not (given.isascii() and given.isdigit() and len(given) < 10 and 1 <= int(given) <= most):
        raise InvalidRequest(f"limit={given[:20]!r} is not possible. Give a number from 1 to {most}.", param="limit")
    if order not in ORDERS:
        raise InvalidRequest(f"order={order[:20]!r} is not possible. Give 'asc' or 'desc'.", param="order")
    return Page(visible_to(context), query.get("after") or None, int(given), order == "asc", purpose or None)
