"""Faults that an embedding engine may have, each with a way to compute the vectors that it would then give."""

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from embergem.diagnostics.verify.local import LocalModel
from embergem.models.head import Dense, Module, Pooling
from embergem.ops import Pooling as PoolingMode
from embergem.ops.trace import Recorded
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


@dataclass(frozen=True, slots=True)
class Alteration:
    """A part of config.json, or a tensor, that engines are known to ignore.

    Attributes:
        cause, description: As for a fault.
        op: The operation whose calls change; see `embergem.ops.Operations`.
        parameters: New values of its arguments; None stands for an argument that is left out.
        without: A tensor that the calls are made without.
    """

    cause: str
    description: str
    op: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    without: str | None = None

    def __call__(self, call: Recorded) -> Recorded:
        """Return the call as the faulty engine makes it."""
        parameters = {
            name: value for name, value in {**call.parameters, **self.parameters}.items() if value is not None
        }
        weights = {role: spec for role, spec in call.weights.items() if role != self.without}
        return replace(call, parameters=parameters, weights=weights)


ALTERATIONS = (
    Alteration("attention", "without the causal mask", "attention", {"causal": False}),
    Alteration("attention", "with a causal mask, as an old transformers runs it", "attention", {"causal": True}),
    Alteration("positions", "with padding tokens counted as positions", "embed", {"padding": None}),
    Alteration(
        "positions", "with positions from the first row of their table, not from that after the padding token",
        "embed", {"offset": 0, "padding": None},
    ),
    Alteration("positions", "without the relative position biases", "attention", {"furthest": None}, without="bias"),
    Alteration("positions", "with relative positions up to 128 tokens by default", "attention", {"furthest": None}),
    Alteration("rope", "without the scaling of the rotary positions", "rope", {"llama3": None, "linear": None}),
    Alteration("rope", "with the rotary base 10,000 by default", "rope", {"theta": 10_000.0}),
    Alteration("weights", "without the weights of the tokens", "embed", without="weights"),
)  # fmt: skip
"""Alterations that a faulty engine may make. Those that change nothing about a model are not tried for it."""


def program_faults(model: LocalModel, dtypes: Sequence[str]) -> Iterator[ProgramFault]:
    """Yield the programs that a faulty engine may run. `dtypes` are arithmetics to try besides float32."""
    for cause, description, head in _heads(model.head):
        if head != model.head:
            yield ProgramFault(cause, description, build(model.architecture, head).to_json())
    if model.radius is not None:
        yield from _window_faults(model, model.radius)
    for alteration in ALTERATIONS:
        if program := model.altered(alteration.op, alteration):
            yield ProgramFault(alteration.cause, alteration.description, program)
    if program := model.altered("attention", _scaled_by_head_dim):
        yield ProgramFault("attention", "with scores scaled by the size of a head by default", program)
    for dtype in dtypes:
        yield ProgramFault("dtype", f"in {dtype}", model.program.to_json(), dtype)


def _heads(head: Sequence[Module]) -> Iterator[tuple[str, str, tuple[Module, ...]]]:
    """Yield the heads of faulty engines, each with cause and description."""
    yield (
        "dense",
        "without the dense layers after pooling",
        tuple(module for module in head if not isinstance(module, Dense)),
    )
    yield (
        "dense",
        "without the activation of the dense layers",
        tuple(replace(module, activation=None) if isinstance(module, Dense) else module for module in head),
    )
    modes: tuple[PoolingMode, ...] = ("mean", "cls", "last", "max")
    for mode in modes:
        other = tuple(Pooling(mode) if isinstance(module, Pooling) else module for module in head)
        yield "pooling", f"with {mode} pooling", other


def _scaled_by_head_dim(call: Recorded) -> Recorded:
    return replace(call, parameters=call.parameters | {"scale": call.parameters["head_dim"] ** -0.5})


def _window_faults(model: LocalModel, radius: int) -> Iterator[ProgramFault]:
    def windowed(other: int | None) -> Callable[[Recorded], Recorded]:
        def change(call: Recorded) -> Recorded:
            kept = {name: value for name, value in call.parameters.items() if name != "radius"}
            if "radius" not in call.parameters or other is None:
                return replace(call, parameters=kept)
            return replace(call, parameters=call.parameters | {"radius": other})

        return change

    for radius_there, description in (
        (None, "without a sliding window: every layer attends to the whole text"),
        (radius * 2, "the stored window is taken as the reach in each direction"),
        (radius - 1, "the window is one token too small on each side"),
        (radius + 1, "the window is one token too large on each side"),
        (radius // 2, "the window was halved, as by saving the config with an older transformers"),
        (radius // 4, "the window was halved twice"),
    ):
        if radius_there == 0:
            continue
        if radius_there is not None:
            description = f"with a window of {radius_there} tokens each way: {description}"
        if program := model.altered("attention", windowed(radius_there)):
            yield ProgramFault("window", description, program)


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
    yield from _side_faults(model, counts)
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
    yield TokenFault("tokenizer", "with accents removed", lambda t: rows([_without_accents(text) for text in t]))
    yield TokenFault("tokenizer", "with spaces around texts removed", lambda t: rows([text.strip() for text in t]))
    yield TokenFault("tokenizer", "with a space before texts", lambda t: rows([" " + text for text in t]))


def _side_faults(model: LocalModel, counts: Sequence[int]) -> Iterator[TokenFault]:
    """Yield truncation at the beginning of a text, and truncation at a limit that the model does not declare."""
    opening = 1 if len(model.rows([""])[0]) > 1 else 0

    def left(size: int) -> Tokenize:
        def cut(row: Ids) -> Ids:
            return row if len(row) <= size else np.concatenate([row[:opening], row[opening - size :]])

        return lambda texts: [cut(row) for row in model.uncut_rows(texts)]

    def longer(size: int) -> Tokenize:
        def cut(row: Ids) -> Ids:
            return row if len(row) <= size else np.concatenate([row[: size - 1], row[-1:]])

        return lambda texts: [cut(row) for row in model.uncut_rows(texts)]

    for size in sorted({*COMMON_LIMITS, *counts, model.limit}):
        if opening < size <= model.limit:
            yield TokenFault("truncation", f"with texts cut to {size} tokens at their beginning", left(size))
        elif size > model.limit and size <= (model.architecture.places or size):
            description = f"with texts cut to {size} tokens, not to the limit of {model.limit}"
            yield TokenFault("truncation", description, longer(size))


def _without_accents(text: str) -> str:
    return "".join(sign for sign in unicodedata.normalize("NFD", text) if unicodedata.category(sign) != "Mn")


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
