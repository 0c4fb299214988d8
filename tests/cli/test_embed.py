"""`embergem embed` in this process, and the command in a process of its own."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import ggufs
import httpx
import numpy as np
import pytest
from goldens import DATA
from typer.testing import CliRunner

from embergem import Embedder, __version__
from embergem._native import instruction_sets
from embergem.bulk.pipeline import Computer
from embergem.cli.app import OLLAMA_COMMANDS, app
from embergem.errors import InvalidRequest, UnsupportedOption

COMMAND = [sys.executable, "-m", "embergem"]


@pytest.fixture
def run(tiny):
    """Run `embergem embed -m TINY ...` and return its result."""

    def call(*arguments, text=""):
        return CliRunner().invoke(app, ["embed", "-m", str(tiny), *arguments], input=text)

    return call


def command(*arguments, text=None, **options):
    return subprocess.run([*COMMAND, *arguments], input=text, capture_output=True, timeout=120, **options)


def rows(output):
    return [json.loads(line) for line in output.removesuffix("\n").split("\n")]


def test_json_lines_from_arguments(run, embedder):
    result = run("What is graphene?", "a")
    assert result.exit_code == 0
    found = rows(result.stdout)
    assert [row["text"] for row in found] == ["What is graphene?", "a"]
    vectors = np.array([row["embedding"] for row in found], dtype=np.float32)
    assert np.array_equal(vectors, embedder.embed(["What is graphene?", "a"]))


def test_every_output_format_describes_the_vectors(run, embedder, tmp_path):
    about = {"model": "gemma3_text", "dtype": "float32", "fingerprint": embedder.fingerprint, "task": "query"}
    for row in rows(run("a", "b", "--task", "query").stdout):
        assert {key: row[key] for key in about} == about
    out = tmp_path / "vectors.npy"
    assert run("a", "b", "--task", "query", "-o", str(out)).exit_code == 0
    beside = json.loads((tmp_path / "vectors.npy.json").read_text())
    assert {key: beside[key] for key in about} == about
    assert (beside["rows"], beside["dimensions"]) == (2, 96)
    # The description beside the output is that of this run, not of the one before.
    assert run("a", "-o", str(out)).exit_code == 0
    assert json.loads((tmp_path / "vectors.npy.json").read_text())["rows"] == 1
    assert embedder.fingerprint in run("a", "--format", "table").stdout


def test_dense_from_adds_the_dense_layers_of_another_model(tmp_path):
    (tmp_path / "model.gguf").write_bytes(ggufs.of_gemma(dense=None))
    shutil.copy(DATA / "gemma3_text" / "tokenizer.json", tmp_path)
    arguments = ["embed", "-m", str(tmp_path / "model.gguf"), "What is graphene?"]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code != 0
    found = CliRunner().invoke(app, [*arguments, "--dense-from", str(DATA / "gemma3_text")])
    direct = CliRunner().invoke(app, ["embed", "-m", str(DATA / "gemma3_text"), "What is graphene?"])
    [found], [direct] = rows(found.stdout), rows(direct.stdout)
    assert np.abs(np.array(found["embedding"]) - np.array(direct["embedding"])).max() < 1e-6


def test_lines_from_stdin_and_from_a_file(run, tmp_path):
    text = "one\n\nthree\u2028still three\r\nfour"
    (tmp_path / "lines.txt").write_bytes(text.encode())
    from_stdin, from_file = run(text=text), run("--file", str(tmp_path / "lines.txt"))
    assert from_stdin.stdout == from_file.stdout
    assert [row["text"] for row in rows(from_stdin.stdout)] == ["one", "", "three\u2028still three", "four"]


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("a.jsonl", '{"text": "one", "id": 1}\n\n"two"\n', ()),
        ("a.ndjson", '{"body": "one"}\r\n{"body": "two"}', ("--column", "body")),
        ("a.csv", 'id,text\n1,one\n2,"two"\n', ()),
        ("a.tsv", "body\tid\none\t1\ntwo\t2\n", ("--column", "body")),
        ("a.txt", "one\ntwo\n", ()),
        ("a", "one\ntwo\n", ()),
    ],
)
def test_the_suffix_of_a_file_says_how_it_is_read(run, tmp_path, name, content, options):
    (tmp_path / name).write_text(content)
    expected = rows(run("one", "two").stdout)
    assert rows(run("-f", str(tmp_path / name), *options).stdout) == expected
    (tmp_path / name).write_text("\ufeff" + content)  # a byte order mark is no part of the first text or column
    assert rows(run("-f", str(tmp_path / name), *options).stdout) == expected
    assert rows(run(text="\ufeffone\ntwo\n").stdout) == expected


def test_a_quoted_field_of_a_csv_file_may_have_several_lines(run, tmp_path):
    (tmp_path / "a.csv").write_bytes(b'text,id\r\n"one\r\nstill one",1\r\n')
    assert [row["text"] for row in rows(run("-f", str(tmp_path / "a.csv")).stdout)] == ["one\r\nstill one"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("x", "-o", "out.csv"), "--output out.csv: the format .csv is not written. Use one of .parquet, .pq, .arrow"),
        (("x", "-o", "no/such/out.npy"), "--output no/such/out.npy: there is no directory no/such. Create it first"),
        (("-f", "in.xlsx"), "in.xlsx: files with the suffix .xlsx are not read. Known are: no suffix, .txt"),
        (("-f", "bad.csv"), "bad.csv has no column 'text'. Did you mean 'texts'? Its columns are: id, texts."),
        (("-f", "short.csv"), "short.csv, line 3: has no value in the column 'text'"),
        (("-f", "bad.jsonl"), "bad.jsonl, line 2: is no JSON: "),
        (("-f", "number.jsonl"), "number.jsonl, line 1: has no text in the field 'text'. Did you mean 'texts'?"),
        (
            ("-f", "lines.txt", "--column", "a"),
            "--column a needs a file with columns (.csv, .tsv, .jsonl, .parquet, .arrow)",
        ),
        (("x", "--column", "a"), "--column needs a file"),
    ],
)
def test_formats_that_are_unknown_or_broken_are_refused(run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.csv").write_text("id,texts\n1,a\n")
    (tmp_path / "short.csv").write_text("id,text\n1,a\n2\n")
    (tmp_path / "bad.jsonl").write_text('"a"\nb\n')
    (tmp_path / "number.jsonl").write_text('{"texts": 5}\n')
    (tmp_path / "lines.txt").write_text("a\n")
    before = sorted(tmp_path.iterdir())
    result = run(*arguments)
    assert isinstance(result.exception, InvalidRequest | UnsupportedOption)
    assert words in str(result.exception)
    assert result.stdout == "" or "line" in words  # the rows before a bad one were written already
    assert sorted(tmp_path.iterdir()) == before


def test_rows_are_written_before_the_last_vector_is_there(tmp_path, monkeypatch):
    """Stop in the middle, as Ctrl-C does: the rows so far are written, and their number is printed."""
    monkeypatch.setattr("embergem.bulk.blocks.BLOCK_TOKENS", 1)
    blocks = Computer.blocks

    def interrupted(self, *given):
        yield from itertools.islice(blocks(self, *given), 3)
        raise KeyboardInterrupt

    monkeypatch.setattr(Computer, "blocks", interrupted)
    arguments = ["embed", "-m", str(DATA / "bert_mean")]
    result = CliRunner().invoke(app, [*arguments, *"abcde"])
    assert [row["text"] for row in rows(result.stdout)] == ["a", "b", "c"]
    assert "Stopped with Ctrl-C: 3 rows were written." in result.stderr
    result = CliRunner().invoke(app, [*arguments, *"abcde", "-o", str(tmp_path / "out.jsonl")])
    assert f"Stopped with Ctrl-C: {tmp_path / 'out.jsonl'} was not written." in result.stderr
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "in.txt").write_text("\n".join("abcde"))
    result = CliRunner().invoke(app, [*arguments, str(tmp_path / "in.txt"), "-o", str(tmp_path / "out.jsonl")])
    assert "Stopped with Ctrl-C after 3 rows. Run the same command again to continue." in result.stderr
    monkeypatch.setattr(Computer, "blocks", blocks)
    result = CliRunner().invoke(app, [*arguments, str(tmp_path / "in.txt"), "-o", str(tmp_path / "out.jsonl"), "-v"])
    assert "3 rows were finished before" in result.stderr
    assert [row["text"] for row in rows((tmp_path / "out.jsonl").read_text())] == list("abcde")


def test_progress_lines_for_a_log(run, monkeypatch):
    monkeypatch.setattr("embergem.cli.bulk_progress.PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr("embergem.bulk.blocks.BLOCK_TOKENS", 1)
    result = run("a", "b", "-v")
    assert re.search(r"^1 rows, [\d,]+ rows/s, [\d,]+ tokens/s\n2 rows, ", result.stderr, re.MULTILINE)
    assert "model gemma3_text, dtype float32, space " in result.stderr
    assert re.search(r"^2 rows in \d+\.\d s, ", result.stderr, re.MULTILINE)
    quiet = run("a", "graphene " * 500, "--truncate", "-q")
    assert quiet.stderr == ""
    assert len(rows(quiet.stdout)) == 2


def test_task_title_and_numpy_output(run, embedder, tmp_path):
    out = tmp_path / "vectors.npy"
    result = run("a", "b", "--task", "document", "--title", "T", "--dimensions", "96", "--output", str(out))
    assert result.exit_code == 0, result.output
    assert np.array_equal(np.load(out), embedder.embed(["a", "b"], task="document", title="T"))
    assert sorted(tmp_path.iterdir()) == [out, tmp_path / "vectors.npy.json"]


def test_the_table_has_texts_and_similarities(run):
    output = run("What is graphene?", "--format", "table").stdout
    assert "What is graphene?" in output
    assert "1.0000" in output


def test_truncation_is_reported_on_stderr(run):
    result = run("short", "graphene " * 500, "--truncate")
    assert result.exit_code == 0
    assert "warning: 1 of 2 rows were cut to the token limit: text 2" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "text", "code", "words"),
    [
        (["-m", "TINY", "x", "--task", "sing"], None, 3, "clustering"),
        (["-m", "TINY", "x", "--dimensions", "7"], None, 3, "96"),
        (["-m", "TINY", "graphene " * 500], None, 3, "On the command line, --truncate cuts it,"),
        (["-m", "TINY", "x", "-o", "/no/such/x.npy"], None, 3, "there is no directory /no/such. Create it first"),
        (["-m", "TINY", "x", "-o", "/tmp"], None, 3, "--output /tmp is a directory. Name a file in it."),
        (["-m", "TINY", "x", "-f", "y"], None, 3, "both as arguments and with --file"),
        (["-m", "TINY", "-f", "no-such-file"], None, 3, "--file no-such-file cannot be read: No such file"),
        (["-m", "TINY"], b"", 3, "stdin is empty"),
        (["-m", "TINY"], b"\xff\n", 3, "not valid UTF-8 at byte 0"),
        (["-m", "no-such-model", "x"], None, 4, "No model is called 'no-such-model'"),
        (
            ["-m", "TINY", "word " * 400],
            None,
            3,
            "error: Text 1 has more than the 128 tokens that this model reads. On",
        ),
        (["-m", "localhost:1", "x"], None, 4, "Did you mean the server at 'http://localhost:1'?"),
        (["-m", "TINY", "--format", "xml"], None, 2, "xml"),
        (["-m", "nowhere.gguf", "x"], None, 4, "There is no file or directory 'nowhere.gguf'. Check the path"),
        (["--no-such-option"], None, 2, "--no-such-option"),
    ],
)
def test_errors_are_one_line_with_a_code(tiny, arguments, text, code, words):
    result = command("embed", *(str(tiny) if part == "TINY" else part for part in arguments), text=text)
    errors = result.stderr.decode()
    assert result.returncode == code, errors
    assert words in errors
    assert "Traceback" not in errors
    assert result.stdout == b""


@pytest.mark.parametrize("name", OLLAMA_COMMANDS)
def test_commands_of_ollama_name_the_command_that_does_it_here(name):
    result = CliRunner().invoke(app, [name, "minilm"], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    instead = re.sub(r"\bMODEL\b(?!\.)", "minilm", OLLAMA_COMMANDS[name])  # with the model that the user named
    assert f"embergem has no command '{name}'. Use: {instead}" in result.output
    for subcommands in re.findall(r"embergem ([a-z]+(?: (?:list|pull|show|path))?)", OLLAMA_COMMANDS[name]):
        assert CliRunner().invoke(app, [*subcommands.split(), "--help"]).exit_code == 0


def test_a_failed_run_leaves_no_file(tiny, tmp_path):
    result = command("embed", "-m", str(tiny), "x", "--task", "sing", "-o", str(tmp_path / "x.npy"))
    assert result.returncode == 3
    assert list(tmp_path.iterdir()) == []


def test_a_closed_output_pipe_ends_the_command_without_an_error(tiny, tmp_path):
    (tmp_path / "lines").write_text("a\n" * 2000)
    arguments = [*COMMAND, "embed", "-m", str(tiny), "-f", str(tmp_path / "lines")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_version_and_help():
    assert command("--version").stdout.decode() == f"embergem {__version__}\n"
    for name in ("embed", "serve", "models"):
        shown = CliRunner().invoke(app, [name, "--help"])
        assert shown.exit_code == 0
        assert "Usage" in shown.stdout


def test_help_wraps_paragraphs_at_the_width_of_the_terminal():
    shown = command("compile", "--help", env=os.environ | {"COLUMNS": "300"}).stdout.decode()
    assert "near that of the original. The arithmetic is chosen when the directory is loaded" in shown
    assert "gemma --dtype int16 && embergem serve -m gemma" in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell):
    environment = os.environ | {"_EMBERGEM_COMPLETE": f"source_{shell}"}
    script = subprocess.run([Path(sys.executable).with_name("embergem")], env=environment, capture_output=True)
    assert b"embergem" in script.stdout
    asked = os.environ | {
        "_EMBERGEM_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "embergem embed --task cl",
        "COMP_CWORD": "3",
        "_TYPER_COMPLETE_ARGS": "embergem embed --task cl",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    answer = subprocess.run([Path(sys.executable).with_name("embergem")], env=asked, capture_output=True).stdout
    assert b"clustering" in answer
    assert b"classification" in answer
    assert b"query" not in answer


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("serve --access-log ", "text json off"),
        ("serve --log-level w", "warning"),
        ("keys new name --lane b", "bulk"),
        ("keys new name --task cl", "classification clustering"),
        ("embed --dtype int", "int16 int8"),
    ],
)
def test_the_values_of_an_option_are_completed(words, values):
    asked = os.environ | {
        "_EMBERGEM_COMPLETE": "complete_bash",
        "COMP_WORDS": f"embergem {words}",
        "COMP_CWORD": str(words.count(" ") + 1),
    }
    answer = subprocess.run([Path(sys.executable).with_name("embergem")], env=asked, capture_output=True, text=True)
    assert sorted(answer.stdout.split()) == sorted(values.split())


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_serve_prints_its_address_responds_and_stops(tiny, stop):
    arguments = [*COMMAND, "serve", "-p", "0", "-m", str(tiny)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = [process.stdout.readline() for _ in range(5)]
            assert lines[1].startswith("playground: http://")
            assert "gemma3_text: 96 dimensions" in lines[2]
            url = re.search(r"http://\S+", lines[4]).group().removesuffix(",")
            answer = httpx.post(f"{url}/embeddings", json={"input": "a", "model": "default"}, timeout=60)
            assert np.array_equal(
                np.array(answer.json()["data"][0]["embedding"], dtype=np.float32), Embedder(tiny).embed("a")[0]
            )
            assert httpx.post(f"{url}/models/reload", json={"model_id": "default"}, timeout=60).status_code == 200
        finally:
            process.send_signal(stop)
        assert process.wait(60) == 0
        assert "retrieval_query" not in lines[2]  # another name of the prompt of query
        assert "query" in lines[2]
        loaded = [line for line in process.stderr if "is loaded" in line]
        assert loaded == ["INFO: The model gemma3_text is loaded.\n"]  # again; stdout has the line about the first time


def test_serve_refuses_an_address_in_use(tiny, url):
    port = url.rsplit(":", 1)[1]
    result = command("serve", "-p", port, "-m", str(tiny))
    assert result.returncode == 3
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr.decode()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-host.invalid"])
def test_serve_names_the_host_that_is_no_address_of_this_machine(tiny, host):
    result = command("serve", "-p", "0", "--host", host, "-m", str(tiny))
    assert result.returncode == 3
    assert f"cannot listen on {host}:0" in result.stderr.decode()
    assert "Give an address of this machine with --host" in result.stderr.decode()


def test_serve_refuses_two_models_of_one_name(tiny):
    result = command("serve", "-p", "0", "-m", str(tiny), "-m", str(tiny))
    assert result.returncode == 3
    assert b"Two models are called 'gemma3_text'" in result.stderr


def test_the_program_of_a_model_is_printed(tiny):
    shown = CliRunner().invoke(app, ["models", "show", "--program", str(tiny)]).stdout
    assert "embed(table=embed_tokens.weight, offset=0, by=9.79" in shown
    assert "self_attn.q_proj.weight ++ " in shown
    document = json.loads(CliRunner().invoke(app, ["models", "show", "--program", "--json", str(tiny)]).stdout)
    assert document["format"] == "embergem-program/1"


def test_bench_prints_rates_and_the_configuration(tiny):
    result = json.loads(CliRunner().invoke(app, ["bench", "-m", str(tiny), "--dtype", "int16", "--json"]).stdout)
    assert result["dtype"] == "int16"
    assert result["instruction_set"] in instruction_sets()
    assert result["peak_gflops"] > 0
    assert all(load["tokens_per_second"] > 0 for load in result["loads"].values())
    floor = result["query_floor"]
    assert floor["bytes_ms"] == pytest.approx(floor["bytes"] / result["read_gigabytes_per_second"] / 1e6)
    assert floor["share"] == pytest.approx(max(floor["bytes_ms"], floor["arithmetic_ms"]) / result["query_ms_p50"])
    shown = CliRunner().invoke(app, ["bench", "-m", str(tiny)]).stdout
    assert "one query of 30 tokens" in shown
    assert "of the float32 peak" in shown
    assert re.search(r"float32 peak: \d+ GFLOP/s, multiply-adds on registers with \d+ threads", shown)
    assert re.search(r"read bandwidth: \d+\.\d GB/s from memory with \d+ threads", shown)
    assert re.search(r"floors of one query: \S+ ms for its arithmetic at \d+ GFLOP/s, \S+ ms for \d+ MB", shown)


def test_a_server_embeds_for_the_command(url, run):
    there = CliRunner().invoke(app, ["embed", "-m", url, "What is graphene?"])
    assert there.exit_code == 0, there.output
    [found], [here] = rows(there.stdout), rows(run("What is graphene?").stdout)
    assert found["embedding"] == here["embedding"]
