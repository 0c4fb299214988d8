"""Each option with an invalid value: the error names the option, the value, and what is allowed or what to do."""

import json
import re
import shutil

import ggufs
import pytest
import typer
from goldens import DATA
from typer.testing import CliRunner

from embergem.cli import app as cli
from embergem.errors import EmbergemError

TINY = str(DATA / "gemma3_text")
BERT = str(DATA / "bert_mean")

ANY_VALUE = {"--title-text", "--name", "--api-key"}
"""Options that take any text. Their values are checked by the model or the server, if at all."""

LATER = {
    *(("serve", option) for option in ("--task", "--arch", "--dense-from", "--host")),
    *(("serve", option) for option in ("--tls-cert", "--tls-key", "--batch-path")),
}
"""Options whose values are checked when a model is loaded or the server listens, and logged."""

SHARED = {
    "--arch": ("mistrall", "Did you mean 'mistral'"),
    "--window": ("0", "Give 2 or more"),
    "--dense-from": ("no/such/model/here", "directory, a model of the hub"),
    "--hf-cache-path": ("/nowhere", "local path"),
    "--revision": ("a..b", "branch, tag or commit"),
    "--dtype": ("int12", "Did you mean 'int16'.*float32"),
    "--threads": ("0", "Give 1 or more|a whole number from 1 "),
    "--task": ("qery", "query"),
    "--model": ("embeddinggema", "embeddinggemma"),
}
"""An invalid value of each option that several commands have, and a part of the advice as a pattern."""

OWN = {
    ("embed", "--file"): ("no-such-file", "Name a file with texts"),
    ("embed", "--column"): ("txt", "Did you mean 'text'.*--column"),
    ("embed", "--id"): ("identity", "has no column 'identity'"),
    ("embed", "--keep"): ("txt", "has no column 'txt'"),
    ("embed", "--title"): ("titel", "has no column 'titel'"),
    ("embed", "--on-error"): ("ignore", "skip"),
    ("embed", "--too-long"): ("cut", "truncate"),
    ("embed", "--chunk-overlap"): ("-1", "Give 0 or more tokens"),
    ("embed", "--chunk-pool"): ("sum", "mean"),
    ("embed", "--output-dtype"): ("int4", "int8"),
    ("embed", "--into"): ("", "Give a name"),
    ("embed", "--reuse"): ("/no/such/old.parquet", "cannot be read"),
    ("embed", "--report"): ("/no/such/place/x.jsonl", "Create it first"),
    ("embed", "--dimensions"): ("95", "of: 96."),
    ("embed", "--format"): ("xml", "json"),
    ("embed", "--output"): ("/no/such/place/x.npy", "Create it first"),
    ("embed", "--ray"): ("nonsense", "Give auto, local, or HOST:PORT"),
    ("embed", "--ray-workers"): ("0", "Add --ray"),
    ("eval", "--pairs"): ("a,b", "Name first,second,score"),
    ("eval", "--relevance"): ("a", "Name query,document"),
    ("eval", "--corpus"): ("no-such-corpus.txt", "Check the path"),
    ("eval", "--split"): ("tset", "Did you mean 'test'"),
    ("eval", "--dimensions"): ("95", "from: 96."),
    ("eval", "--storage"): ("int7", "Did you mean 'int8'.*Choose from: float32"),
    ("eval", "--query-task"): ("qery", "query"),
    ("eval", "--document-task"): ("docment", "document"),
    ("eval", "--titles"): ("txt", "Did you mean 'text'"),
    ("eval", "--cutoffs"): ("0", "Give numbers from 1"),
    ("eval", "--oversample"): ("0", "Give 1 or more"),
    ("eval", "--resamples"): ("10", "Give 100 or more"),
    ("eval", "--confidence"): ("2", "between 0 and 1"),
    ("eval", "--seed"): ("-1", "Give 0 or more"),
    ("eval", "--loss"): ("2", "from 0 to 1"),
    ("eval", "--plot"): ("loss.pdf", r"Use one of: \.svg, \.png"),
    ("serve", "--config"): ("models.yaml", r"\.toml"),
    ("serve", "--port"): ("70000", "65535"),
    ("serve", "--keys"): ("no-such-keys.toml", "Check the path"),
    ("serve", "--cors"): ("app.example", "https://app.example"),
    ("serve", "--max-batch-tokens"): ("0", "a whole number from 1"),
    ("serve", "--max-queue-tokens"): ("0", "a whole number from 1"),
    ("serve", "--access-log"): ("jsn", "Did you mean 'json'.*one of: json, off, text"),
    ("serve", "--log-level"): ("nonsense", "one of: critical, debug, error, info, warning"),
    ("compile", "--output"): (f"{BERT}/config.json/x", "."),
    ("convert", "--dtype"): ("int12", "one of: float32, bfloat16"),
    ("convert", "--output"): (f"{BERT}/config.json/x", "."),
    ("verify", "--against"): ("localhost:1", "Give an address such as http://"),
    ("verify", "--python"): ("/no/such/python", "."),
    ("models verify", "--path"): ("/no/such/directory", "Name the directory"),
    ("keys new", "--file"): ("/no/such/place/keys.toml", "."),
    ("keys new", "--task"): ("", "empty"),
    ("keys new", "--lane"): ("fast", "one of: bulk, interactive"),
    ("keys new", "--requests-per-minute"): ("0", "from 1"),
    ("keys new", "--tokens-per-minute"): ("0", "from 1"),
    ("keys new", "--concurrency"): ("0", "from 1"),
    ("keys new", "--batch-bytes"): ("0", "from 1"),
    ("keys new", "--batch-unfinished"): ("0", "from 1"),
}

ARGUMENTS = {
    "embed": ["-m", TINY], "serve": ["-m", TINY, "-p", "0"], "bench": ["-m", TINY], "compile": [TINY, "-o", "out"],
    "convert": ["x.gguf", "-o", "out"], "fingerprint": [TINY], "verify": [TINY], "models verify": ["minilm"],
    "keys new": ["me"], "eval": ["-m", TINY],
}  # fmt: skip
"""Other arguments of each command."""


OF_QUERIES = ("--relevance", "--corpus", "--query-task", "--document-task", "--titles", "--cutoffs", "--oversample")
"""Options of `embergem eval` that apply to queries."""


def write_labelled(directory):
    """Write pairs.csv, queries.jsonl and beir/ for `embergem eval`."""
    (directory / "pairs.csv").write_text("text1,text2,score\na,b,1\nc,d,2\ne,f,3\n")
    queries = [{"query": "q", "relevant": ["a"]}, {"query": "r", "relevant": list("bcdefghijklm")}]
    (directory / "queries.jsonl").write_text("".join(json.dumps(query) + "\n" for query in queries))
    (directory / "beir" / "qrels").mkdir(parents=True)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv", "qrels/dev.tsv"):
        (directory / "beir" / name).touch()


def commands(group, path=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def options():
    """Yield (command, option) for each option that takes a value."""
    for name, command in commands(typer.main.get_command(cli.app)):
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.is_flag:
                yield name, parameter.opts[0]


FOUND = list(options())


def run(command, option, value, capsys):
    given = list(ARGUMENTS[command])
    if command == "embed":
        given += ["-f", "x.jsonl"] if option in ("--column", "--id", "--keep", "--title") else []
        given += ["-o", "out.parquet"] if option == "--reuse" else []
        given += ["a"] if option != "--file" and "-f" not in given else []
    if command == "eval":
        given += ["beir" if option == "--split" else "queries.jsonl" if option in OF_QUERIES else "pairs.csv"]
    for short in {"--model": "-m", "--output": "-o", "--port": "-p"}.get(option, ""), option:
        if short in given:
            del given[given.index(short) : given.index(short) + 2]
    result = CliRunner().invoke(cli.app, [*command.split(), *given, option, value], terminal_width=200)
    said = result.output
    if isinstance(result.exception, EmbergemError | OSError):
        cli.report(result.exception)
        said += capsys.readouterr().err
    assert result.exit_code != 0, said
    assert result.exception is None or isinstance(result.exception, EmbergemError | OSError | SystemExit), result
    return re.sub(r"\s*\n[│\s]*", " ", said)


@pytest.mark.parametrize(("command", "option"), FOUND)
def test_an_invalid_value_is_named_with_its_option(command, option, tmp_path, monkeypatch, capsys):
    if option in ANY_VALUE or (command, option) in LATER:
        return
    value, advice = OWN.get((command, option)) or SHARED[option]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.jsonl").write_text('{"text": "a"}')
    if command == "eval":
        write_labelled(tmp_path)
    if command == "convert":
        (tmp_path / "x.gguf").write_bytes(ggufs.of_gemma())
        shutil.copy(DATA / "gemma3_text" / "tokenizer.json", tmp_path)
    monkeypatch.setattr("embergem.server.run.serve", lambda *given, **options: pytest.fail("the server started"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "200")
    said = run(command, option, value, capsys)
    name = option.removeprefix("--")
    is_path = "/" in value and value in said  # a path says itself what it is
    assert is_path or any(spelling in said for spelling in (option, name, name.replace("-", "_"))), said
    assert value in said
    assert re.search(advice, said), said


@pytest.mark.parametrize("given", [["-p", "many"], ["--port", "many"], ["--port=many"]])
def test_a_word_in_place_of_a_number_is_named(given):
    said = CliRunner().invoke(cli.app, ["serve", *given], terminal_width=200).output
    assert "--port" in said
    assert "'many'" in said
    assert "integer" in said


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (name, parameter.opts[0])
        for name, command in commands(typer.main.get_command(cli.app))
        for parameter in command.params
        if parameter.param_type_name == "option" and parameter.type_descriptor.annotation in (int, float)
    ],
)
def test_every_option_with_a_number_names_a_word(command, option):
    said = CliRunner().invoke(cli.app, [*command.split(), option, "many"], terminal_width=200).output
    assert option in said
    assert "'many'" in said


def test_every_option_is_listed():
    listed = set(OWN) | LATER | {(command, option) for command, option in FOUND if option in {*SHARED, *ANY_VALUE}}
    assert listed == set(FOUND)
