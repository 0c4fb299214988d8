"""Long texts are tokenized in pieces: the same ids as the library's for the whole text, in bounded memory."""

import json
import random
import subprocess
import sys
from functools import cache

import pytest
from goldens import DATA as GOLDENS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from embergem._native import CancelToken, TextPipeline
from embergem.errors import Cancelled, InputTooLong

PIECE = 16 * 1024

WORDS = [
    ".", " ", "a", "中", "\n", "\t", "\r\n", "\r", "'s", "don't", "the", "Straße", "e\u0301", "\u0301", "\u0327\u0301",
    "\u034f", "\u302e", "\u200d", "\u200b", "\u00a0", "\u3000", "\u2028", "▁", "▁▁",
    "👩‍👩‍👧‍👦", "🇺🇦", "👍🏽", "が", "か\u3099", "한국어",
    "\u1112\u1161\u11ab", "ﬁ", "½", "´", "``", "''", "\0", "\x7f", "\ufffd", "\U0010ffff", "\u0600", "हिन्दी", "ไทย",
    "العربية", "123", "4567890", "x" * 120, "É" * 150, "  ", "!?", "—", "。", "İ", "ΑΣ", "<0x41>",
]  # fmt: skip
"""Parts of texts at whose borders a normalizer or a pre-tokenizer may join characters."""


def adversarial(seed, size, special):
    """A text of about `size` bytes in which some parts repeat."""
    choose = random.Random(seed)
    parts, length = [], 0
    few = choose.sample(WORDS + special, choose.randint(1, 6))
    while length < size:
        part = choose.choice(few if choose.random() < 0.8 else WORDS + special)
        if choose.random() < 0.2:
            code = choose.randrange(0x110000)
            part += chr(code) if not 0xD800 <= code < 0xE000 else "?"
        part *= choose.choice([1, 1, 1, 2, 30, choose.choice([1, 3000])])
        parts.append(part)
        length += len(part.encode())
    return "".join(parts)


def normalizers(*parts):
    return {"normalizer": {"type": "Sequence", "normalizers": list(parts)}}


def replace(pattern, content):
    return {"type": "Replace", "pattern": pattern, "content": content}


def metaspace(scheme, split):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}


STRIP = {"type": "Strip", "strip_left": True, "strip_right": True}

VARIANTS = {
    "albert": normalizers(
        replace({"String": "``"}, '"'),
        replace({"String": "''"}, '"'),
        {"type": "NFKD"},
        {"type": "StripAccents"},
        {"type": "Lowercase"},
        replace({"Regex": " {2,}"}, " "),
    ),
    "rstrip_spaces": normalizers({"type": "NFKC"}, STRIP | {"strip_left": False}, replace({"Regex": " {2,}"}, "▁")),
    "strip": normalizers({"type": "Nmt"}, {"type": "NFKC"}, STRIP),
    "white_space": {
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace("always", True)]}
    },
    "first": {"pre_tokenizer": metaspace("first", True)},
    "unsplit": {"normalizer": None, "pre_tokenizer": metaspace("always", False)},
    "unsplit_first": {"normalizer": None, "pre_tokenizer": metaspace("first", False)},
}
"""Parts of other models' files, to put in the file of a golden."""

FLAGS = ["lstrip", "rstrip", "single_word", "normalized"]


@cache
def pair(name, directory):
    """The pipeline and the library's tokenizer of a golden or a variant."""
    golden, *changes = name.split("+")
    path = GOLDENS / golden / "tokenizer.json"
    if changes:
        content = json.loads(path.read_text())
        for change in changes:
            if change in FLAGS:
                token = {"id": 300, "content": "the", "special": False} | {flag: flag == change for flag in FLAGS}
                content["added_tokens"].append(token)
            else:
                content |= VARIANTS[change]
        path = directory / f"{name}.json"
        path.write_text(json.dumps(content))
    library = Tokenizer.from_file(str(path))
    library.no_truncation()
    library.no_padding()
    return TextPipeline(str(path), limit=1000, vocab_size=1 << 20), library


KINDS = ["bert_mean", "distilbert", "gemma3_text", "llama", "mistral", "qwen2", "qwen3", "roberta_mean", "xlm_roberta"]
"""Goldens with different normalizers, pre-tokenizers or models; the others have one of these with other tokens."""

NAMES = [
    *KINDS, "static", "mpnet",
    *(f"xlm_roberta+{variant}" for variant in ("albert", "rstrip_spaces", "strip", "white_space", "first")),
    *(f"mistral+{variant}" for variant in ("unsplit", "unsplit_first")),
    *(f"{golden}+{flag}" for golden in ("bert_mean", "xlm_roberta", "mistral") for flag in FLAGS),
]  # fmt: skip


def test_the_kinds_of_tokenizers_are_all_in_the_goldens():
    def kind(name):
        content = json.loads((GOLDENS / name / "tokenizer.json").read_text())
        model = {key: value for key, value in content["model"].items() if key not in ("vocab", "merges", "unk_id")}
        model = {key: value or None for key, value in model.items()}
        return json.dumps([model, content["normalizer"], content["pre_tokenizer"]], sort_keys=True)

    known = set(map(kind, KINDS))
    assert [path.parent.name for path in GOLDENS.glob("*/tokenizer.json") if kind(path.parent.name) not in known] == []


@pytest.mark.parametrize("name", NAMES)
def test_pieces_have_the_ids_of_the_whole_text(name, tmp_path_factory):
    ours, library = pair(name, tmp_path_factory.getbasetemp())
    special = [token.content for token in library.get_added_tokens_decoder().values()][:8]
    special += [part for token in special for part in (token[:-1], token[1:], token + " ", " " + token)]
    for seed in range(4):
        text = adversarial(f"{name} {seed}", 5 * PIECE // 2, special)
        expected = library.encode(text, add_special_tokens=False).ids
        assert ours.tokenize(text, special=False) == expected, (name, seed)


@pytest.mark.parametrize("name", NAMES)
def test_short_texts_have_the_ids_of_the_library(name, tmp_path_factory):
    """Most BPE models are encoded without the library, and the others with it."""
    directory = tmp_path_factory.getbasetemp()
    ours, library = pair(name, directory)
    golden, *changes = name.split("+")
    path = directory / f"{name}.json" if changes else GOLDENS / golden / "tokenizer.json"
    for _ in range(2):  # the first one stores the tokenizer
        stored = TextPipeline(str(path), limit=1000, vocab_size=1 << 20, cache=str(directory / "tokenizers"))
    special = [token.content for token in library.get_added_tokens_decoder().values()][:8]
    special += [part for token in special for part in (token[:-1], token[1:], token + " ", " " + token)]
    for seed in range(300):
        text = adversarial(f"{name} short {seed}", seed, special)[: 2 * seed]
        expected = library.encode(text, add_special_tokens=False).ids
        assert ours.tokenize(text, special=False) == expected, (name, seed)
        assert stored.tokenize(text, special=False) == expected, (name, seed)


REPEATED = [
    ".", "a", "ab", "中", " ", "\n", "\u0301", "e\u0301", "👩\u200d👩\u200d👧", "\u200d", "ab ", "ไทย", "7", "é",
    "\u00a0 ", "a's", "▁", "<eos>", "[SEP]", "</s>",
]  # fmt: skip
"""Texts of nothing but these have no place to cut for most tokenizers, or only such places."""


@pytest.mark.parametrize("name", [*KINDS, "xlm_roberta+rstrip_spaces", "mistral+unsplit_first"])
def test_repeated_words_have_the_ids_of_the_library(name, tmp_path_factory):
    ours, library = pair(name, tmp_path_factory.getbasetemp())
    for word in REPEATED:
        text = "The " + word * (5 * PIECE // 2 // len(word.encode())) + " end"
        expected = library.encode(text, add_special_tokens=False).ids
        assert ours.tokenize(text, special=False) == expected, word


WORD = st.text(st.sampled_from("aabetn.7é中▁\u0301\u200d👩'-") | st.characters(codec="utf-8"), min_size=1, max_size=12)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(parts=st.lists(st.tuples(WORD, st.integers(1, 4000)), min_size=1, max_size=4))
def test_long_words_have_the_ids_of_the_library(name, tmp_path_factory, parts):
    ours, library = pair(name, tmp_path_factory.getbasetemp())
    text = "".join(word * count for word, count in parts)
    text *= 1 + 2 * PIECE // len(text.encode())
    assert ours.tokenize(text, special=False) == library.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("name", [*KINDS, "mistral+unsplit_first"])
def test_a_truncated_row_has_the_first_ids_and_the_full_length_if_it_is_counted(name, tmp_path_factory):
    ours, library = pair(name, tmp_path_factory.getbasetemp())
    text = "What is graphene? " * 5000
    expected = library.encode(text)
    ((ids, length),) = ours.prepare([text], truncate=True, count=True)
    assert length == len(expected.ids)
    assert len(ids) == 1000
    assert list(ids[1:900]) == expected.ids[1:900]
    ((cut, length),) = ours.prepare([text], truncate=True)
    assert cut.tolist() == ids.tolist()
    assert 1000 < length <= len(expected.ids)
    with pytest.raises(InputTooLong, match="at least"):
        ours.prepare([text])


@pytest.mark.parametrize("name", KINDS)
def test_a_text_that_is_cut_is_not_read_to_its_end(name, tmp_path_factory):
    """10 MB cost as much as 10 kB: the number of tokens that were read shows where reading stopped."""
    ours, _ = pair(name, tmp_path_factory.getbasetemp())
    ((_, of_10_kb),) = ours.prepare(["What is graphene? " * 550], truncate=True, count=True)
    ((_, of_10_mb),) = ours.prepare(["What is graphene? " * 550_000], truncate=True)
    assert of_10_mb <= 1.7 * of_10_kb


def test_the_title_of_a_long_text_may_be_long():
    path = GOLDENS / "gemma3_text" / "tokenizer.json"
    ours = TextPipeline(str(path), limit=1000, vocab_size=1 << 20, builtin_prompts="embeddinggemma")
    title, text = "Graphene " * 4000, "is a material. " * 3000
    (whole,) = ours.prepare([f"title: {title} | text: {text}"], truncate=True, count=True)
    (found,) = ours.prepare([text], task="document", titles=[title], truncate=True, count=True)
    assert (found[0].tolist(), found[1]) == (whole[0].tolist(), whole[1])


@pytest.mark.parametrize("text", ["word " * 5000, "a" * (5 * PIECE)])
@pytest.mark.parametrize("name", ["bert_mean", "qwen3", "xlm_roberta"])
def test_a_cancelled_text_is_not_tokenized_to_its_end(name, text, tmp_path_factory):
    ours, _ = pair(name, tmp_path_factory.getbasetemp())
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled, match="tokenized"):
        ours.prepare([text], truncate=True, count=True, cancel=token)


MEASURE = """
import sys
from embergem._native import TextPipeline

def peak():
    # Not ru_maxrss, which begins with that of the parent process.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

path, size, *words = sys.argv[1:]
ours = TextPipeline(path, limit=512, vocab_size=1 << 20)
ours.prepare(["a text"])
texts = [word * (int(size) // len(word.encode())) for word in words]
idle = peak()
for word, text in zip(words, texts):
    ours.prepare([text], truncate=True, count=True)
    print(ascii(word), peak() - idle)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
@pytest.mark.parametrize("name", KINDS)
def test_memory_is_bounded_by_the_text(name):
    size = 2 << 20
    words = [".", "a", "中", "\u0301", "👍", "ﷺ"]  # NFKC makes eleven bytes of each byte of the last one
    command = [sys.executable, "-c", MEASURE, str(GOLDENS / name / "tokenizer.json"), str(size), *words]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    peaks = [int(line.split()[-1]) for line in found.splitlines()]
    assert len(peaks) == len(words)
    assert max(peaks) <= (32 << 20) + 16 * size, found
