"""The texts that both sides embed."""

from dataclasses import dataclass

from embergem._native import TextPipeline

_SENTENCE = (
    "Graphene is a single layer of carbon atoms, and nobody had expected it to be stable; 石墨烯 was a surprise. "
)
LONG = 600
"""Tokens that are past the window and past the usual silent cut at 512."""
LONGEST = 2000


@dataclass(frozen=True, slots=True)
class Probe:
    """A text and what it is there to find out."""

    name: str
    text: str


def probes(text: TextPipeline, limit: int, reach: int | None) -> list[Probe]:
    """Make the texts for a model: `reach` is how far its window sees, `limit` the most tokens it reads."""
    found = [
        Probe("empty", ""),
        Probe("short", "What is graphene?"),
        Probe("word", "a"),
        Probe("capitals", "NATO and the EU met in Paris"),
        Probe("scripts", "Русский язык; हिन्दी; العربية; 한국어; ไทย; 東京"),
        Probe("code", "def f(x):\n    return x ** 2  # squared"),
        Probe("emoji", "🦆 and 👩‍👩‍👧 like é and e\u0301"),
        Probe("spaces", "  two  spaces\tand a tab "),
        Probe("prompt", "task: search result | query: What is graphene?"),
    ]
    targets = {"sentences": min(60, limit - 8)}
    if reach is not None:
        targets["past the window"] = min(reach + reach // 2 + 8, limit - 8)
    targets |= {"long": min(LONG, limit - 8), "longest": min(LONGEST, limit - 8)}
    done: set[int] = set()
    for name, target in targets.items():
        if target > 0 and target not in done:
            found.append(Probe(name, of_length(text, target)))
            done.add(target)
    return found


def of_length(text: TextPipeline, target: int) -> str:
    """Return sentences of about `target` tokens, and not more."""
    [(_, each)] = text.prepare([_SENTENCE * 4], truncate=True)
    words = (_SENTENCE * (4 * target // max(each, 1) + 4)).split(" ")
    low, high = 1, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        [(_, length)] = text.prepare([" ".join(words[:middle])], truncate=True)
        low, high = (middle, high) if length <= target else (low, middle - 1)
    return " ".join(words[:low])
