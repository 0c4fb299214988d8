"""`embergem eval`: the table, JSON, the plot and errors."""

import json
import re

import pytest
from typer.testing import CliRunner

from embergem.cli.app import app
from embergem.errors import InputTooLong, InvalidRequest, UnsupportedOption

PAIRS = "text1,text2,score\ngraphene,carbon,0.9\napples,pears,0.7\nsteel,snow,0.1\nice,fire,0.2\n"
QUESTIONS = '{"query": "What is graphene?", "relevant": ["carbon"]}\n{"query": "fruit?", "relevant": ["apples"]}\n'


@pytest.fixture
def run(tiny, tmp_path, monkeypatch):
    """Run `embergem eval -m TINY ...` in a directory with pairs.csv, questions.jsonl and corpus.txt."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.csv").write_text(PAIRS)
    (tmp_path / "questions.jsonl").write_text(QUESTIONS)
    (tmp_path / "corpus.txt").write_text("steel\nsnow\nice\nfire\n")

    def call(*arguments):
        return CliRunner().invoke(app, ["eval", "-m", str(tiny), "--resamples", "100", *arguments])

    return call


def test_the_table_of_pairs(run, embedder):
    result = run("pairs.csv", "--task", "none")
    assert result.exit_code == 0, result.output
    assert f"gemma3_text, dtype float32, space {embedder.fingerprint}" in result.stdout
    assert "pairs.csv: 4 pairs, 8 texts\nprompts: both texts: no prompt\n" in result.stdout
    number = r"[+-]?\d\.\d{3} \[[+-]?(\d\.\d{3}, [+-]?\d\.\d{3}|\?)\]"
    for form in ("96 +float32 +384", "96 +int8 +96", "96 +binary +12"):
        assert re.search(rf"^ {form} +{number} +{number} ", result.stdout, re.MULTILINE), result.stdout
    assert "[…]: 95% of 100 resamples, seed 0." in result.stdout
    assert "note: There are only 4 pairs, so the intervals are rough." in result.stdout
    assert "prompts: both texts: semantic_similarity" in run("pairs.csv").stdout


def test_the_table_of_queries(run):
    result = run("questions.jsonl", "--corpus", "corpus.txt", "--cutoffs", "2,4", "--oversample", "1", "--loss", "0.99")
    assert result.exit_code == 0, result.output
    assert "questions.jsonl: 2 queries, 6 documents, 2 judgements\nprompts: query: query, document: document\n" in (
        result.stdout
    )
    assert re.search(r"dimensions +storage +bytes +ndcg@10 +recall@2 +recall@4 +loss of ndcg@10", result.stdout)
    assert re.search(r"^ 96 +binary\+int8 +12 \+ 96 ", result.stdout, re.MULTILINE)
    assert "a + b bytes: a search reads a; 10 candidates are scored again with b." in result.stdout
    assert (
        "Fewest bytes to search with a loss of ndcg@10 of at most 0.99, interval included: 96 dimensions, binary"
        in (result.stdout)
    )


def test_json_and_plot(run, embedder, tmp_path):
    result = run("pairs.csv", "--json", "--plot", "loss.svg", "--storage", "float32,int8", "--dimensions", "96")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["fingerprint"] == embedder.fingerprint
    assert report["tasks"] == {"first": "semantic_similarity", "second": "semantic_similarity"}
    assert [form["storage"] for form in report["forms"]] == ["float32", "int8"]
    assert report["bootstrap"] == {"resamples": 100, "confidence": 0.95, "seed": 0}
    assert (tmp_path / "loss.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pairs.csv", "--plot", "loss.pdf"), "plot=loss.pdf: the format .pdf is not drawn. Use one of: .svg, .png."),
        (("pairs.csv", "--plot", "no/loss.svg"), "there is no directory no. Create it first: mkdir -p no"),
        (("pairs.csv", "--dimensions", "a"), "--dimensions a is not a list of whole numbers"),
        (("pairs.csv", "--loss", "2"), "--loss 2 is not from 0 to 1"),
        (("nowhere.csv",), "nowhere.csv cannot be read: No such file or directory. Check the path."),
        (("pairs.csv", "--corpus", "corpus.txt"), "corpus is for queries, and pairs.csv has pairs"),
    ],
)
def test_errors_come_before_the_model_is_loaded(run, monkeypatch, arguments, words):
    monkeypatch.setattr("embergem.open_backend.open_backend", lambda options: pytest.fail("the model was loaded"))
    result = run(*arguments)
    assert isinstance(result.exception, UnsupportedOption | InvalidRequest)
    assert words in str(result.exception)


def test_long_texts(run, tmp_path):
    (tmp_path / "long.csv").write_text(PAIRS + "graphene " * 500 + ",b,0.5\n")
    result = run("long.csv")
    assert isinstance(result.exception, InputTooLong)
    assert "long.csv, line 6: the text has " in str(result.exception)
    assert "On the command line, --truncate cuts it." in str(result.exception)
    cut = run("long.csv", "--truncate")
    assert cut.exit_code == 0
    assert "note: 1 of 10 texts were cut to 128 tokens." in cut.stdout
