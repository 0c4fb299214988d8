"""Long texts are tokenized in pieces: the same ids as the library's for the whole text, in bounded memory."""

import json
import random
import subprocess
import sys
from functools import cache

import pytest
from goldens import DATA as GOLDENS
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


VARIANTS = {
    "albert": {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Replace", "pattern": {"String": "``"}, "content": '"'},
                {"type": "Replace", "pattern": {"String": "''"}, "content": '"'},
                {"type": "NFKD"},
                {"type": "StripAccents"},
                {"type": "Lowercase"},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
            ],
        }
    },
    "white_space": {
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "WhitespaceSplit"},
                {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
            ],
        }
    },
    "first": {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}},
}
"""Parts of other models' files, to put in the file of the golden xlm_roberta."""

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


NAMES = [
    "bert_mean", "static", "gemma3_text", "xlm_roberta", "mpnet", "qwen3",
    *(f"xlm_roberta+{variant}" for variant in VARIANTS),
    *(f"{golden}+{flag}" for golden in ("bert_mean", "qwen3", "xlm_roberta", "gemma3_text") for flag in FLAGS),
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_pieces_have_the_ids_of_the_whole_text(name, tmp_path_factory):
    ours, library = pair(name, tmp_path_factory.getbasetemp())
    special = [token.content for token in library.get_added_tokens_decoder().values()][:8]
    special += [part for token in special for part in (token[:-1], token[1:], token + " ", " " + token)]
    for seed in range(12):
        text = adversarial(f"{name} {seed}", 3 * PIECE, special)
        expected = library.encode(text, add_special_tokens=False).ids
        assert ours.tokenize(text, special=False) == expected, (name, seed)


@pytest.mark.parametrize("name", ["bert_mean", "gemma3_text", "xlm_roberta", "qwen3"])
@pytest.mark.parametrize(
    "word", [".", "a", "中", " ", "\u0301", "e\u0301", "👍", "\u200d", "ab ", "\n", "[SEP]", "<eos>"]
)
def test_repeated_words_have_the_ids_of_the_library(name, word, tmp_path_factory):
    ours, library = pair(name, tmp_path_factory.getbasetemp())
    text = word * (2 * PIECE // len(word))
    assert ours.tokenize(text, special=False) == library.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("name", ["bert_mean", "gemma3_text", "xlm_roberta", "qwen3"])
def test_a_truncated_row_has_the_first_ids_and_the_full_length(name, tmp_path_factory):
    ours, library = pair(name, tmp_path_factory.getbasetemp())
    text = "What is graphene? " * 5000
    expected = library.encode(text)
    ((ids, length),) = ours.prepare([text], truncate=True)
    assert length == len(expected.ids)
    assert len(ids) == 1000
    assert list(ids[1:900]) == expected.ids[1:900]
    with pytest.raises(InputTooLong, match="at least"):
        ours.prepare([text])


def test_a_cancelled_text_is_not_tokenized_to_its_end(tmp_path_factory):
    ours, _ = pair("bert_mean", tmp_path_factory.getbasetemp())
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled, match="tokenized"):
        ours.prepare(["word " * 5000], truncate=True, cancel=token)


MEASURE = """
import resource, sys
from embergem._native import TextPipeline
path, word, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
ours = TextPipeline(path, limit=512, vocab_size=1 << 20)
ours.prepare(["a text"])
text = word * (size // len(word.encode()))
idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ours.prepare([text], truncate=True)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - idle) * 1024)
"""


def peak(name, word, size):
    """The memory above idle that tokenizing takes, in bytes, measured in a process of its own."""
    command = [sys.executable, "-c", MEASURE, str(GOLDENS / name / "tokenizer.json"), word, str(size)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)


@pytest.mark.parametrize(
    ("name", "word"),
    [(name, "a word ") for name in ("bert_mean", "gemma3_text", "xlm_roberta", "qwen3")]
    + [("bert_mean", word) for word in (".", "a", "中", "\u0301", "👍", "\t", "e\u0301")]
    + [("gemma3_text", word) for word in (".", "中", "\u0301")],
)
def test_memory_is_bounded_by_the_text(name, word):
    size = 2 << 20
    assert peak(name, word, size) <= (32 << 20) + 16 * size
