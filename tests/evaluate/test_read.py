"""Labelled files: what the columns say, the layout of BEIR, and errors that name file, line and column."""

import csv
import json

import pytest

from embergem.errors import EmptyInput, InvalidRequest, InvalidText, UnsupportedOption
from embergem.evaluate import Pairs, Retrieval, read_labelled

PAIRS = "text1,text2,score\na,b,0.5\nc,d,1\ne,f,0\n"


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("a.csv", PAIRS, {}),
        ("a.csv", "\ufeff" + PAIRS.replace("\n", "\r\n"), {}),
        ("a.csv", PAIRS.replace("text", "sentence"), {}),
        ("a.tsv", PAIRS.replace(",", "\t"), {}),
        ("a.csv", "id,left,right,gold\n1,a,b,0.5\n2,c,d,1\n3,e,f,0\n", {"pairs": ("left", "right", "gold")}),
        (
            "a.jsonl",
            '{"text1": "a", "text2": "b", "score": 0.5}\n\n{"text1": "c", "text2": "d", "score": 1}\n'
            '{"text1": "e", "text2": "f", "score": "0"}\n',
            {},
        ),
    ],
)
def test_pairs(tmp_path, name, content, options):
    found = read_labelled(written(tmp_path / name, content), **options)
    assert isinstance(found, Pairs)
    assert (list(found.first), list(found.second), list(found.scores)) == (
        ["a", "c", "e"],
        ["b", "d", "f"],
        [0.5, 1, 0],
    )
    assert found.place(2).endswith(", line 4")


def test_a_text_may_be_longer_than_the_csv_module_allows_by_default(tmp_path):
    before = csv.field_size_limit(131_072)
    try:
        found = read_labelled(written(tmp_path / "a.csv", PAIRS + "g" * 200_000 + ",h,1\n"))
    finally:
        csv.field_size_limit(before)
    assert len(found.first[3]) == 200_000


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("a.csv", "query,document\nq,x\nq,y\nr,x\n", {}),
        ("a.csv", "query,document,score\nq,x,1\nq,y,1\nr,x,1\nr,y,0\n", {}),
        ("a.tsv", "frage\tantwort\nq\tx\nq\ty\nr\tx\n", {"relevance": ("frage", "antwort")}),
        ("a.jsonl", '{"query": "q", "relevant": ["x", "y"]}\n{"query": "r", "relevant": ["x"]}\n', {}),
    ],
)
def test_queries_of_one_file(tmp_path, name, content, options):
    (tmp_path / "more.jsonl").write_text('{"text": "z", "title": "Z"}\n{"text": "x"}\n')
    found = read_labelled(written(tmp_path / name, content), corpus=tmp_path / "more.jsonl", **options)
    assert isinstance(found, Retrieval)
    assert list(found.queries.values()) == ["q", "r"]
    assert list(found.documents.values()) == ["x", "y", "z"]
    assert [found.documents[name] for name in found.titles] == ["z"]
    relevant = {
        found.queries[query]: {found.documents[name] for name, grade in judged.items() if grade}
        for query, judged in found.relevance.items()
    }
    assert relevant == {"q": {"x", "y"}, "r": {"x"}}


def test_a_corpus_of_plain_lines(tmp_path):
    path = written(tmp_path / "a.csv", "query,document\nq,x\n")
    found = read_labelled(path, corpus=written(tmp_path / "more.txt", "y, still y\u2028\r\n\nz\n"))
    assert list(found.documents.values()) == ["x", "y, still y\u2028", "z"]


def beir(directory, qrels="query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n", split="test"):
    corpus = [{"_id": "d1", "title": "T", "text": "one"}, {"_id": "d2", "title": "", "text": "two"}]
    written(directory / "corpus.jsonl", "".join(json.dumps(row) + "\n" for row in corpus))
    written(directory / "queries.jsonl", '{"_id": "q1", "text": "first"}\n{"_id": "q2", "text": "second"}\n')
    written(directory / "qrels" / f"{split}.tsv", qrels)
    return directory


def test_the_layout_of_beir(tmp_path):
    found = read_labelled(beir(tmp_path))
    assert found.queries == {"q1": "first", "q2": "second"}
    assert found.documents == {"d1": "one", "d2": "two"}
    assert found.titles == {"d1": "T"}
    assert found.relevance == {"q1": {"d1": 2, "d2": 0}}
    assert found.judged_queries == ["q1"]
    assert found.source == f"{tmp_path} (test)"


def test_the_split_of_beir(tmp_path):
    assert read_labelled(beir(tmp_path, split="dev")).source.endswith("(dev)")  # the only one
    written(tmp_path / "qrels" / "train.tsv", "query-id\tcorpus-id\tscore\nq2\td2\t1\n")
    with pytest.raises(UnsupportedOption, match=r"split=test: .* has no test.tsv. Choose one of: dev, train."):
        read_labelled(tmp_path)
    assert read_labelled(tmp_path, split="train").judged_queries == ["q2"]


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("a.csv", "", EmptyInput, "a.csv is empty"),
        ("a.csv", "text1,text2,score\n", EmptyInput, "a.csv is empty"),
        ("a.csv", b"\xff", InvalidText, "a.csv is not valid UTF-8 at byte 0"),
        ("a.csv", "text1,text,score\na,b,1\n", UnsupportedOption, "has the columns text1, text, score. Pairs have"),
        ("a.csv", PAIRS + "g,h\n", InvalidText, "line 5: the value None in 'score' is not a finite number"),
        ("a.csv", PAIRS + "g\n", InvalidText, "line 5: has no text in 'text2'"),
        ("a.csv", PAIRS + "g,h,1,i\n", InvalidText, "line 5: has more values than the header has columns"),
        ("a.csv", PAIRS + "g,h,high\n", InvalidText, "line 5: the value 'high' in 'score' is not a finite number"),
        ("a.csv", PAIRS + "g,h,nan\n", InvalidText, "line 5: the value 'nan' in 'score' is not a finite number"),
        ("a.csv", "text1,text2,score\na,b,1\nc,d,1\ne,f,1\n", UnsupportedOption, "all 3 scores are 1"),
        ("a.csv", "text1,text2,score\na,b,1\nc,d,0\n", UnsupportedOption, "has 2 pairs. A correlation needs 3"),
        ("a.jsonl", '{"text1": "a"\n', InvalidText, "line 1: is no JSON"),
        ("a.jsonl", '["a", "b", 1]\n', InvalidText, "line 1: is a JSON list, not an object"),
        ("a.jsonl", '{"text1": "a", "text2": "b", "score": true}\n', InvalidText, "the value True in 'score'"),
        ("a.jsonl", '{"text1": 5, "text2": "b", "score": 1}\n', InvalidText, "line 1: has no text in 'text1'"),
        ("a.csv", "query,document,score\nq,x,0\n", EmptyInput, "no query has a relevant document"),
        (
            "a.csv",
            "query,document,score\nq,x,0.5\n",
            InvalidText,
            "line 2: the relevance 0.5 in 'score' is not a whole",
        ),
        ("a.csv", "query,document,score\nq,x,1\nq,x,2\n", InvalidText, "line 3: gives a document the relevance 2"),
        ("a.jsonl", '{"query": "q", "relevant": ["x", 1]}\n', InvalidText, "the entry 1 of 'relevant' is not a text"),
        ("a.parquet", "PAR1", UnsupportedOption, "the suffix '.parquet' are not read.*.csv, .tsv, .jsonl"),
    ],
)
def test_files_that_are_broken_are_refused_with_the_place(tmp_path, name, content, error, words):
    with pytest.raises(error, match=words) as caught:
        read_labelled(written(tmp_path / name, content))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pairs": ("text1", "text2")}, "pairs=text1,text2 names 2 columns"),
        ({"pairs": ("text1", "tex2", "score")}, "has no column 'tex2'. Did you mean 'text2'"),
        ({"relevance": ("text1",)}, "relevance=text1 names 1 columns"),
        ({"pairs": ("text1", "text2", "score"), "relevance": ("text1", "text2")}, "both given"),
        ({"corpus": "more.txt"}, "corpus is for queries"),
        ({"split": "test"}, "split='test' is for a directory"),
    ],
)
def test_options_that_do_not_apply_are_refused(tmp_path, options, words):
    with pytest.raises(UnsupportedOption, match=words):
        read_labelled(written(tmp_path / "a.csv", PAIRS), **options)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UnsupportedOption, match=r"nowhere.csv cannot be read: No such file"):
        read_labelled(tmp_path / "nowhere.csv")


HEADER = "query-id\tcorpus-id\tscore\n"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("queries.jsonl", None, "has no queries.jsonl"),
        ("qrels/test.tsv", None, r"qrels has no files \*.tsv"),
        ("qrels/test.tsv", "q1\td1\t1\n", "test.tsv has no judgements. Its first line names the columns query-id"),
        ("qrels/test.tsv", "query\tcorpus-id\tscore\nq1\td1\t1\n", "and no 'query-id'"),
        ("qrels/test.tsv", HEADER + "q9\td1\t1\n", "line 2: judges the query 'q9', which is not in queries.jsonl"),
        ("qrels/test.tsv", HEADER + "q1\td9\t1\n", "line 2: judges the document 'd9', which is not in corpus.jsonl"),
        ("qrels/test.tsv", HEADER + "q1\td1\t1\nq1\td1\t2\n", "line 3: gives 'd1' the relevance 2 for 'q1'"),
        ("qrels/test.tsv", HEADER + "q1\td1\tx\n", "line 2: the value 'x' in 'score'"),
        ("corpus.jsonl", '{"_id": "d1", "text": "a"}\n{"_id": "d1", "text": "b"}\n', "line 2: has the _id 'd1' of an"),
        ("corpus.jsonl", '{"text": "a"}\n', "line 1: has no text in '_id'"),
    ],
)
def test_a_broken_directory_of_beir_is_refused(tmp_path, name, content, words):
    beir(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        written(tmp_path / name, content)
    with pytest.raises(InvalidRequest, match=words):
        read_labelled(tmp_path)


def test_options_of_files_are_refused_for_a_directory(tmp_path):
    with pytest.raises(UnsupportedOption, match="corpus is for a single file"):
        read_labelled(beir(tmp_path), corpus="more.txt")


def test_data_made_in_python_is_checked():
    with pytest.raises(UnsupportedOption, match="2 first texts, 2 second texts and 3 scores"):
        Pairs(["a", "b"], ["c", "d"], [1, 2, 3])
    with pytest.raises(UnsupportedOption, match="pair 1: the score nan is not a finite number"):
        Pairs(["a"] * 3, ["b"] * 3, [1, float("nan"), 2])
    with pytest.raises(UnsupportedOption, match="has the document id 'd2', and there is no such document"):
        Retrieval({"q": "a"}, {"d1": "b"}, {"q": {"d2": 1}})
    with pytest.raises(EmptyInput, match="no query has a relevant document"):
        Retrieval({"x": "a"}, {"x": "a"}, {"x": {"x": 1}})  # the document with the id of the query does not count
    with pytest.raises(EmptyInput, match="has no documents"):
        Retrieval({"q": "a"}, {}, {})
