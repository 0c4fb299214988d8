"""`embergem serve`: combine flags, environment and configuration file, and run the server."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from embergem.cli.options import (
    DENSE,
    FAMILY,
    HUB,
    Dtype,
    Threads,
    complete_model,
    complete_task,
    completer,
    with_load_options,
)
from embergem.config import Config, Key, named_entry, read_config
from embergem.errors import UnsupportedOption
from embergem.options import LoadOptions
from embergem.server.signals import Signals


@with_load_options(*FAMILY, *DENSE, *HUB)
def serve(
    options: LoadOptions,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Hub id, alias, directory or GGUF file. Give it several times to serve several models; the first is "
            "the default. Default: all-MiniLM-L6-v2.",
            autocompletion=complete_model,
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", help="Models as JSON, or models, settings and keys as TOML; see docs/operations.md."
        ),
    ] = None,
    port: Annotated[int | None, typer.Option("--port", "-p", help="0 takes a free port. Default: 1234.")] = None,
    host: Annotated[
        str | None,
        typer.Option(help="Address to bind to; 0.0.0.0 accepts connections of other machines. Default: 127.0.0.1."),
    ] = None,
    keys: Annotated[str | None, typer.Option(help="File of API keys; `embergem keys new` makes one.")] = None,
    tls_cert: Annotated[
        str | None, typer.Option(help="PEM file with the server's certificate chain, to speak HTTPS. With --tls-key.")
    ] = None,
    tls_key: Annotated[str | None, typer.Option(help="PEM file with the private key of --tls-cert.")] = None,
    dtype: Dtype = None,
    threads: Threads = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="Task of texts in requests that name none, for models that have it.", autocompletion=complete_task
        ),
    ] = None,
    strict: Annotated[
        bool | None, typer.Option("--strict", help="Refuse unknown fields in requests instead of ignoring them.")
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(help="Origin of web pages that may send requests, such as https://app.example."),
    ] = None,
    max_batch_tokens: Annotated[int | None, typer.Option(help="Most tokens of a batch.")] = None,
    max_queue_tokens: Annotated[int | None, typer.Option(help="Most tokens that wait for a model.")] = None,
    access_log: Annotated[
        str | None,
        typer.Option(help="text, json or off. Default: text.", autocompletion=completer(("text", "json", "off"))),
    ] = None,
    log_inputs: Annotated[
        bool | None, typer.Option("--log-inputs", help="Write the texts of requests into the access log.")
    ] = None,
    batch_path: Annotated[
        str | None,
        typer.Option(help="Directory for the files and batches of /v1/files and /v1/batches. Default: none, and off."),
    ] = None,
    ui: Annotated[
        bool | None,
        typer.Option(
            "--ui/--no-ui",
            help="Serve the playground, a web page to try the models, at /. Default: on.",
            show_default=False,
        ),
    ] = None,
    otel: Annotated[
        bool | None,
        typer.Option(
            "--otel/--no-otel",
            help="Trace requests with OpenTelemetry. Default: on if the environment names a collector.",
            show_default=False,
        ),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(
            help="critical, error, warning, info or debug.",
            autocompletion=completer(("critical", "error", "warning", "info", "debug")),
        ),
    ] = None,
) -> None:
    """Serve an OpenAI-compatible API.

    Each option can also be set in the file of --config, and in the environment as EMBERGEM_PORT and so on. An option
    has priority over the environment, and the environment over the file.

    For example:

    embergem serve

    embergem serve -p 1234 -m google/embeddinggemma-300m

    embergem serve --config models.json
    """
    flags = {
        "port": port, "host": host, "keys": keys, "tls_cert": tls_cert, "tls_key": tls_key,
        "dtype": dtype, "threads": threads, "task": task, "strict": strict,
        "cors": cors, "max_batch_tokens": max_batch_tokens, "max_queue_tokens": max_queue_tokens,
        "access_log": access_log, "log_inputs": log_inputs, "log_level": log_level, "otel": otel, "ui": ui,
        "batch_path": batch_path,
    }  # fmt: skip

    with Signals() as signals:
        complete = serve_models([replace(options, model=name) for name in model or ()], options, config, flags, signals)
    if not complete:
        # A download or a load was abandoned. Python would wait for the threads of the libraries that run it, and their
        # native code must not return into an interpreter that is shutting down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def serve_models(
    models: Sequence[LoadOptions],
    default: LoadOptions,
    config: Path | None,
    flags: Mapping[str, Any],
    signals: Signals,
) -> bool:
    """Serve `models` and those of the configuration file, or `default` if there are none.

    Returns:
        False if a model is still loading; see `embergem.server.run.serve`.

    Raises:
        InvalidConfig: See `read_config`.
        UnsupportedOption: Two models have the same name; see also `named_entry`.
    """
    from embergem.server.run import serve

    def configuration() -> Config:
        return read_config(config, os.environ, flags)

    def read_keys() -> Iterable[Key]:
        return configuration().keys

    whole = configuration()
    for note in whole.notes:
        typer.echo(note, err=True)
    named = [named_entry(options) for options in models or (() if whole.models else (default,))]
    names = [entry.name for entry in (*named, *whole.models)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UnsupportedOption(f"Two models are called {twice!r}. Rename one of the directories.")
    return serve(whole.settings, (*named, *whole.models), signals, keys=read_keys)
