"""Write the table of clients in docs/http.md from the programs in tests/clients.

python scripts/clients_table.py [--check]

The table shows the lines of each program that configure the client, so it shows what `make test-clients` runs. With
--check nothing is written, and the exit status is 1 if the table is stale.
"""

import sys
from collections.abc import Iterator

from client_programs import client_programs
from generated import write_or_check
from served import ROOT

PAGE = ROOT / "docs" / "http.md"
BEGIN, END = "<!-- clients: begin (make clients-table) -->", "<!-- clients: end -->"


def main() -> int:
    """Write the table or, with --check, compare it."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    return write_or_check(PAGE, "\n".join([before + BEGIN, *table(), END + after]), "clients-table")


def table() -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| client | tested with | configuration |"
    yield "| --- | --- | --- |"
    for client in client_programs():
        packages = ", ".join(f"`{package}`" for package in client.packages) or "Java 17"
        statements = "<br>".join(f"`{statement}`" for statement in client.statements())
        yield f"| {client.name} | {packages} | {statements} {client.note} |".replace("  |", " |")


if __name__ == "__main__":
    sys.exit(main())
