"""From text to ids: equal to the `tokenizers` library, prompts, limits, truncation, and invalid input."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from embergem._native import TextPipeline
from embergem.errors import (
    CorruptCheckpoint,
    EmptyInput,
    InputTooLong,
    InvalidRequest,
    InvalidTask,
    InvalidText,
    TokenOutOfRange,
    UnsupportedModel,
)

SCRIPTS = [
    "", " ", "  two  spaces ", "\ttab\n\nlines\r\n", "What is graphene?", "Ünïcödé — “quotes” …", "STRASSE Straße ﬁ",
    "e\u0301 é", "Ελληνικά γλώσσα", "Русский язык", "Українська", "עברית", "العربية", "فارسی", "اردو", "हिन्दी",
    "বাংলা", "தமிழ்", "తెలుగు", "ಕನ್ನಡ", "മലയാളം", "ไทย", "ລາວ", "မြန်မာ", "ខ្មែរ", "中文字符", "日本語テキスト",
    "ｶﾀｶﾅ", "한국어", "Tiếng Việt", "ქართული", "Հայերեն", "አማርኛ", "ᏣᎳᎩ", "ᓀᐦᐃᔭᐍᐏᐣ", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "🦆👩‍👩‍👧‍👦🇺🇦", "a\u200bb\u00adc\ufeffd",
    "nul\0byte", "<bos>in text<eos>", "[CLS] [SEP] [MASK]", "def f(x):\n    return x ** 2  # code",
    "3.14159e-10 1,000,000 ½ ٣", "supercalifragilisticexpialidocious" * 5,
    "x" * 300, "\U0010ffff\ue000", "a" * 5 + " " * 40 + "b",
]  # fmt: skip


def pair(path, limit=100_000, **options):
    library = Tokenizer.from_file(str(path))
    library.no_truncation()
    library.no_padding()
    return TextPipeline(str(path), limit=limit, vocab_size=library.get_vocab_size() + 100, **options), library


@pytest.fixture(scope="module", params=["minilm", "gemma", "tiny"])
def both(request, tiny):
    """Return embergem's pipeline and the library's tokenizer."""
    if request.param == "minilm":
        return pair(request.getfixturevalue("minilm") / "tokenizer.json")
    if request.param == "gemma":
        return pair(request.getfixturevalue("gemma_tokenizer"))
    return pair(tiny / "tokenizer.json")


@pytest.fixture(scope="module")
def gemma(gemma_tokenizer):
    return TextPipeline(str(gemma_tokenizer), limit=2048, vocab_size=262144, builtin_prompts="embeddinggemma")


@pytest.fixture(scope="module")
def small(tiny):
    return TextPipeline(str(tiny / "tokenizer.json"), limit=16, vocab_size=2048, builtin_prompts="embeddinggemma")


def ids_of(pipeline, text, **options):
    [(ids, _)] = pipeline.prepare([text], **options)
    return ids.tolist()


def test_ids_are_the_librarys_in_every_script(both):
    ours, library = both
    texts = SCRIPTS + [f"{a} {b}" for a, b in itertools.pairwise(SCRIPTS)] + ["\n".join(SCRIPTS)]
    for text, (ids, length) in zip(texts, ours.prepare(texts), strict=True):
        expected = library.encode(text).ids
        assert ids.tolist() == expected, text
        assert ids.dtype == np.uint32
        assert length == len(expected)


@given(st.text(max_size=60))
@example("\0")
@settings(max_examples=200, deadline=None, derandomize=True)
def test_ids_are_the_librarys_for_any_text(both, text):
    ours, library = both
    assert ids_of(ours, text) == library.encode(text).ids


def test_tokenize_and_detokenize_agree_with_the_library(both):
    ours, library = both
    for text in SCRIPTS:
        ids = library.encode(text).ids
        assert ours.tokenize(text) == ids
        assert ours.tokenize(text, special=False) == library.encode(text, add_special_tokens=False).ids
        for skip in (True, False):
            assert ours.detokenize(ids, skip_special=skip) == library.decode(ids, skip_special_tokens=skip), text


def test_known_ids_of_the_real_tokenizer(gemma):
    assert ids_of(gemma, "") == [2, 1]
    query = ids_of(gemma, "What is graphene?", task="query")
    assert query == ids_of(gemma, "task: search result | query: What is graphene?")
    assert query[0] == 2
    assert query[-1] == 1
    assert gemma.max_chars_per_token == 31


@pytest.mark.parametrize(
    ("task", "prompted"),
    [
        ("query", "task: search result | query: x"),
        ("retrieval_query", "task: search result | query: x"),
        ("document", "title: none | text: x"),
        ("retrieval_document", "title: none | text: x"),
        ("question_answering", "task: question answering | query: x"),
        ("fact_verification", "task: fact checking | query: x"),
        ("classification", "task: classification | query: x"),
        ("clustering", "task: clustering | query: x"),
        ("semantic_similarity", "task: sentence similarity | query: x"),
        ("code_retrieval", "task: code retrieval | query: x"),
    ],
)
def test_tasks(gemma, task, prompted):
    assert task in gemma.tasks
    assert ids_of(gemma, "x", task=task) == ids_of(gemma, prompted)


def test_titles(gemma):
    titles = ["Stones", None, "", "{title}"]
    rows = gemma.prepare(["x"] * 4, task="document", titles=titles)
    for (ids, _), title in zip(rows, ["Stones", "none", "none", "{title}"], strict=True):
        assert ids.tolist() == ids_of(gemma, f"title: {title} | text: x")


def test_prompts_of_the_checkpoint_take_precedence(tiny):
    prompts = json.dumps({"prompts": {"query": "find: ", "passage": "p: ", "mine": "m: "}})
    pipeline = TextPipeline(
        str(tiny / "tokenizer.json"), limit=64, vocab_size=2048, prompts=prompts, builtin_prompts="embeddinggemma"
    )
    for task, prefix in {"query": "find: ", "document": "p: ", "mine": "m: "}.items():
        assert ids_of(pipeline, "x", task=task) == ids_of(pipeline, f"{prefix}x")
    assert ids_of(pipeline, "x", task="clustering") == ids_of(pipeline, "task: clustering | query: x")


def test_a_truncated_text_keeps_its_special_tokens(small, tiny):
    library = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    text = "What is graphene? " * 20
    full = library.encode(text).ids
    [(ids, length)] = small.prepare([text], truncate=True)
    assert length == len(full)
    assert ids.tolist() == [*full[:15], full[-1]]


def test_truncated_ids_are_the_first_ones(small):
    [(ids, length)] = small.prepare_ids([list(range(5, 25))], truncate=True)
    assert (ids.tolist(), length) == (list(range(5, 21)), 20)


def test_the_error_for_a_long_input_names_length_and_limit(small):
    for prepare, inputs in ((small.prepare, ["a", "b " * 100]), (small.prepare_ids, [[5], [5] * 17])):
        with pytest.raises(InputTooLong, match=r"Input 1 has (at least )?\d+ tokens .* at most 16.*truncate=True"):
            prepare(inputs)


def test_a_text_far_above_the_limit_is_refused_without_tokenizing(gemma):
    with pytest.raises(InputTooLong, match="at least 32261 tokens"):
        gemma.prepare(["word" * 250_000])


@pytest.mark.parametrize("character", ["a", " ", "é", "中", "🦆", "\0", "\n"])
def test_megabytes_of_one_character_are_truncated(both, character):
    ours, library = both
    pipeline, _ = ours, library
    [(ids, _)] = pipeline.prepare([character * 1_000_000], truncate=True)
    assert len(ids) <= 100_000


@pytest.mark.parametrize(
    ("ids", "bad"), [([5, 2048], "2048"), ([-1], "-1"), ([2**32], "4294967296"), ([10**30], "1" + "0" * 30)]
)
def test_ids_outside_the_table(small, ids, bad):
    with pytest.raises(
        TokenOutOfRange, match=rf"token id {bad} at position \d, which is outside the model's table of 2048"
    ):
        small.prepare_ids([ids])


def test_image_token_of_the_real_tokenizer_is_outside_the_table(gemma):
    with pytest.raises(TokenOutOfRange, match="262144"):
        gemma.prepare_ids([[2, 262144, 1]])
    with pytest.raises(TokenOutOfRange, match="<image_soft_token>"):
        gemma.prepare(["look: <image_soft_token>"])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: p.prepare([]), EmptyInput, "no texts"),
        (lambda p: p.prepare_ids([]), EmptyInput, "no lists of token ids"),
        (lambda p: p.prepare_ids([[5], []]), EmptyInput, "Input 1"),
        (
            lambda p: p.prepare(["a", "b\ud800c"]),
            InvalidText,
            "Input 1 has .* at character 1 of its text",
        ),
        (lambda p: p.prepare(["a"], task="nonsense"), InvalidTask, "clustering"),
        (lambda p: p.prepare(["a"], task="quer\udfffy"), InvalidTask, "document"),
        (lambda p: p.prepare(["a"], titles=["T"]), InvalidTask, "document"),
        (lambda p: p.prepare(["a"], task="query", titles=["T"]), InvalidTask, "document"),
        (lambda p: p.prepare(["a"], task="document", titles=["T", "U"]), InvalidRequest, "2 titles for 1"),
        (lambda p: p.prepare("abc"), TypeError, "list of strings"),
        (lambda p: p.prepare([b"abc"]), TypeError, "Input 0 has a text of type bytes"),
        (lambda p: p.prepare_ids([[1.5]]), TypeError, "Input 0 has a value of type float at position 0"),
        (lambda p: p.prepare_ids([[True]]), TypeError, "bool"),
        (lambda p: p.prepare_ids(["12"]), TypeError, "list of token ids"),
        (lambda p: p.prepare_ids([np.ones((2, 2), dtype=np.int64)]), TypeError, "2 dimensions"),
    ],
)
def test_errors_name_the_invalid_input(small, call, error, message):
    with pytest.raises(error, match=message):
        call(small)


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda x: np.array(x, dtype=np.uint32), lambda x: range(5, 8)])
def test_ids_may_be_any_sequence(small, kind):
    [(ids, _)] = small.prepare_ids([kind([5, 6, 7])])
    assert ids.tolist() == [5, 6, 7]


def test_a_model_without_prompts_refuses_tasks(minilm):
    pipeline = TextPipeline(str(minilm / "tokenizer.json"), limit=256, vocab_size=30522)
    assert pipeline.tasks == []
    assert pipeline.max_chars_per_token is None
    with pytest.raises(InvalidTask, match="declares no prompts"):
        pipeline.prepare(["a"], task="query")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": 3}', '{"model": {"type": "BPE"}}', "\0" * 50])
def test_a_damaged_tokenizer_names_its_file(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(CorruptCheckpoint, match=r"tokenizer\.json"):
        TextPipeline(str(path), limit=16, vocab_size=16)


def test_a_limit_below_the_special_tokens_is_refused(tiny):
    with pytest.raises(UnsupportedModel, match="limit of 2 tokens"):
        TextPipeline(str(tiny / "tokenizer.json"), limit=2, vocab_size=2048)


def test_many_texts_keep_their_order(small):
    texts = [f"number {index % 37}" for index in range(5000)]
    alone = {text: ids_of(small, text) for text in set(texts)}
    assert [ids.tolist() for ids, _ in small.prepare(texts)] == [alone[text] for text in texts]


def test_a_tokenizer_that_changed_after_it_was_read_is_not_mixed_with_its_new_file(tiny, tmp_path):
    """The library reads the file when it is first needed, which may be long after the pipeline read it."""
    path = tmp_path / "tokenizer.json"
    content = (tiny / "tokenizer.json").read_text()
    path.write_text(content)
    before = TextPipeline(str(path), limit=16, vocab_size=2048, cache=str(tmp_path / "tokenizers"))
    ids = ids_of(before, "What is graphene?")
    path.write_text(content + " ")
    for use in (lambda: before.align(["a"]), lambda: before.detokenize(ids)):
        with pytest.raises(CorruptCheckpoint, match=r"tokenizer\.json.*changed"):
            use()
    assert ids_of(before, "What is graphene?") == ids
    path.write_text(content)
    assert before.detokenize(ids) == Tokenizer.from_file(str(path)).decode(ids)
    assert [token[0] for token in before.align(["What is graphene?"])[0][1]] == ids
