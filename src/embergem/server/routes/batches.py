"""`/v1/batches`: many requests as one job in the bulk lane, in the form of OpenAI's API."""

from starlette.responses import Response

from embergem.batch_protocol import RETENTION, BatchList, CreateBatch
from embergem.server.auth import require_same_origin
from embergem.server.batches.batch_records import BatchRecord, UnknownFile, describe_batch, new_id
from embergem.server.decode import decode_body
from embergem.server.encode import encode_each, json_response
from embergem.server.routes.stored_files import batches_of, owner_of, page_of, sees_all, visible_to
from embergem.server.state import RequestContext

WINDOW_SECONDS = 24 * 3600
"""Time until a batch expires."""

MOST_LISTED, LISTED = 100, 20
"""Most batches of a page of the list, and the default."""


async def create_batch(context: RequestContext) -> Response:
    """Start a batch with the requests in an uploaded file. They are computed in the bulk lane.

    Raises:
        InvalidRequest: A field is missing or invalid.
        UnknownFile: There is no such file.
        QuotaExceeded: The key has too many unfinished batches.
    """
    require_same_origin(context)
    service, settings = batches_of(context), context.state.settings
    body, _ = decode_body(await context.state.bodies.read(context), CreateBatch, strict=settings.strict)
    try:
        file = await service.store.on_thread(service.store.file, body.input_file_id, visible_to(context))
    except UnknownFile as error:
        error.param = "input_file_id"
        raise
    now = int(service.now())
    kept = body.output_expires_after.seconds if body.output_expires_after else RETENTION[1]
    record = BatchRecord(
        id=new_id("batch_"),
        owner=owner_of(context),
        input_file_id=file.id,
        endpoint=body.endpoint,
        completion_window=body.completion_window,
        metadata=body.metadata,
        output_seconds=min(kept, int(settings.batch_retention)),
        created_at=now,
        expires_at=now + WINDOW_SECONDS,
        output_id=new_id("file-"),
        error_id=new_id("file-"),
    )
    await service.store.on_thread(service.store.add_batch, record, service.limits(context.key))
    service.notice(record.id)
    return _described(context, record)


async def list_batches(context: RequestContext) -> Response:
    """List your batches, the newest first. An admin key lists those of all keys."""
    service = batches_of(context)
    page = page_of(context, limit=LISTED, most=MOST_LISTED)._replace(ascending=False, purpose=None)

    def answer() -> Response:
        records, more = service.store.batches(page)
        data = encode_each(
            describe_batch(record, service.waiting(record.id), with_owner=sees_all(context)) for record in records
        )
        first, last = (records[0].id, records[-1].id) if records else (None, None)
        return json_response(BatchList(data, first, last, more))

    return await service.store.on_thread(answer)


async def retrieve_batch(context: RequestContext) -> Response:
    """Describe a batch: its state, how many of its requests are done, and its files once it is finished."""
    service = batches_of(context)
    batch_id = context.http.path_params["batch_id"]
    return _described(context, await service.store.on_thread(service.store.batch, batch_id, visible_to(context)))


async def cancel_batch(context: RequestContext) -> Response:
    """Cancel a batch. The results that it has so far become its files."""
    require_same_origin(context)
    service = batches_of(context)
    batch_id = context.http.path_params["batch_id"]
    now = int(service.now())
    record = await service.store.on_thread(service.store.request_cancel, batch_id, visible_to(context), now)
    service.notice(batch_id)
    return _described(context, record)


def _described(context: RequestContext, record: BatchRecord) -> Response:
    waiting = batches_of(context).waiting(record.id)
    return json_response(describe_batch(record, waiting, with_owner=sees_all(context)))
