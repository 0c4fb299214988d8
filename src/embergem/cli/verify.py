"""`embergem verify`: holds this engine against another server or library, and names the cause of a difference."""

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from embergem.diagnostics.verify import Verdict, verify
from embergem.diagnostics.verify.other import LIBRARY, Library, Server
from embergem.diagnostics.verify.ours import Ours
from embergem.diagnostics.verify.probes import probes
from embergem.hub.resolve import resolve
from embergem.options import DTYPES, LoadOptions

DIFFERENT = 1
"""Exit code where the two differ."""


def run(
    *, model: str | None, against: str, name: str | None, key: str | None, python: str | None, as_json: bool
) -> None:
    """Compare and print."""
    ours = Ours(resolve(LoadOptions(model=model)))
    texts = probes(ours.text, ours.limit, ours.radius)
    other: Library | Server
    if against == LIBRARY:
        other = Library(ours.location.path, [probe.text for probe in texts], python)
    else:
        other = Server(against, name, key)
    found = verify(ours, other, texts, [dtype for dtype in DTYPES if dtype not in ("float32", "auto")])
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        show(found, Console())
    if not found.agrees:
        raise typer.Exit(DIFFERENT)


def show(found: Verdict, console: Console) -> None:
    """Print a verdict for people."""
    table = Table("probe", "tokens", "there", "cosine", "length there", box=None)
    for row in found.rows:
        table.add_row(
            row.probe,
            f"{row.tokens:,}",
            "" if row.tokens_there is None else f"{row.tokens_there:,}",
            "" if row.cosine is None else f"{row.cosine:.7f}",
            "refused" if row.length is None else f"{row.length:.4g}",
        )
    console.print(f"{found.model} here, against {found.against}\n", highlight=False, soft_wrap=True)
    console.print(table)
    for note in found.notes:
        console.print(f"note: {note}", style="yellow", soft_wrap=True, highlight=False)
    if found.agrees:
        console.print(f"\nThey agree: {found.explanation}.", style="green", soft_wrap=True, highlight=False)
    else:
        console.print(f"\nThey differ. Likely cause: {found.cause}", style="red", soft_wrap=True, highlight=False)
        console.print(f"{found.explanation}.", soft_wrap=True, highlight=False)
