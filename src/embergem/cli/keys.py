"""`embergem keys`: make API keys.

Separate because each command has its own module.
"""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from embergem.cli.options import complete_task, completer
from embergem.server.signals import RELOAD

app = typer.Typer(help="API keys of a server.", no_args_is_help=True)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the owner, shown in logs and metrics.")],
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Append the key to this file, which `serve --keys` reads.")
    ] = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="Allow the key to load and unload models, and to see the batches of all.")
    ] = False,
    task: Annotated[
        str | None, typer.Option(help="Task of texts in requests that name none.", autocompletion=complete_task)
    ] = None,
    lane: Annotated[
        str,
        typer.Option(
            help="Priority of requests: interactive, or bulk (lower).",
            autocompletion=completer(("interactive", "bulk")),
        ),
    ] = "interactive",
    requests_per_minute: Annotated[int | None, typer.Option(help="Most requests a minute.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="Most tokens a minute.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Most requests at the same time.")] = None,
    batch_bytes: Annotated[int | None, typer.Option(help="Most bytes of its files, results included.")] = None,
    batch_unfinished: Annotated[int | None, typer.Option(help="Most unfinished batches.")] = None,
) -> None:
    """Make a key and print it. This is the only time that the key is shown: the file contains its hash."""
    from embergem.config import Key, read_keys
    from embergem.config.fields import read_fields
    from embergem.errors import InvalidConfig
    from embergem.server.api_keys import new_key

    secret, digest = new_key()
    fields = {
        "name": name, "sha256": digest, "admin": admin or None, "task": task,
        "lane": lane if lane != "interactive" else None, "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute, "concurrency": concurrency,
        "batch_bytes": batch_bytes, "batch_unfinished": batch_unfinished,
    }  # fmt: skip
    given = {field: value for field, value in fields.items() if value is not None}
    read_fields(Key, given, "embergem keys new")
    entry = "\n".join(["[[keys]]", *(f"{field} = {json.dumps(value)}" for field, value in given.items()), ""])
    if file is None:
        typer.echo(f"{secret}\n\nAppend this to the file of API keys:\n\n{entry}")
        return
    if file.exists() and name in [key.name for key in read_keys(file)]:
        raise InvalidConfig(f"{file} already has a key called {name!r}. Choose another name.")
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a") as out:
        out.write(("\n" if out.tell() else "") + entry)
    typer.echo(secret)
    reload = "A running server reads the file again after SIGHUP." if RELOAD else "Restart a running server to use it."
    typer.echo(f"The hash of the key is in {file}. {reload}", err=True)
