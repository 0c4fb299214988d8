"""`embergem models`: list, show, download and verify the models of the catalog and the cache."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.filesize import decimal
from rich.table import Column, Table

from embergem import catalog
from embergem.catalog import Entry
from embergem.checkpoint.checkpoint import Location
from embergem.errors import CorruptCheckpoint, UnknownModel, UnsupportedOption
from embergem.hub import model_cache
from embergem.hub.resolve import find_copy, identify, pull, resolve
from embergem.options import LoadOptions

app = typer.Typer(no_args_is_help=True, help="List, download, find and verify models.")

Name = Annotated[str | None, typer.Argument(help="Name of the catalog, or org/name. Default: all-MiniLM-L6-v2.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

NARROW = 64
"""A terminal with fewer columns gets a shorter list of models."""

DIFFERENT = 1
"""Exit code of `verify` if a model is not shown to be the published one; errors have those of `embergem --help`."""


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the models of the catalog and those in the cache."""
    ids = [entry.id for entry in catalog.CATALOG]
    rows = [_summary(model) for model in [*ids, *(model for model in model_cache.list_models() if model not in ids)]]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    console = Console()
    # A narrow terminal has no room for the limit and the licence; `models show` prints them.
    narrow = console.width < NARROW
    columns = ("dims", "cached") if narrow else ("dims", "limit", "licence", "cached")
    table = Table(Column("model", overflow="fold"), *(Column(name, no_wrap=True) for name in columns), box=SIMPLE)
    for row in rows:
        kept = row["cached"]
        cells = {
            "dims": _text(row["dimensions"]),
            "limit": _text(row["limit"]),
            "licence": _text(row["licence"]),
            "cached": decimal(kept["size"]) if kept else "damaged" if row["damage"] else "no",
        }
        name = row["id"] + (" (the default)" if row["default"] else "")
        table.add_row(name, *(cells[column] for column in columns))
    console.print(table)
    typer.echo("`embergem models show NAME` prints a model's short names, limits, sources and files.")


@app.command()
def show(
    name: Name = None,
    as_json: AsJson = False,
    program: Annotated[bool, typer.Option("--program", help="Print the steps that compute a vector.")] = False,
) -> None:
    """Show dimensions, token limit, licence, sources, files and hashes of a model."""
    if program:
        _show_program(name, as_json)
        return
    model, entry = _named(name)
    facts = _facts(model, entry)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    console = Console()
    table = Table(Column(), Column(overflow="fold"), show_header=False, box=None)
    for key, value in facts.items():
        if key not in ("files", "cached", "default") and value:
            table.add_row(key.replace("_", " "), _text(value))
    kept = facts["cached"]
    table.add_row("in the cache", kept["path"] if kept else "no")
    console.print(table)
    typer.echo()
    for file in facts["files"]:
        line = f"{file['sha256']:64}  {file['size']:>11,} bytes  {file['path']}"
        if console.is_terminal and len(line) > console.width:  # the digest has a line of its own and is never cut
            line = f"{file['path']}\n  {file['size']:,} bytes\n  {file['sha256']}"
        typer.echo(line)


@app.command("pull")
def pull_model(name: Name = None) -> None:
    """Download a model, or the files that changed since the last download."""
    kept = pull(name)
    typer.echo(f"{kept.manifest.id} is in {kept.path} ({decimal(kept.manifest.size)}, from the {kept.manifest.source})")


@app.command()
def path(name: Name = None) -> None:
    """Print only the directory of a model. The model is downloaded if the cache lacks it."""
    typer.echo(str(resolve(LoadOptions(model=name)).path))


@app.command()
def verify(
    name: Annotated[
        str | None, typer.Argument(help="Name of the catalog, or org/name. Default: the files of all cached models.")
    ] = None,
    path: Annotated[Path | None, typer.Option(help="Directory with the copy. Default: the one in the cache.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check that a copy of a model is the published one, and that this machine computes what was published for it.

    Compares sha256, self-check, similarities of the model card and vectors of the published library with the catalog,
    and prints a report to paste into an issue. The exit code is 1 if a check fails, or if too little is published.
    Without a name, it only hashes the files of all cached models again.
    """
    if name is None:
        if path is not None or as_json:
            option = "path" if path is not None else "json"
            raise UnsupportedOption(f"--{option} needs the name of the model to compare with. Name it.", param=option)
        _verify_downloads(model_cache.list_models())
        return
    model, entry = _named(name)
    if entry is None:
        if path is not None:
            raise UnknownModel(f"The catalog does not have {model}, so {path} cannot be compared with it.")
        _verify_downloads([model])
        return
    location = Location(model, path.absolute()) if path else find_copy(model)
    if location is None:
        typer.echo(
            f"{model} is not in the cache, so there is nothing to verify. Download it with `embergem models pull "
            f"{model}`, or name a directory with --path.",
            err=True,
        )
        raise typer.Exit(DIFFERENT)
    if not location.path.is_dir():
        raise UnsupportedOption(f"--path {path} is not a directory. Name the directory of the model.", param="path")
    import msgspec

    from embergem.cli.copy_report import markdown
    from embergem.diagnostics.published_copy import verify_copy

    report = verify_copy(entry, location)
    typer.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode() if as_json else markdown(report))
    if report.verdict != "published":
        raise typer.Exit(DIFFERENT)


def _verify_downloads(models: list[str]) -> None:
    """Hash the files of cached models again, and compare them with those that were downloaded."""
    if not models:
        typer.echo("The cache is empty.")
    bad = False
    for model in models:
        faults = _find_faults(model)
        bad = bad or bool(faults)
        for fault in faults:
            typer.echo(f"{model}: {fault}", err=True)
        if not faults:
            typer.echo(f"{model}: every file is as it was downloaded")
    if bad:
        typer.echo("Download a damaged model again with `embergem models pull NAME`.", err=True)
        raise typer.Exit(DIFFERENT)


@app.command("packed")
def packed_weights(
    clear: Annotated[bool, typer.Option("--clear", help="Delete them, and the stored tokenizers.")] = False,
    as_json: AsJson = False,
) -> None:
    """List or delete the packed weights in the cache, with which models start faster."""
    from embergem.checkpoint import packed

    if clear:
        typer.echo(f"{decimal(packed.clear())} freed")
        return
    files = packed.list_files()
    if as_json:
        typer.echo(json.dumps([asdict(file) for file in files], indent=2, default=str))
        return
    table = Table(Column("weights", overflow="fold"), "dtype", "kernels", "size", "last used", box=SIMPLE)
    for file in files:
        about = str(file.weights[0]) if file.weights else f"{file.path} (damaged)"
        table.add_row(about, file.dtype, file.instruction_set, decimal(file.size), f"{file.used:%Y-%m-%d %H:%M}")
    Console().print(table)
    size = decimal(sum(file.size for file in files))
    typer.echo(
        f"{size} of {decimal(packed.limit())} in {packed.directory()}; {packed.VARIABLE} sets the limit (0: off)"
    )


def _show_program(name: str | None, as_json: bool) -> None:
    from embergem.checkpoint.read import read_checkpoint
    from embergem.engine.prepare import prepare

    location = resolve(LoadOptions(model=name))
    built = prepare(read_checkpoint(location), location.id).program
    typer.echo(built.to_json() if as_json else str(built))


def _find_faults(model: str) -> list[str]:
    try:
        kept = model_cache.find(model)
    except CorruptCheckpoint as error:
        return [error.message]
    if kept is None:
        return ["is not in the cache, so there is nothing to verify"]
    return model_cache.find_faults(kept, catalog.find(model), full=True)


def _named(name: str | None) -> tuple[str, Entry | None]:
    found = identify(name)
    if isinstance(found, Location):
        raise UnknownModel(f"{found.path} is a directory. Name a model of the catalog or the cache.")
    return found


def _summary(model: str) -> dict[str, Any]:
    entry = catalog.find(model)
    try:
        kept, damage = model_cache.find(model), None
    except CorruptCheckpoint as error:
        kept, damage = None, error.message
    return {
        "id": model,
        "default": model == catalog.DEFAULT,
        "aliases": entry.aliases if entry else (),
        "dimensions": entry.dimensions if entry else None,
        "limit": entry.limit if entry else None,
        "licence": entry.licence if entry else None,
        "cached": {
            "path": str(kept.path),
            "size": kept.manifest.size,
            "source": kept.manifest.source,
            "revision": kept.manifest.revision,
        }
        if kept
        else None,
        "damage": damage,
    }


def _facts(model: str, entry: Entry | None) -> dict[str, Any]:
    facts = _summary(model)
    if entry:
        facts |= {
            "allowed_dimensions": entry.allowed_dimensions,
            "licence_url": entry.licence_url,
            "languages": entry.languages,
            "notes": entry.notes,
            "gated": entry.gated,
            "mirror": entry.mirror,
            "sources": entry.sources,
        }
    pins = (
        {pin.path: {"path": pin.path, "size": pin.size, "sha256": pin.sha256} for pin in entry.files} if entry else {}
    )
    kept = model_cache.find(model) if facts["cached"] else None
    stored = (
        {file.path: {"path": file.path, "size": file.size, "sha256": file.sha256} for file in kept.manifest.files}
        if kept
        else {}
    )
    facts["files"] = list((pins | stored).values())
    return facts


def _text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
