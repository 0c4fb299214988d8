"""How a server behaves, and who may use it."""

from dataclasses import replace
from typing import Annotated, Literal

from msgspec import Meta, Struct

from embergem.options import LoadOptions

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]
Lane = Literal["interactive", "bulk"]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a server behaves.

    Attributes:
        host: Address to bind to; None is 127.0.0.1.
        port: 0 takes a free one.
        log_level: critical, error, warning, info or debug.
        access_log: One line an answer on standard error, as text or JSON, or none.
        log_inputs: Put the texts of requests into the access log.
        default_model: Name that "default" stands for; None is the first.
        dtype, threads: For models that set none; see `LoadOptions`.
        strict: Refuse fields that are not known instead of ignoring them.
        task: Task of texts that come without one, for the models that have it.
        keys: File of API keys.
        cors: Origins whose web pages may ask, such as "https://app.example"; "*" is any.
        max_body: Bytes of a body; 50 MiB is about twelve million tokens of plain text.
        max_inputs: Inputs of one request; OpenAI takes 2,048.
        max_header_bytes: Bytes of a request's line and headers.
        max_connections: Connections at once; the longest idle one makes room, and where none is idle it is a 503.
        max_batch_tokens: Tokens of a batch; None is what the engine thinks best.
        max_queue_tokens: Tokens that may wait for one model and lane; more are answered 429.
        cache_bytes: Memory for vectors that were computed before, for all models together; 0 is none.
        cache_path: File that keeps them beyond a restart.
        memory_budget: Bytes that models may take together; the least used is unloaded above it.
        receive_timeout: Seconds from the first byte of a request to its last.
        request_timeout: Seconds that an answer may take; a client may ask for less.
        idle_timeout: Seconds that a connection is kept open without a request.
        drain_timeout: Seconds that requests in work have after SIGTERM.
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
    cors: tuple[str, ...] = ()
    max_body: Count = 50 * 2**20
    max_inputs: Count = 2048
    max_header_bytes: Annotated[int, Meta(ge=1024)] = 64 * 1024
    max_connections: Count = 4096
    max_batch_tokens: Count | None = None
    max_queue_tokens: Count = 1_000_000
    cache_bytes: Annotated[int, Meta(ge=0)] = 64 * 2**20
    cache_path: str | None = None
    memory_budget: Count | None = None
    receive_timeout: Seconds = 60
    request_timeout: Seconds = 600
    idle_timeout: Seconds = 30
    drain_timeout: Seconds = 30

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
    """An API key, as its hash, and what its owner may do.

    Attributes:
        name: Whose it is; shown in logs and metrics.
        sha256: Of the key, in hex; `embergem keys new` makes both.
        admin: Whether it may load and unload models.
        requests_per_minute, tokens_per_minute, concurrency: Its limits.
        task: Task of texts that come without one.
        lane: "bulk" gives way to everybody who is "interactive".
    """

    name: Annotated[str, Meta(pattern=r"^[\w.@-]{1,64}$")]
    sha256: Annotated[str, Meta(pattern="^[0-9a-fA-F]{64}$")]
    admin: bool = False
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    concurrency: Count | None = None
    task: str | None = None
    lane: Lane = "interactive"
