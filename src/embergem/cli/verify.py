"""`embergem verify`: compare this engine with another server or library, and print the cause of a difference."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from embergem.cli.options import AsJson, complete_model
from embergem.options import DTYPES, LoadOptions

if TYPE_CHECKING:
    from embergem.diagnostics.verify import Verdict

DIFFERENT = 1
"""Exit code if the two differ."""


def verify(
    model: Annotated[
        str | None, typer.Argument(help="Hub id, alias or directory.", autocompletion=complete_model)
    ] = None,
    against: Annotated[
        str, typer.Option(help="Address of an OpenAI-compatible server, or sentence-transformers.")
    ] = "sentence-transformers",
    name: Annotated[
        str | None, typer.Option(help="Name of the model on the server. Default: the first that it lists.")
    ] = None,
    api_key: Annotated[str | None, typer.Option(envvar="OPENAI_API_KEY", help="API key of the server.")] = None,
    python: Annotated[
        str | None, typer.Option(help="Python interpreter that has sentence-transformers. Default: this one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare this engine with another server or library, and name the likely cause of a difference.

    For example:

    embergem verify embeddinggemma-300m --against http://127.0.0.1:8080/v1

    embergem verify minilm --against sentence-transformers --python ~/st/bin/python
    """
    import msgspec

    from embergem.diagnostics.verify import verify
    from embergem.diagnostics.verify.local import LocalModel
    from embergem.diagnostics.verify.peers import LIBRARY, LibraryPeer, Peer, ServerPeer
    from embergem.diagnostics.verify.probes import make_probes
    from embergem.errors import UnsupportedOption
    from embergem.hub.resolve import resolve
    from embergem.open_backend import is_address
    from embergem.suggestions import did_you_mean

    if against != LIBRARY and not is_address(against):
        raise UnsupportedOption(
            f"--against {against} is neither {LIBRARY} nor the address of a server.{did_you_mean(against, [LIBRARY])} "
            "Give an address such as http://localhost:8080/v1.",
            param="against",
        )
    local = LocalModel(resolve(LoadOptions(model=model)))
    probes = make_probes(local.text, local.limit, local.radius)
    peer: Peer
    if against == LIBRARY:
        peer = LibraryPeer(local.location.path, [probe.text for probe in probes], python)
    else:
        peer = ServerPeer(against, name, api_key)
    verdict = verify(local, peer, probes, [dtype for dtype in DTYPES if dtype not in ("float32", "auto")])
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(verdict), indent=2).decode())
    else:
        show(verdict, Console())
    if not verdict.agrees:
        raise typer.Exit(DIFFERENT)


def show(verdict: "Verdict", console: Console) -> None:
    """Print a verdict as a table with notes."""
    table = Table("probe", "tokens", "there", "cosine", "length there", box=None)
    for row in verdict.rows:
        table.add_row(
            row.probe,
            f"{row.tokens:,}",
            "" if row.tokens_there is None else f"{row.tokens_there:,}",
            "" if row.cosine is None else f"{row.cosine:.7f}",
            "refused" if row.length is None else f"{row.length:.4g}",
        )
    console.print(f"{verdict.model} here, against {verdict.against}\n", highlight=False, soft_wrap=True)
    console.print(table)
    for note in verdict.notes:
        console.print(f"note: {note}", style="yellow", soft_wrap=True, highlight=False)
    if verdict.agrees:
        console.print(f"\nThey agree: {verdict.explanation}.", style="green", soft_wrap=True, highlight=False)
    else:
        console.print(f"\nThey differ. Likely cause: {verdict.cause}", style="red", soft_wrap=True, highlight=False)
        console.print(f"{verdict.explanation}.", soft_wrap=True, highlight=False)
