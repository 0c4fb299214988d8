"""The settings of a server, and its API keys."""

from dataclasses import replace
from typing import Annotated, Literal

from msgspec import Meta, Struct

from embergem.options import LoadOptions

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Bytes = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Seconds = Annotated[float, Meta(gt=0, le=10**9)]
IdleSeconds = Annotated[float, Meta(ge=0, le=10**9)]
Lane = Literal["interactive", "bulk"]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a server.

    Attributes:
        host: Address to bind to; None is 127.0.0.1.
        port: Port to bind to; 0 takes a free one.
        log_level: critical, error, warning, info or debug.
        access_log: Log one line for each response to standard error, as text or JSON; "off" logs none.
        log_inputs: Write the texts of requests into the access log.
        default_model: Name of the default model; None is the first model.
        dtype, threads: For models that set none; see `LoadOptions`.
        strict: Refuse unknown fields in requests instead of ignoring them.
        task: Task of texts in requests that name none, for the models that have it.
        keys: File of API keys.
        tls_cert: PEM file with the server's certificate, followed by those of the intermediate authorities. With it the
            server speaks HTTPS only.
        tls_key: PEM file with the private key of `tls_cert`, without a passphrase.
        cors: Origins of web pages that may send requests, such as "https://app.example"; "*" is any.
        max_body: Most bytes of a request body; 50 MiB are about twelve million tokens of plain text.
        max_inputs: Most inputs of one request; 2,048 is the limit of OpenAI.
        max_header_bytes: Most bytes of the request line and the headers.
        max_connections: Most open connections. A further one closes the connection that was idle for longest; if none
            is idle, it is answered 503.
        max_batch_tokens: Most tokens of a batch; None measures the best size.
        max_queue_tokens: Most tokens that wait in one lane of a model; further requests are answered 429.
        cache_bytes: Memory for a cache of vectors, shared by all models; 0 turns it off.
        cache_path: File that keeps the cached vectors after a restart.
        memory_budget: Most bytes of the weights of all models; above it, the least recently used model is unloaded.
        receive_timeout: Most seconds from the first byte of a request to its last.
        request_timeout: Most seconds from a request to its response; a client may ask for less.
        idle_timeout: Seconds after which a connection without a request is closed.
        batch_path: Directory of the files and batches of `/v1/files` and `/v1/batches`; None turns them off.
        batch_file_bytes: Most bytes of an uploaded file; 200 MiB are OpenAI's limit.
        batch_bytes: Most bytes of the files of one API key, results included; a key may have another limit.
        batch_unfinished: Most unfinished batches of one API key; a key may have another limit.
        batch_retention: Seconds after which files and finished batches are deleted; a client may ask for less.
        ui: Serve the playground at `/`.
        otel: Trace requests with OpenTelemetry; None decides by the variables OTEL_*, see `embergem.server.otel`.
        drain_timeout: Most seconds that requests in progress get after SIGTERM.
    """

    host: str | None = None
    port: Annotated[int, Meta(ge=0, le=65535)] = 1234
    log_level: Literal["critical", "error", "warning", "info", "debug"] = "info"
    access_log: Literal["text", "json", "off"] = "text"
    log_inputs: bool = False
    default_model: str | None = None
    dtype: str = "float32"
    threads: Count | None = None
    strict: bool = False
    task: str | None = None
    keys: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    cors: tuple[str, ...] = ()
    max_body: Bytes = 50 * 2**20
    max_inputs: Count = 2048
    max_header_bytes: Annotated[int, Meta(ge=1024, le=2**31 - 1)] = 64 * 1024
    max_connections: Count = 4096
    max_batch_tokens: Count | None = None
    max_queue_tokens: Count = 1_000_000
    cache_bytes: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 64 * 2**20
    cache_path: str | None = None
    memory_budget: Bytes | None = None
    receive_timeout: Seconds = 60
    request_timeout: Seconds = 600
    idle_timeout: Seconds = 30
    drain_timeout: Seconds = 30
    batch_path: str | None = None
    batch_file_bytes: Bytes = 200 * 2**20
    batch_bytes: Bytes = 10 * 2**30
    batch_unfinished: Count = 100
    batch_retention: Seconds = 30 * 24 * 3600
    ui: bool = True
    otel: bool | None = None

    def complete(self, options: LoadOptions) -> LoadOptions:
        """Return `options` with the server's dtype and threads in place of None, and with its batch and queue bounds.

        Raises:
            UnsupportedOption: The server's dtype does not exist.
        """
        return replace(
            options,
            dtype=options.dtype or self.dtype,
            threads=options.threads or self.threads,
            max_batch_tokens=self.max_batch_tokens,
            max_queue_tokens=self.max_queue_tokens,
        )


class Key(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An API key, stored as its hash, and the rights of its owner.

    Attributes:
        name: Name of the owner, shown in logs and metrics.
        sha256: Hash of the key in hex; `embergem keys new` makes a key and its hash.
        admin: Whether it may load and unload models, and see the files and batches of all keys.
        requests_per_minute: Most requests a minute; None sets no limit.
        tokens_per_minute: Most tokens a minute; None sets no limit.
        concurrency: Most requests at the same time; None sets no limit.
        task: Task of texts in requests that name none.
        lane: Priority of the requests: "interactive", or "bulk", which is lower.
        batch_bytes, batch_unfinished: Limits of its files and batches; None is the server's.
    """

    name: Annotated[str, Meta(pattern=r"^[\w.@-]{1,64}\Z")]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{64}\Z")]
    admin: bool = False
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    concurrency: Count | None = None
    task: str | None = None
    lane: Lane = "interactive"
    batch_bytes: Bytes | None = None
    batch_unfinished: Count | None = None
