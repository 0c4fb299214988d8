"""`embergem doctor`: examine this machine and its models, and print findings with advice.

Separate because each command has its own module; `diagnostics.doctor` examines.
"""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Column, Table
from rich.text import Text

from embergem.cli.options import AsJson

if TYPE_CHECKING:
    from embergem.diagnostics.doctor import Report

NARROW = 64
"""A terminal with fewer columns gets no column for the names of findings."""

COLOURS = {"ok": "green", "warn": "yellow", "error": "red"}


def doctor(
    models: Annotated[
        list[str] | None, typer.Argument(help="Directories, or models in the cache. Default: all in the cache.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Examine this machine and its models, and give advice. The exit code is 1 if a finding is an error."""
    import msgspec

    from embergem.diagnostics.doctor import examine

    report = examine(models or [])
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        show(report, Console())
    if report.worst == "error":
        raise typer.Exit(1)


def show(report: "Report", console: Console) -> None:
    """Print a report as tables."""
    system = report.system
    console.print(
        f"embergem {system.build.version}, Python {system.build.python}, {system.os} {system.kernel}\n"
        f"{system.cpu.brand}, {system.cpu.logical_cores} cores, {decimal(system.memory.total_bytes)} of memory\n",
        highlight=False,
    )
    shown = ""
    narrow = console.width < NARROW
    table = _table(narrow)
    for check in report.checks:
        model, _, probe = check.name.rpartition(" ")
        if model != shown:  # the first check of another model
            console.print(table)
            console.print(f"\n{model}", highlight=False, soft_wrap=True)
            table, shown = _table(narrow), model
        message = Text(check.message)
        if check.suggestion and check.status != "ok":
            message.append(f"\n{check.suggestion}", style="italic")
        status = Text(check.status, style=COLOURS[check.status])
        if narrow:
            table.add_row(status, Text.assemble((f"{probe}: ", "bold"), message))
        else:
            table.add_row(status, probe, message)
    console.print(table)


def _table(narrow: bool) -> Table:
    """Return a table of findings. A narrow terminal has the name of a finding before its text, in one column."""
    names = [] if narrow else [Column(width=18, overflow="fold")]
    return Table(Column(width=5), *names, Column(overflow="fold"), box=None, show_header=False)
