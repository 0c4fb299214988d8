"""`receive_upload`: a form with a file (multipart/form-data) arrives in parts and goes to the disk as it arrives."""

import re
from contextlib import ExitStack
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from embergem.batch_protocol import RETENTION
from embergem.bulk.durable_files import ChecksumFile, write_durably
from embergem.errors import Cancelled, InvalidRequest
from embergem.server.batches.batch_records import FileRecord, FileTooLarge, OwnerLimits, new_id, storage_errors
from embergem.server.batches.batch_store import BatchStore
from embergem.server.inflate import Inflater
from embergem.suggestions import misspelt

if TYPE_CHECKING:
    from embergem.server.state import RequestContext

BLOCK = 512 * 1024
"""Bytes that are collected before a thread parses and writes them."""

OVERHEAD = 64 * 1024
"""Most bytes of a form besides its file."""

FIELDS = ("file", "purpose", "expires_after[anchor]", "expires_after[seconds]")
MAX_FIELD, MAX_FIELDS, MAX_FILENAME = 1024, 16, 255
"""Most bytes of a field and of its name, most fields, and most characters of a file name that are kept."""

_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\U0010ffff]|[\ud800-\udfff]")


class Upload:
    """One form on its way to the disk. Its methods wait for the disk.

    Args:
        store: Where the file is kept.
        owner: Name of the API key.
        limits: What the owner may have.
        max_bytes: Most bytes of the file.
        boundary: The boundary between the parts of the form.

    Attributes:
        fields: The fields of the form that are no file.
    """

    def __init__(self, store: BatchStore, owner: str, limits: OwnerLimits, max_bytes: int, boundary: bytes) -> None:
        self.fields: dict[str, str] = {}
        self._store = store
        self._owner = owner
        self._limits = limits
        self._max_bytes = max_bytes
        self._id = new_id("file-")
        self._reserved = 0
        self._filename: str | None = None
        self._content: ChecksumFile | None = None
        self._written = ExitStack()  # of the file; closing it makes the content complete
        self._header = (bytearray(), bytearray())
        self._name = ""
        self._value: bytearray | None = None  # of the present field; None inside the file
        self._complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_content,
                "on_part_data": self._add_content,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def close(self) -> None:
        """Delete what was written, unless the upload was finished. Every upload must be closed."""
        with storage_errors(self._store.directory):
            try:
                if self._content is not None:
                    self._written.__exit__(Cancelled, Cancelled("The upload is not complete."), None)
            finally:
                self._store.release(self._owner, self._reserved)

    def feed(self, data: bytes) -> None:
        """Parse a part of the body, and write what belongs to the file.

        Raises:
            InvalidRequest: The body is no form, or a field is invalid.
            FileTooLarge, QuotaExceeded: The file is too large.
            StorageFull, StorageFailed: It could not be written.
        """
        with storage_errors(self._store.directory):
            try:
                self._parser.write(data)
            except FormParserError as error:
                raise InvalidRequest(f"The body is not a form (multipart/form-data): {error}.") from None

    def finish(self, now: int, retention: float) -> FileRecord:
        """Make the file durable, record it, and return it.

        Raises:
            InvalidRequest: A field is missing or invalid, or the file is empty.
            StorageFull, StorageFailed: It could not be written.
        """
        if not self._complete:
            raise InvalidRequest("The form ends before its last boundary. Send the whole body.")
        for name in self.fields:
            if name not in FIELDS and name.startswith("expires_after"):
                raise InvalidRequest(
                    f"The field {name[:60]!r} is unknown. Send `expires_after[anchor]` and `expires_after[seconds]`.",
                    param="expires_after",
                )
            if name not in FIELDS and (meant := misspelt(name, FIELDS)):
                raise InvalidRequest(f"The field {name[:60]!r} is unknown. Did you mean {meant!r}?", param=name[:64])
        purpose = self.fields.get("purpose")
        if purpose is None:
            raise InvalidRequest("The field 'purpose' is missing. Send purpose=batch.", param="purpose")
        if purpose != "batch":
            raise InvalidRequest(
                f"purpose={purpose[:40]!r} is not possible. This server stores files for batches: purpose=batch.",
                param="purpose",
            )
        seconds = min(self._expires_after(), int(retention))
        if self._filename is None or self._content is None:
            raise InvalidRequest("The field 'file' is missing. Send the content as a file of the form.", param="file")
        if not self._content.size:
            raise InvalidRequest(
                "The file is empty. Each of its lines is a request; docs/http.md has an example.", param="file"
            )
        record = FileRecord(
            id=self._id,
            owner=self._owner,
            purpose=purpose,
            filename=self._filename,
            bytes=self._content.size,
            created_at=now,
            expires_at=now + seconds,
        )
        with storage_errors(self._store.directory):
            self._written.close()
        self._content = None
        try:
            self._store.add_file(record)
        except BaseException:
            self._store.path(self._id).unlink(missing_ok=True)
            raise
        self._reserved = 0  # the bytes are those of the file now
        return record

    def _expires_after(self) -> int:
        """Return the seconds after which the file is deleted, as the form asks for."""
        anchor, seconds = (self.fields.get(f"expires_after[{name}]") for name in ("anchor", "seconds"))
        if anchor is None and seconds is None:
            return RETENTION[1]
        if anchor != "created_at":
            raise InvalidRequest(
                f"expires_after[anchor] is {anchor!r}. The only value is 'created_at'.", param="expires_after"
            )
        least, most = RETENTION
        if seconds is None or not re.fullmatch("[0-9]{1,9}", seconds) or not least <= int(seconds) <= most:
            raise InvalidRequest(
                f"expires_after[seconds] is {seconds!r}. It must be a whole number from {least} to {most}.",
                param="expires_after",
            )
        return int(seconds)

    def _begin_part(self) -> None:
        self._name, self._value = "", bytearray()

    def _end_header(self) -> None:
        name, value = map(bytes, self._header)
        self._header = (bytearray(), bytearray())
        if name.lower() != b"content-disposition":
            return
        kind, options = parse_options_header(value)
        if kind.lower() != b"form-data" or b"name" not in options:
            raise InvalidRequest("A part of the form has no name. Send `Content-Disposition: form-data; name=...`.")
        self._name = options[b"name"].decode("utf-8", "replace")[:MAX_FIELD]
        if self._name == "file":
            if self._filename is not None:
                raise InvalidRequest("The form has two fields 'file'. Send one file a request.", param="file")
            given = options.get(b"filename", b"file").decode("utf-8", "replace")
            self._filename = _UNPRINTABLE.sub("�", given)[:MAX_FILENAME] or "file"
            self._value = None

    def _begin_content(self) -> None:
        if not self._name:
            raise InvalidRequest("A part of the form has no name. Send `Content-Disposition: form-data; name=...`.")
        if self._value is None:
            self._content = self._written.enter_context(write_durably(self._store.path(self._id)))

    def _add_content(self, data: bytes, start: int, end: int) -> None:
        if self._value is not None:
            self._value += data[start:end]
            if len(self._value) > MAX_FIELD:
                raise InvalidRequest(f"The field {self._name!r} of the form has more than {MAX_FIELD} bytes.")
            return
        assert self._content is not None
        size = end - start
        if self._content.size + size > self._max_bytes:
            raise too_large(self._max_bytes)
        self._store.reserve(self._owner, size, self._limits)
        self._reserved += size
        self._content.write(memoryview(data)[start:end])

    def _end_part(self) -> None:
        if self._value is not None:
            self.fields[self._name] = self._value.decode("utf-8", "replace")
            if len(self.fields) > MAX_FIELDS:
                raise InvalidRequest(f"The form has more than {MAX_FIELDS} fields.")

    def _end(self) -> None:
        self._complete = True


def too_large(limit: int) -> FileTooLarge:
    """Return the error for a file over the limit."""
    return FileTooLarge(
        f"The file has more than {limit:,} bytes, the most of a file (`batch_file_bytes`). Divide it into several.",
        param="file",
    )


async def receive_upload(
    context: "RequestContext", store: BatchStore, owner: str, limits: OwnerLimits, now: int
) -> FileRecord:
    """Store the file of a request with a form, and return its record.

    Raises:
        InvalidRequest: The body is no form, or one of its fields is missing or invalid.
        FileTooLarge, QuotaExceeded: The file is too large.
        StorageFull, StorageFailed: It could not be written.
        Cancelled: The client closed the connection before the body was complete.
    """
    settings, headers = context.state.settings, context.http.headers
    kind, options = parse_options_header(headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind.lower() != b"multipart/form-data" or not boundary:
        raise InvalidRequest(
            "Send a form (multipart/form-data) with the fields `purpose` and `file`, for example: "
            "curl -F purpose=batch -F file=@requests.jsonl"
        )
    limit = settings.batch_file_bytes + OVERHEAD
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large(settings.batch_file_bytes)
    inflater = Inflater.of(headers.getlist("content-encoding")) if "content-encoding" in headers else None
    try:
        upload = Upload(store, owner, limits, settings.batch_file_bytes, boundary)
    except FormParserError as error:
        raise InvalidRequest(f"The boundary of the form cannot be used: {error}.") from None
    try:
        waiting: list[bytes] = []
        received = size = waiting_bytes = 0
        more = True
        while more:
            message = await context.http.receive()
            if message["type"] == "http.disconnect":
                raise Cancelled("The client closed the connection before the body was complete.")
            part, more = message.get("body", b""), message.get("more_body", False)
            received += len(part)
            for found in (part,) if inflater is None else inflater.inflate(part, last=not more):
                size += len(found)
                waiting_bytes += len(found)
                waiting.append(found)
                if max(size, received) > limit:
                    raise too_large(settings.batch_file_bytes)
                if waiting_bytes >= BLOCK:
                    await store.on_thread(upload.feed, b"".join(waiting))
                    waiting, waiting_bytes = [], 0
        await store.on_thread(upload.feed, b"".join(waiting))
        return await store.on_thread(upload.finish, now, settings.batch_retention)
    finally:
        await store.on_thread(upload.close)
