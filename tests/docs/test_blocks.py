"""Every block of code in the documentation runs: see `doc_blocks` for the pages and the blocks that are skipped.

The tiny EmbeddingGemma of the tests replaces the gated model, and the port of the test server replaces 1234. The
blocks of a page run in order in one directory; the Python blocks of a section share their names.
"""

import ast
import json
import logging
import re
import shutil
import subprocess
import sys
import tomllib
import warnings
from collections import Counter

import ggufs
import pytest
import yaml
from batching import batch_server
from doc_blocks import PAGES, ROOT, SKIPPED, blocks, code
from shell import Shell

from embergem.config import read_config

RUN = Counter()
"""Number of blocks that ran, for each language."""
NOT_HERE = {}
"""Blocks that could not run on this machine, with the reason."""
SUBSTITUTES = {
    "README.md": {"/path/to/a/model": "tests/data/goldens/gemma3_text"},
    "docs/evaluate.md": {"embergem eval ": "embergem eval --resamples 100 "},
    "docs/models.md": {"--model bge-small": "--model small"},
    "docs/performance.md": {"embergem bench  ": "embergem bench -m small  "},
    "docs/trust.md": {
        "models verify google/embeddinggemma-300m": "models verify minilm",
        "embergem doctor  ": "embergem doctor minilm  ",
    },
}
"""What replaces a part of a page's blocks, beside the models and the address that all pages share."""


@pytest.fixture(scope="module")
def url(registry, tmp_path_factory):
    """Address of a server that has files and batches, too."""
    with batch_server(registry, tmp_path_factory.mktemp("batches") / "files") as server:
        yield server.url


@pytest.fixture
def place(tmp_path, tiny, monkeypatch):
    """The working directory of a page, with the files that its blocks read: those of tests/docs/files, and models."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    # A copy, because `compile` makes links to its files, and their removal would look like a change of the original.
    shutil.copytree(tiny, tmp_path / "gemma3_text")
    (tmp_path / "small").symlink_to(tiny.parent / "bert_mean")
    shutil.copytree(ROOT / "tests" / "docs" / "files", tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.gguf").write_bytes(ggufs.of_gemma())
    shutil.copy(tiny / "tokenizer.json", tmp_path)  # beside the GGUF file, which has none that embergem reads
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def shell(place):
    """Run shell blocks; a server that a block would start is only configured."""
    return Shell(place, lambda settings, entries, signals, keys: list(keys()) is None or bool(entries))


@pytest.mark.parametrize("page", [page for page in PAGES if code(page)], ids=lambda page: page.stem)
def test_blocks_run(page, place, shell, tiny, url, capsys):
    def here(text, model=tiny):
        for old, new in SUBSTITUTES.get(page.relative_to(ROOT).as_posix(), {}).items():
            text = text.replace(old, new)
        text = re.sub(r"(google/|unsloth/)?\bembeddinggemma-300m\b", str(model), text)
        text = re.sub(r"""(dimensions"?[:=] ?)256\b""", r"\g<1>96", text)
        return text.replace("http://localhost:1234", url)

    names, section, shown = {}, None, ""
    for block in code(page):
        if block.skipped:
            continue
        if block.section != section:
            names, section = {"__name__": "__main__"}, block.section
        where = f"{block.page}:{block.line}"
        try:
            match block.language:
                case "python" if page.name == "api.md":
                    check_reference(block.text)
                case "python":
                    run_python(here(block.text), where, block.line, names)
                case "sh" | "bash":
                    shown = shell.run(here(block.text, place / "gemma3_text"))
                case "js" if not shutil.which("node"):
                    NOT_HERE[where] = "node is not installed"
                    continue
                case "js":
                    run_node(here(block.text), place)
                case "json":
                    check_json(json.loads(block.text), shown, place)
                case "toml":
                    check_settings(block.text, place)
                case "yaml":
                    assert isinstance(yaml.safe_load(block.text), dict)
                case "rust":
                    assert page.name in (ROOT / "crates" / "embergem" / "src" / "lib.rs").read_text(), (
                        "rustdoc does not test this page"
                    )
                case _:
                    raise AssertionError(f"no test runs blocks of {block.language!r}")
        except Exception as error:
            error.add_note(f"in the block at {where}")
            raise
        RUN[block.language] += 1
    logging.getLogger("embergem").setLevel(logging.NOTSET)  # undo with_logging, which lasts until the process ends


def run_python(text, where, line, names):
    """Run a block as a script whose lines have the numbers of the page."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(compile("\n" * (line - 1) + text, where.split(":")[0], "exec"), names)


def run_node(text, place):
    """Run a block as a module in node."""
    (place / "block.mjs").write_text(text)
    ran = subprocess.run(["node", "block.mjs"], cwd=place, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr


def check_reference(text):
    """Check a block of docs/api.md: an example, which test_public_api.py runs in its docstring, or a signature."""
    if text.startswith(">>>"):
        return
    signature = text.strip().removeprefix("async ").removeprefix("def ")
    ast.parse(f"def {signature}: ...")


def check_json(value, shown, place):
    """Check that a JSON block is what the last command printed or wrote, or a file of models."""
    assert isinstance(value, dict)
    manifests = list(place.glob("*/compiled.json"))
    if value.get("format", "").startswith("embergem-model/"):
        assert_same_shape(value, json.loads(manifests[0].read_text()))
    elif any(isinstance(entry, dict) and {"Embedding", "Plain"} & set(entry) for entry in value.values()):
        (place / "models.json").write_text(json.dumps(value))
        assert read_config(place / "models.json", {}, {}).models
    else:
        assert_same_shape(value, json.loads(shown))


def assert_same_shape(documented, found):
    """Compare the names of fields and the types of values; lists are compared by their first elements."""
    if isinstance(documented, dict) and isinstance(found, dict):
        assert documented.keys() == found.keys()
        for name, value in documented.items():
            assert_same_shape(value, found[name])
    elif isinstance(documented, list) and isinstance(found, list):
        for pair in list(zip(documented, found, strict=False))[:1]:
            assert_same_shape(*pair)
    else:
        numbers = isinstance(documented, int | float) and isinstance(found, int | float)
        assert type(documented) is type(found) or numbers, (documented, found)


def check_settings(text, place):
    """Read a TOML block as the settings of a server."""
    values = tomllib.loads(text)
    if keys := values.get("server", {}).get("keys"):
        (place / keys).write_text(f'[[keys]]\nname = "mine"\nsha256 = "{"0" * 64}"\n')
    (place / "server.toml").write_text(text)
    read_config(place / "server.toml", {}, {})


def test_blocks_have_a_language_and_are_closed():
    for page in PAGES:
        assert page.read_text(encoding="utf-8").count("```") == 2 * len(blocks(page)), page.name


def test_the_lines_after_a_migration_are_those_of_a_program():
    """In docs/migration.md, each line in the column "after" is in a block of its section, so it runs."""
    page = ROOT / "docs" / "migration.md"
    for section in page.read_text(encoding="utf-8").split("\n## From ")[1:]:
        section = f"From {section.partition(chr(10) + '## ')[0]}"
        title = section.splitlines()[0]
        programs = "\n".join(block.text for block in code(page) if block.section == title)
        rows = re.findall(r"^\| `(.+)`.* \| `(.+)` \|$", section, flags=re.MULTILINE)
        assert rows, title
        assert [after for _, after in rows if after not in programs] == [], title


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("embergem embed --nothing a", "No such option"),
        ("embergem serve --config gone.toml", "gone.toml"),
        ("pip install 'embergem[nothing]'", "there is no extra"),
        ("make nothing", "No rule to make target"),
        ("false | true", "ended with 1"),
        ("curl http://localhost:1234/nothing", "not_found"),
        ("cargo install nothing", "does not know how to check"),
    ],
)
def test_a_wrong_command_fails(shell, url, text, message):
    with pytest.raises(AssertionError, match=message):
        shell.run(text.replace("http://localhost:1234", url))


def test_a_wrong_response_is_found(place):
    with pytest.raises(AssertionError):
        check_json({"data": [{"index": 0}]}, '{"data": [{"index": 0, "tokens": 4}]}', place)


def test_python_errors_have_the_line_of_the_page():
    with pytest.raises(ZeroDivisionError) as caught:
        run_python("one = 1\none / 0\n", "docs/page.md:40", 40, {})
    assert caught.traceback[-1].lineno + 1 == 41
    assert sys.exc_info() == (None, None, None)


def test_few_blocks_are_skipped(request, capsys):
    """Print how many blocks ran. This test is the last of the file, so that the others have run."""
    every = [block for page in PAGES for block in code(page)]
    skipped = {f"{block.page}:{block.line}": block.skipped for block in every if block.skipped}
    assert len(skipped) == len(SKIPPED), "an entry of SKIPPED matches no block, or more than one"
    assert len(skipped) + len(NOT_HERE) <= 5
    counts = ", ".join(f"{count} {language}" for language, count in sorted(RUN.items()))
    with capsys.disabled():
        terminal = request.config.pluginmanager.get_plugin("terminalreporter")
        terminal.write_line(f"\ncode blocks in the documentation: {len(every)}; run: {RUN.total()} ({counts})")
        for where, reason in {**skipped, **NOT_HERE}.items():
            terminal.write_line(f"skipped: {where}: {reason}")
