"""The table of clients in docs/http.md shows what the programs in tests/clients run."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from client_programs import PROGRAMS, client_programs  # noqa: E402 - the scripts are no package
from clients_table import BEGIN, END, PAGE, table  # noqa: E402
from served import TINY  # noqa: E402


def test_the_table_is_not_stale():
    shown = PAGE.read_text().split(BEGIN)[1].split(END)[0]
    assert shown.strip().splitlines() == list(table()), "run `make clients-table`"


def test_each_program_is_in_the_list_once():
    listed = sorted(client.program for client in client_programs())
    found = sorted(path.relative_to(PROGRAMS).as_posix() for path in PROGRAMS.glob("*/*"))
    assert listed == [name for name in found if "__pycache__" not in name]


@pytest.mark.parametrize("client", list(client_programs()), ids=lambda client: client.program)
def test_a_program_uses_its_configuration(client):
    configured = " ".join(client.statements())
    assert re.search(r"\burl\b", configured) or client.name == "JDK HttpClient"
    assert client.packages or client.name == "JDK HttpClient"
    dimensions = json.loads((TINY / "config.json").read_text())["hidden_size"]
    assert all(int(size) == dimensions for size in re.findall(r'"embedding_dims": (\d+)', configured))
