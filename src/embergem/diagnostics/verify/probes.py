"""The texts that both engines embed.

Separate because the command makes the texts before the other engine is started with them.
"""

from dataclasses import dataclass

from embergem._native import TextPipeline

_SENTENCE = (
    "Graphene is a single layer of carbon atoms, and nobody had expected it to be stable; 石墨烯 was a surprise. "
)
LONG_TOKENS = 600
"""More tokens than the window has, and more than 512, where servers often truncate silently."""
LONGEST_TOKENS = 2000
LONGEST_LIMIT = 2048
"""Limit up to which a probe goes over it. Many servers refuse such a text, and those that truncate it show how."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A text, and the name of the property that it tests."""

    name: str
    text: str


def make_probes(text: TextPipeline, limit: int, radius: int | None) -> list[Probe]:
    """Make the texts for a model that reads at most `limit` tokens and whose window reaches `radius` tokens."""
    probes = [
        Probe("empty", ""),
        Probe("short", "What is graphene?"),
        Probe("word", "a"),
        Probe("capitals", "NATO and the EU met in Paris"),
        Probe("scripts", "Русский язык; हिन्दी; العربية; 한국어; ไทย; 東京"),
        Probe("code", "def f(x):\n    return x ** 2  # squared"),
        Probe("emoji", "🦆 and 👩‍👩‍👧 like é and e\u0301"),
        Probe("accents", "Crème brûlée à la façon de l'Élysée"),
        Probe("special token", "padded with <pad> and [PAD] in the middle of a text"),
        Probe("spaces", "  two  spaces\tand a tab "),
        Probe("prompt", "task: search result | query: What is graphene?"),
    ]
    lengths = {"sentences": min(60, limit - 8)}
    if radius is not None:
        lengths["past the window"] = min(radius + radius // 2 + 8, limit - 8)
    lengths |= {"long": min(LONG_TOKENS, limit - 8), "longest": min(LONGEST_TOKENS, limit - 8)}
    if limit <= LONGEST_LIMIT:
        lengths["over the limit"] = limit + 32
    used: set[int] = set()
    for name, length in lengths.items():
        if length > 0 and length not in used:
            probes.append(Probe(name, text_of_length(text, length)))
            used.add(length)
    return probes


def text_of_length(text: TextPipeline, tokens: int) -> str:
    """Return sentences that have as many tokens as possible, and at most `tokens`."""
    [(_, sample)] = text.prepare([_SENTENCE * 4], truncate=True)
    words = (_SENTENCE * (4 * tokens // max(sample, 1) + 4)).split(" ")
    low, high = 1, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        [(_, length)] = text.prepare([" ".join(words[:middle])], truncate=True)
        low, high = (middle, high) if length <= tokens else (low, middle - 1)
    return " ".join(words[:low])
