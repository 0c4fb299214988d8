"""Faults that an embedding engine may have, each with a way to compute the vectors that it would then give."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from embergem.diagnostics.verify.local import LocalModel
from embergem.models.head import Dense, Pooling
from embergem.program.build import build
from embergem.types import Ids

COMMON_LIMITS = (32, 64, 128, 256, 384, 510, 512, 1024, 2048, 4096)
"""Lengths in tokens at which engines often truncate texts silently."""

Tokenize = Callable[[Sequence[str]], list[Ids]]


@dataclass(frozen=True, slots=True)
class ProgramFault:
    """The engine runs another program (`program`, as JSON), or computes in another arithmetic (`dtype`)."""

    cause: str
    description: str
    program: str
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class TokenFault:
    """The engine reads other tokens: those that `rows` returns for texts."""

    cause: str
    description: str
    rows: Tokenize


def program_faults(model: LocalModel, dtypes: Sequence[str]) -> Iterator[ProgramFault]:
    """Yield the programs that a faulty engine may run. `dtypes` are arithmetics to try besides float32."""
    if any(isinstance(module, Dense) for module in model.head):
        head = [module for module in model.head if not isinstance(module, Dense)]
        program = build(model.architecture, head).to_json()
        yield ProgramFault("dense", "without the dense layers after pooling", program)
    for mode in ("mean", "cls", "last", "max"):
        other = [Pooling(mode) if isinstance(module, Pooling) else module for module in model.head]
        if tuple(other) != tuple(model.head):
            yield ProgramFault("pooling", f"with {mode} pooling", build(model.architecture, other).to_json())
    if model.radius is not None:
        yield from _window_faults(model, model.radius)
    attention = [step for step in model.program.steps if step.op == "attention"]
    causal = bool(attention and attention[0].parameters["causal"])
    description = "without the causal mask" if causal else "with a causal mask, as an old transformers runs it"
    if attention:
        program = model.with_attention(lambda parameters: parameters | {"causal": not causal}).to_json()
        yield ProgramFault("attention", description, program)
    for dtype in dtypes:
        yield ProgramFault("dtype", f"in {dtype}", model.program.to_json(), dtype)


def _window_faults(model: LocalModel, radius: int) -> Iterator[ProgramFault]:
    def windowed(other: int | None) -> str:
        return model.with_attention(lambda p: p | {"radius": other} if p.get("radius") is not None else p).to_json()

    yield ProgramFault("window", "without a sliding window: every layer attends to the whole text", windowed(None))
    for other, reason in (
        (radius * 2, "the stored window is taken as the reach in each direction"),
        (radius - 1, "the window is one token too small on each side"),
        (radius + 1, "the window is one token too large on each side"),
        (radius // 2, "the window was halved, as by saving the config with an older transformers"),
        (radius // 4, "the window was halved twice"),
    ):
        if other > 0:
            yield ProgramFault("window", f"with a window of {other} tokens each way: {reason}", windowed(other))


def token_faults(model: LocalModel, counts: Sequence[int]) -> Iterator[TokenFault]:
    """Yield the tokens that a faulty engine may read. `counts` are numbers of tokens that the other engine reported."""
    rows = model.rows
    known: set[tuple[int, ...]] = {tuple(rows(["x"])[0].tolist())}
    for task in model.text.tasks:
        prompted = tuple(rows(["x"], task)[0].tolist())
        if prompted not in known:
            known.add(prompted)
            description = f"with the prompt of the task {task!r} before every text"
            yield TokenFault("prompt", description, _with_task(model, task))
    for prefix in ("query: ", "passage: ", "search_query: ", "search_document: "):
        yield TokenFault("prompt", f"with {prefix!r} before every text", _with_prefix(model, prefix))
    for size in sorted({*COMMON_LIMITS, *counts} - {0}):
        if size < model.limit:
            yield TokenFault("truncation", f"with texts cut to {size} tokens", _truncated(model, size, True))
            description = f"with texts cut to {size} tokens and the closing token cut off, too"
            yield TokenFault("truncation", description, _truncated(model, size, False))
    special_tokens = len(rows([""])[0])
    if special_tokens > 1:
        yield TokenFault("tokenizer", "without the opening special token", lambda t: [row[1:] for row in rows(t)])
    if special_tokens > 0:
        yield TokenFault("tokenizer", "without the closing special token", lambda t: [row[:-1] for row in rows(t)])
        yield TokenFault(
            "tokenizer", "with the opening special token twice",
            lambda t: [np.concatenate([row[:1], row]) for row in rows(t)],
        )  # fmt: skip
    if special_tokens > 1:
        yield TokenFault("tokenizer", "without special tokens", lambda t: [row[1:-1] for row in rows(t)])
    yield TokenFault("tokenizer", "with texts in lower case", lambda t: rows([text.lower() for text in t]))
    yield TokenFault("tokenizer", "with spaces around texts removed", lambda t: rows([text.strip() for text in t]))
    yield TokenFault("tokenizer", "with a space before texts", lambda t: rows([" " + text for text in t]))


def _with_task(model: LocalModel, task: str) -> Tokenize:
    return lambda texts: model.rows(texts, task)


def _with_prefix(model: LocalModel, prefix: str) -> Tokenize:
    return lambda texts: model.rows([prefix + text for text in texts])


def _truncated(model: LocalModel, size: int, keep_closing: bool) -> Tokenize:
    def truncated(row: Ids) -> Ids:
        if len(row) <= size:
            return row
        return np.concatenate([row[: size - 1], row[-1:]]) if keep_closing else row[:size]

    return lambda texts: [truncated(row) for row in model.rows(texts)]
