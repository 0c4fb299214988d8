"""`embergem doctor`: what the machine is, what was found, and what to do about it."""

from collections.abc import Sequence

import msgspec
import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Column, Table
from rich.text import Text

from embergem.diagnostics.doctor import Report, examine

COLOURS = {"ok": "green", "warn": "yellow", "error": "red"}


def run(*, models: Sequence[str], as_json: bool) -> None:
    """Examine and print; exit with 1 when something is an error."""
    report = examine(models)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        show(report, Console())
    if report.worst == "error":
        raise typer.Exit(1)


def show(report: Report, console: Console) -> None:
    """Print a report for people."""
    system = report.system
    console.print(
        f"embergem {system.build.version}, Python {system.build.python}, {system.os} {system.kernel}\n"
        f"{system.cpu.brand}, {system.cpu.logical_cores} cores, {decimal(system.memory.total_bytes)} of memory\n",
        highlight=False,
    )
    about = ""
    table = _table()
    for check in report.checks:
        model, _, probe = check.name.rpartition(" ")
        if model != about:  # the checks of a model come after its own line
            console.print(table)
            console.print(f"\n{model}", highlight=False, soft_wrap=True)
            table, about = _table(), model
        said = Text(check.message)
        if check.suggestion and check.status != "ok":
            said.append(f"\n{check.suggestion}", style="italic")
        table.add_row(Text(check.status, style=COLOURS[check.status]), probe, said)
    console.print(table)


def _table() -> Table:
    return Table(
        Column(width=5), Column(width=18, overflow="fold"), Column(overflow="fold"), box=None, show_header=False
    )
