"""`embergem keys`: make API keys."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="API keys of a server.", no_args_is_help=True)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is; shown in logs and metrics.")],
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Add it to this file, which `serve --keys` reads.")
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="May load and unload models.")] = False,
    task: Annotated[str | None, typer.Option(help="Task of texts that come without one.")] = None,
    lane: Annotated[str, typer.Option(help="interactive, or bulk, which gives way.")] = "interactive",
    requests_per_minute: Annotated[int | None, typer.Option(min=1)] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1)] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Requests at once.")] = None,
) -> None:
    """Make a key and print it. It is shown this once: the file keeps a hash."""
    import msgspec

    from embergem.config import Key, read_keys
    from embergem.errors import InvalidConfig
    from embergem.server.api_keys import new_key

    secret, digest = new_key()
    fields = {
        "name": name, "sha256": digest, "admin": admin or None, "task": task,
        "lane": lane if lane != "interactive" else None, "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute, "concurrency": concurrency,
    }  # fmt: skip
    given = {field: value for field, value in fields.items() if value is not None}
    try:
        msgspec.convert(given, Key)
    except msgspec.ValidationError as error:
        raise InvalidConfig(str(error)) from None
    entry = "\n".join(["[[keys]]", *(f"{field} = {json.dumps(value)}" for field, value in given.items()), ""])
    if file is None:
        typer.echo(f"{secret}\n\nFor the file of keys:\n\n{entry}")
        return
    if file.exists() and name in [key.name for key in read_keys(file)]:
        raise InvalidConfig(f"{file} has a key called {name!r} already; take another name")
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a") as out:
        out.write(("\n" if out.tell() else "") + entry)
    typer.echo(secret)
    typer.echo(f"its hash is in {file}; a running server reads it after SIGHUP", err=True)
