"""`return_tokens` of `/v1/tokenize`: the exact string after the prompt, and the position of each token in it."""

import pytest
from goldens import DATA, copy_model, edit

from embergem.engine.engine import ALIGNED_CHARACTERS
from embergem.loader import load
from embergem.options import LoadOptions
from embergem.types import Request

TEXTS = ["What is graphene?", "", "  two  spaces ", "Ünïcödé, 東京\nand 🦆👩‍👩‍👧", "graphene " * 400]
GOLDENS = ["bert_mean", "gemma3_text", "modernbert", "mpnet", "qwen3", "static", "t5", "xlm_roberta"]


def tokens(http, **body):
    answer = http.post("/v1/tokenize", json={"return_tokens": True, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("name", GOLDENS)
def test_kept_tokens_are_the_ids_that_the_model_reads(name):
    with load(LoadOptions(model=str(DATA / name))) as engine:
        request = Request(texts=TEXTS, truncate=True)
        rows = engine.prepare(request, count=True)
        for text, row, (exact, aligned) in zip(TEXTS, rows, engine.align(request), strict=True):
            assert exact == text
            assert [token.id for token in aligned if token.kept] == row.ids.tolist()
            spans = [token.span for token in aligned if token.span is not None]
            assert all(0 <= start <= end <= len(text) for start, end in spans)
            assert spans == sorted(spans)
            if name != "static":  # it has no special tokens, and leaves unknown tokens out
                assert len(aligned) == row.length


def test_a_tokenizer_that_keeps_the_end_cuts_the_beginning(tmp_path):
    directory = copy_model("bert_mean", tmp_path / "left")
    truncation = {"direction": "Left", "max_length": 64, "strategy": "LongestFirst", "stride": 0}
    edit(directory / "tokenizer.json", truncation=truncation)
    with load(LoadOptions(model=str(directory))) as engine:
        request = Request(texts=["one two three " * 100 + "graphene"], truncate=True)
        [row], [(_, aligned)] = engine.prepare(request, count=True), engine.align(request)
        assert [token.id for token in aligned if token.kept] == row.ids.tolist()
        assert [token.kept for token in aligned[:3]] == [True, False, False]
        assert all(token.kept for token in aligned[-5:])


def test_positions_are_characters_of_the_text_with_its_prompt(http):
    found = tokens(http, input=["a 🦆 b"], task="document", title=["🦆"])["data"][0]
    assert found["text"] == "title: 🦆 | text: a 🦆 b"
    assert found["count"] == len(found["tokens"])
    spans = dict.fromkeys((token["start"], token["end"]) for token in found["tokens"] if token["start"] is not None)
    assert "".join(found["text"][start:end] for start, end in spans) == found["text"]
    bytes_of_a_duck = [token["token"] for token in found["tokens"] if token["start"] == found["text"].rindex("🦆")]
    assert bytes_of_a_duck == ["<0xF0>", "<0x9F>", "<0xA6>", "<0x86>"]
    special = [token["token"] for token in found["tokens"] if token["start"] is None]
    assert special == ["<bos>", "<eos>"]


def test_tokens_beyond_the_limit_are_not_kept(http):
    answer = tokens(http, input=["graphene " * 500])
    found = answer["data"][0]
    kept = [token["kept"] for token in found["tokens"]]
    assert sum(kept) == answer["max_tokens"] == len(found["ids"])
    assert len(kept) == found["count"] > answer["max_tokens"]
    first_cut = kept.index(False)
    assert kept == [True] * first_cut + [False] * (len(kept) - first_cut - 1) + [True]  # the last is <eos>


def test_a_prefix_is_a_part_of_the_text(http):
    assert tokens(http, input=["a"], prompt="größe: ")["data"][0]["text"] == "größe: a"


def test_without_return_tokens_there_are_none(http):
    item = http.post("/v1/tokenize", json={"input": ["a"]}).json()["data"][0]
    assert set(item) == {"index", "ids", "count", "truncated"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"input": [[5, 6]]}, "needs texts"),
        ({"input": ["a" * (ALIGNED_CHARACTERS + 1)]}, "The texts have 65,537 characters"),
        ({"input": ["a" * 40_000] * 2}, "The texts have 80,000 characters"),
        ({"input": ["a" * 65_536], "title": ["b"], "task": "document"}, "The texts have 65,537 characters"),
    ],
)
def test_what_cannot_be_aligned_is_refused(http, body, words):
    answer = http.post("/v1/tokenize", json={"return_tokens": True, **body})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert words in error["message"]
    assert error["param"] == "return_tokens"


def test_the_most_characters_are_accepted(http):
    text = "graphene " * (ALIGNED_CHARACTERS // 9)
    assert len(tokens(http, input=[text])["data"][0]["tokens"]) > ALIGNED_CHARACTERS // 9
