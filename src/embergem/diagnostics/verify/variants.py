"""What can be wrong with an embedding server, each as a way to compute what it would then answer."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from embergem.diagnostics.verify.ours import Ours
from embergem.models.head import Dense, Pooling
from embergem.program.build import build
from embergem.types import Ids

CUTS = (32, 64, 128, 256, 384, 510, 512, 1024, 2048, 4096)
"""Lengths at which texts are often cut without a word."""

Rows = Callable[[Sequence[str]], list[Ids]]


@dataclass(frozen=True, slots=True)
class Computed:
    """The other side runs another program, here as JSON, or in another arithmetic."""

    cause: str
    words: str
    program: str
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class Read:
    """The other side reads other tokens."""

    cause: str
    words: str
    rows: Rows


def computed(ours: Ours, dtypes: Sequence[str]) -> Iterator[Computed]:
    """Programs that a faulty engine runs."""
    if any(isinstance(module, Dense) for module in ours.head):
        bare = build(ours.kind, [module for module in ours.head if not isinstance(module, Dense)])
        yield Computed("dense", "without the dense layers after pooling", bare.to_json())
    for mode in ("mean", "cls", "last", "max"):
        head = [Pooling(mode) if isinstance(module, Pooling) else module for module in ours.head]
        if tuple(head) != tuple(ours.head):
            yield Computed("pooling", f"with {mode} pooling", build(ours.kind, head).to_json())
    if ours.radius is not None:
        yield from _windows(ours, ours.radius)
    attention = [step for step in ours.program.steps if step.op == "attention"]
    causal = bool(attention and attention[0].parameters["causal"])
    words = "without the causal mask" if causal else "with a causal mask, as an old transformers runs it"
    if attention:
        yield Computed("attention", words, ours.altered(lambda p: p | {"causal": not causal}).to_json())
    for dtype in dtypes:
        yield Computed("dtype", f"in {dtype}", ours.program.to_json(), dtype)


def _windows(ours: Ours, radius: int) -> Iterator[Computed]:
    def windowed(reach: int | None) -> str:
        return ours.altered(lambda p: p | {"radius": reach} if p.get("radius") is not None else p).to_json()

    yield Computed("window", "without a sliding window: every layer sees the whole text", windowed(None))
    for reach, why in (
        (radius * 2, "the stored window is taken as the reach in each direction"),
        (radius - 1, "the window is one token too small on each side"),
        (radius + 1, "the window is one token too large on each side"),
        (radius // 2, "the window was halved, as by saving the config with an older transformers"),
        (radius // 4, "the window was halved twice"),
    ):
        if reach > 0:
            yield Computed("window", f"with a window of {reach} tokens each way: {why}", windowed(reach))


def read(ours: Ours, counts: Sequence[int]) -> Iterator[Read]:
    """Tokens that a faulty engine reads; `counts` are numbers of tokens that the other side reported."""
    seen: set[tuple[int, ...]] = {tuple(ours.rows(["x"])[0].tolist())}
    for task in ours.text.tasks:
        marked = tuple(ours.rows(["x"], task)[0].tolist())
        if marked not in seen:
            seen.add(marked)
            yield Read("prompt", f"with the prompt of the task {task!r} put before every text", _prompted(ours, task))
    for prefix in ("query: ", "passage: ", "search_query: ", "search_document: "):
        yield Read("prompt", f"with {prefix!r} put before every text", _prefixed(ours, prefix))
    for size in sorted({*CUTS, *counts} - {0}):
        if size < ours.limit:
            yield Read("truncation", f"with texts cut to {size} tokens", _shortened(ours, size, True))
            words = f"with texts cut to {size} tokens and the closing token cut off, too"
            yield Read("truncation", words, _shortened(ours, size, False))
    empty = ours.rows([""])[0]
    if len(empty) > 1:
        yield Read("tokenizer", "without the opening special token", lambda t: [row[1:] for row in ours.rows(t)])
    if len(empty) > 0:
        yield Read("tokenizer", "without the closing special token", lambda t: [row[:-1] for row in ours.rows(t)])
        yield Read(
            "tokenizer", "with the opening special token twice",
            lambda t: [np.concatenate([row[:1], row]) for row in ours.rows(t)],
        )  # fmt: skip
    if len(empty) > 1:
        yield Read("tokenizer", "without special tokens", lambda t: [row[1:-1] for row in ours.rows(t)])
    yield Read("tokenizer", "with texts in lower case", lambda t: ours.rows([text.lower() for text in t]))
    yield Read("tokenizer", "with spaces around texts removed", lambda t: ours.rows([text.strip() for text in t]))
    yield Read("tokenizer", "with a space put before texts", lambda t: ours.rows([" " + text for text in t]))


def _prompted(ours: Ours, task: str) -> Rows:
    return lambda texts: ours.rows(texts, task)


def _prefixed(ours: Ours, prefix: str) -> Rows:
    return lambda texts: ours.rows([prefix + text for text in texts])


def _shortened(ours: Ours, size: int, keep_closing: bool) -> Rows:
    return lambda texts: _cut(ours.rows(texts), size, keep_closing)


def _cut(rows: Sequence[Ids], size: int, keep_closing: bool) -> list[Ids]:
    def cut(row: Ids) -> Ids:
        if len(row) <= size:
            return row
        return np.concatenate([row[: size - 1], row[-1:]]) if keep_closing else row[:size]

    return [cut(row) for row in rows]
