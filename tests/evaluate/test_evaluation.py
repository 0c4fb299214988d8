"""`evaluate` on the tiny models and on the Lee corpus: values, sizes, prompts, titles, notes and errors."""

import json

import numpy as np
import pytest
import scipy.stats
from goldens import copy_model, edit

from embergem import Embedder, TruncationWarning
from embergem._native import cut as native_cut
from embergem.errors import EmbergemError, InputTooLong, InvalidDimensions, InvalidTask, UnsupportedOption
from embergem.evaluate import Bootstrap, Pairs, Retrieval, draw, evaluate
from embergem.evaluate.embedded import TextEmbedder

WORDS = ["graphene", "carbon", "lattice", "apple", "pear", "bridge", "steel", "ocean", "wave", "storm", "rain", "ice"]
FAST = Bootstrap(resamples=100)


def sentences(count, seed=0):
    random = np.random.default_rng(seed)
    return [f"{number} " + " ".join(random.choice(WORDS, 6)) for number in range(count)]


@pytest.fixture(scope="module")
def pairs():
    return Pairs(sentences(40), sentences(40, seed=1), np.random.default_rng(2).random(40).round(1).tolist())


@pytest.fixture(scope="module")
def retrieval():
    """40 documents; each of 10 queries is the first half of a document, and a second document is somewhat relevant."""
    documents = {f"d{number}": text for number, text in enumerate(sentences(40))}
    queries = {f"q{number}": documents[f"d{number}"][:20] for number in range(10)}
    relevance = {f"q{number}": {f"d{number}": 2, f"d{number + 10}": 1, "d39": 0} for number in range(10)}
    return Retrieval(queries, documents, relevance, {f"d{number}": f"title {number}" for number in range(20)})


@pytest.fixture(scope="module")
def matryoshka(tmp_path_factory):
    """A model that was trained for smaller vectors."""
    directory = copy_model("bert_mean", tmp_path_factory.mktemp("models") / "matryoshka")
    edit(directory / "config.json", matryoshka_dimensions=[64, 32, 16])
    with Embedder(directory) as embedder:
        assert embedder.allowed_dimensions == (64, 32, 16)
        yield embedder


def of(report):
    return {(form.dimensions, form.storage): form for form in report.forms}


def test_pairs_are_correlated_with_the_similarity_prompt(embedder, pairs):
    report = evaluate(embedder, pairs, bootstrap=FAST)
    first, second = (embedder.embed(list(texts), task="semantic_similarity") for texts in (pairs.first, pairs.second))
    cosines = np.diagonal(embedder.similarity(first, second))
    assert report.full.values["pearson"].value == pytest.approx(np.corrcoef(cosines, pairs.scores)[0, 1], abs=1e-6)
    found = report.full.values["spearman"]
    assert found.value == pytest.approx(scipy.stats.spearmanr(cosines, pairs.scores).statistic, abs=1e-6)
    assert found.low < found.value < found.high
    assert (report.kind, report.main, report.fingerprint) == ("pairs", "spearman", embedder.fingerprint)
    assert report.tasks == {"first": "semantic_similarity", "second": "semantic_similarity"}
    assert report.counts == {"pairs": 40, "texts": 80}


def test_no_prompt_and_another_prompt_give_other_values(embedder, pairs):
    values = {
        task: evaluate(embedder, pairs, task=task, storage=["float32"], bootstrap=FAST).full.values["pearson"].value
        for task in ("auto", "semantic_similarity", None, "clustering")
    }
    assert values["auto"] == values["semantic_similarity"]
    assert len({values["auto"], values[None], values["clustering"]}) == 3


def cut_with_the_mean(vectors, size):
    return native_cut(vectors, size, True)


def cut_from_the_end(vectors, size):
    kept = vectors[:, -size:]
    return kept / np.linalg.norm(kept, axis=1, keepdims=True)


@pytest.mark.parametrize("cut", [None, cut_with_the_mean, cut_from_the_end])
def test_smaller_vectors_are_those_of_the_engine(matryoshka, pairs, cut, monkeypatch):
    """Also for models that subtract the mean first, and for a server that cuts in a way that is not known here."""
    embed = Embedder.embed
    if cut is not None:

        def embed_and_cut(self, texts, *, dimensions=None, **options):
            full = embed(self, texts, **options)
            return full if dimensions is None else cut(full, dimensions)

        monkeypatch.setattr(Embedder, "embed", embed_and_cut)
    report = evaluate(matryoshka, pairs, dimensions=[32, 16], storage=["float32", "int8"], bootstrap=FAST)
    assert list(of(report)) == [(64, "float32"), (32, "float32"), (32, "int8"), (16, "float32"), (16, "int8")]
    for size in (32, 16):
        first, second = (matryoshka.embed(list(texts), dimensions=size) for texts in (pairs.first, pairs.second))
        cosines = np.diagonal(matryoshka.similarity(first, second))
        expected = np.corrcoef(cosines, pairs.scores)[0, 1]
        assert of(report)[size, "float32"].values["pearson"].value == pytest.approx(expected, abs=1e-5)


def test_the_full_vectors_are_computed_once(matryoshka, pairs, monkeypatch):
    counts = []
    embed = Embedder.embed

    def counted(self, texts, **options):
        counts.append(len(texts))
        return embed(self, texts, **options)

    monkeypatch.setattr(Embedder, "embed", counted)
    evaluate(matryoshka, pairs, bootstrap=FAST)
    assert counts[0] == 80
    assert max(counts[1:]) <= 8


def test_a_search_finds_the_documents_that_a_plain_sort_finds(embedder, retrieval):
    report = evaluate(embedder, retrieval, cutoffs=[3, 10], bootstrap=FAST)
    queries = embedder.embed_query(list(retrieval.queries.values()))
    titles = [retrieval.titles.get(name) for name in retrieval.documents]
    documents = embedder.embed_documents(list(retrieval.documents.values()), titles)
    order = np.argsort(-embedder.similarity(queries, documents), axis=1)
    for cutoff in (3, 10):
        shares = [
            len({f"d{place}" for place in row[:cutoff]} & {f"d{number}", f"d{number + 10}"}) / 2
            for number, row in enumerate(order)
        ]
        assert report.full.values[f"recall@{cutoff}"].value == pytest.approx(np.mean(shares))
    assert list(report.full.values) == ["ndcg@10", "recall@3", "recall@10"]
    assert report.tasks == {"query": "query", "document": "document"}
    assert report.titles == "prompt"
    assert report.counts == {"queries": 10, "documents": 40, "judgements": 30}
    assert [form.storage for form in report.forms] == ["float32", "int8", "binary", "binary+int8"]
    assert report.candidates == 40
    assert any("All 40 documents are candidates (4 × 10)" in note for note in report.notes)
    assert abs(of(report)[96, "binary+int8"].losses["ndcg@10"].value) < 0.01


def test_titles_are_used_as_the_report_says(matryoshka, embedder, retrieval):
    chosen = {
        titles: evaluate(embedder, retrieval, titles=titles, cutoffs=[3], storage=["float32"], bootstrap=FAST)
        for titles in ("auto", "prompt", "text", "ignore")
    }
    assert {titles: report.titles for titles, report in chosen.items()} == {
        "auto": "prompt", "prompt": "prompt", "text": "text", "ignore": "ignore",
    }  # fmt: skip
    assert chosen["auto"].forms == chosen["prompt"].forms
    # A model without a document prompt gets titles before the texts, as in BEIR.
    report = evaluate(matryoshka, retrieval, cutoffs=[3], storage=["float32"], dimensions=[64], bootstrap=FAST)
    assert (report.titles, report.tasks) == ("text", {"query": None, "document": None})
    joined = {
        name: f"{retrieval.titles[name]} {text}" if name in retrieval.titles else text
        for name, text in retrieval.documents.items()
    }
    untitled = Retrieval(retrieval.queries, joined, retrieval.relevance)
    again = evaluate(matryoshka, untitled, cutoffs=[3], storage=["float32"], dimensions=[64], bootstrap=FAST)
    assert again.forms == report.forms
    assert again.titles is None
    with pytest.raises(InvalidTask, match="takes no title"):
        evaluate(matryoshka, retrieval, titles="prompt", cutoffs=[3])


def test_the_document_that_is_the_query_is_left_out(embedder):
    texts = dict(zip("abcde", sentences(5), strict=True))
    data = Retrieval(texts, texts, {"a": {"a": 1, "b": 1}, "c": {"c": 1}})
    report = evaluate(
        embedder, data, cutoffs=[4], storage=["float32"], query_task=None, document_task=None, bootstrap=FAST
    )
    assert report.full.values["recall@4"].value == 1  # b is among the four documents besides a
    assert report.counts == {"queries": 1, "documents": 5, "judgements": 1}
    assert "Documents with the id of the query are left out of its ranking." in report.notes
    assert "4 queries have no relevant document and are not scored." in report.notes


def test_equal_scores_are_in_a_random_order_that_the_seed_fixes(embedder):
    """All documents have the same text: the relevant ones, which are first in the file, get no advantage."""
    documents = {f"d{number}": "graphene" for number in range(200)}
    queries = {f"q{number}": f"query {number}" for number in range(20)}
    data = Retrieval(queries, documents, {name: {f"d{place}": 1 for place in range(10)} for name in queries})
    recalls = [
        evaluate(embedder, data, cutoffs=[50], storage=["float32"], bootstrap=Bootstrap(100, seed=seed))
        .full.values["recall@50"]
        .value
        for seed in (0, 0, 1)
    ]
    assert recalls[0] == recalls[1]
    assert 0 < recalls[0] < 0.8
    assert 0 < recalls[2] < 0.8


def test_minilm_on_the_lee_corpus(minilm, lee, tmp_path):
    """Pearson is that of the library; int8 loses next to nothing and binary loses some."""
    documents = (lee / "lee.cor").read_text("latin-1").strip().split("\n")
    judged = np.loadtxt(lee / "similarities0-1.txt")
    first, second = np.triu_indices(50, 1)
    data = Pairs(
        [documents[place] for place in first], [documents[place] for place in second], judged[first, second].tolist()
    )
    with Embedder(minilm) as embedder:
        report = evaluate(embedder, data)
    assert report.counts == {"pairs": 1225, "texts": 50}
    assert report.full.values["pearson"].value == pytest.approx(0.6564, abs=0.0005)
    int8, binary = of(report)[384, "int8"], of(report)[384, "binary"]
    assert abs(int8.losses["spearman"].value) < 0.002
    assert int8.losses["spearman"].high < 0.005
    assert binary.losses["spearman"].low > 0.01
    assert report.smallest(0.01) == int8
    assert report.smallest(0.2) == binary
    assert report.notes == ()
    for name in ("loss.svg", "loss.png"):
        draw(report, tmp_path / name)
        draw(report, tmp_path / f"again-{name}")
        assert (tmp_path / name).read_bytes() == (tmp_path / f"again-{name}").read_bytes()
    drawn = (tmp_path / "loss.svg").read_text()
    assert drawn.count("<!-- 384 -->") == 3
    assert "<!-- binary -->" in drawn
    read = json.loads(report.to_json())
    assert read["fingerprint"] == report.fingerprint
    assert read["forms"][1]["losses"]["spearman"]["high"] == int8.losses["spearman"].high


def test_long_texts_are_named_by_their_place_and_can_be_cut(embedder):
    long = "graphene " * 500
    data = Pairs(["a", "b", "c"], ["d", long, "e"], [1, 2, 3], source="pairs.csv", lines=[2, 5, 9])
    with pytest.raises(InputTooLong, match=r"pairs.csv, line 5: the text has (at least )?[\d,]+ tokens") as caught:
        evaluate(embedder, data)
    assert caught.value.input_index is None
    with pytest.warns(TruncationWarning):
        report = evaluate(embedder, data, truncate=True, bootstrap=FAST)
    assert report.notes[0] == "1 of 6 texts were cut to 128 tokens."
    assert "There are only 3 pairs, so the intervals are rough." in report.notes
    searched = Retrieval({"q1": "a"}, {"d1": "b", "d2": long}, {"q1": {"d1": 1}}, source="corpus")
    with pytest.raises(InputTooLong, match="corpus, document 'd2': the text has"):
        evaluate(embedder, searched, cutoffs=[1])


@pytest.mark.parametrize(
    ("kind", "options", "error", "words"),
    [
        ("pairs", {"dimensions": [95]}, InvalidDimensions, "dimensions=95 is not possible with gemma3_text.*96"),
        ("pairs", {"storage": ["int7"]}, UnsupportedOption, "storage=int7 .*Did you mean 'int8'"),
        ("pairs", {"storage": ["binary+int8"]}, UnsupportedOption, "pairs are not searched. Use binary"),
        ("pairs", {"task": "sing"}, InvalidTask, "sing"),
        ("pairs", {"query_task": "query"}, UnsupportedOption, "query_task=query is for queries, and pairs has pairs"),
        ("pairs", {"cutoffs": [5]}, UnsupportedOption, "cutoffs=.* is for queries"),
        ("pairs", {"titles": "text"}, UnsupportedOption, "titles=text is for queries"),
        ("retrieval", {"task": "query"}, UnsupportedOption, "task=query is for pairs, and queries has queries"),
        ("retrieval", {"titles": "txt"}, UnsupportedOption, "titles=txt is unknown. Did you mean 'text'"),
        ("retrieval", {"oversample": 0}, UnsupportedOption, "oversample=0 is not possible"),
        ("retrieval", {"cutoffs": [0, 5]}, UnsupportedOption, "is not possible. Give numbers from 1"),
        ("retrieval", {"cutoffs": [40, 50]}, UnsupportedOption, "There are only 40 documents.*--corpus"),
    ],
)
def test_options_that_do_not_apply_are_refused_before_texts_are_embedded(
    embedder, request, kind, options, error, words, monkeypatch
):
    if error is not InvalidTask:
        monkeypatch.setattr(TextEmbedder, "embed", lambda *given: pytest.fail("texts were embedded"))
    with pytest.raises(error, match=words) as caught:
        evaluate(embedder, request.getfixturevalue(kind), **options)
    assert isinstance(caught.value, EmbergemError)


def test_cutoffs_that_would_always_be_1_are_left_out_with_a_note(embedder, retrieval):
    report = evaluate(embedder, retrieval, storage=["float32"], bootstrap=FAST)
    assert list(report.full.values) == ["ndcg@10", "recall@10"]
    assert "recall@100 is left out: there are 40 documents, so it would always be 1." in report.notes
    assert report.candidates is None
