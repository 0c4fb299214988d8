"""The vocabulary that models are written in.

A model file calls these operations and nothing else, so that one definition serves every execution: `reference`
(NumPy, eager, the specification) and `trace` (records a `Program` for the native executor).

Values are packed: `(tokens, features)` until `pool`, `(rows, features)` after it. Nothing is padded; where a row begins
and ends comes with the `batch`. Everything an operation needs is given in its call; there are no globals.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

Norm = Literal["rms", "layer"]
Gate = Literal["gelu_tanh", "gelu_erf", "silu"]
Activation = Literal["gelu_tanh", "gelu_erf", "silu", "tanh", "relu", "sigmoid"]
Pooling = Literal["mean", "cls", "last", "max"]

Value = TypeVar("Value")  # an activation: (tokens, features) or (rows, features)
Weight = TypeVar("Weight")  # a checkpoint tensor
Weight_contra = TypeVar("Weight_contra", contravariant=True)  # the same, where it is only taken in
Batch_contra = TypeVar("Batch_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Weights(Generic[Weight]):
    """Checkpoint tensors by name. A model states the shape it expects, so a misshapen tensor is caught by name."""

    lookup: Callable[[str, tuple[int, ...]], Weight]
    prefix: str = ""

    def __call__(self, name: str, *shape: int) -> Weight:
        """Return the tensor `prefix + name`, which must have `shape`."""
        return self.lookup(self.prefix + name, shape)

    def under(self, prefix: str) -> "Weights[Weight]":
        """Return a view in which names are relative to `prefix`."""
        return Weights(self.lookup, self.prefix + prefix)


class Ops(Protocol[Value, Weight_contra, Batch_contra]):
    """The operations. Shapes: t tokens, b rows of the batch, f features, h heads, d head_dim."""

    def embed(
        self,
        batch: Batch_contra,
        table: Weight_contra,
        *,
        positions: Weight_contra | None = None,
        offset: int = 0,
        types: Weight_contra | None = None,
    ) -> Value:
        """Look up ids in `table` (vocabulary, f), adding `types[0]` and `positions[offset + place in its row]`."""

    def norm(
        self,
        x: Value,
        weight: Weight_contra | None = None,
        *,
        kind: Norm,
        eps: float,
        bias: Weight_contra | None = None,
        plus_one: bool = False,
        per_head: int | None = None,
    ) -> Value:
        """Normalise the features, or each group of `per_head` features; then times `weight` (or 1 + `weight`)."""

    def linear(
        self, x: Value, weight: Weight_contra, bias: Weight_contra | None = None, *, rows: tuple[int, int] | None = None
    ) -> Value:
        """Return x · weightᵀ (+ bias); with `rows` only those rows i..j of `weight` and `bias` are used."""

    def rope(self, batch: Batch_contra, x: Value, *, head_dim: int, theta: float, dim: int | None = None) -> Value:
        """Rotate the first `dim` (or all) features of each head, halves as pairs, by place · theta^(-2i/dim)."""

    def attention(
        self,
        batch: Batch_contra,
        q: Value,
        k: Value,
        v: Value,
        *,
        heads: int,
        kv_heads: int,
        head_dim: int,
        scale: float,
        causal: bool = False,
        radius: int | None = None,
        bias: Weight_contra | None = None,
    ) -> Value:
        """Attend within each row: key j counts for query i if |i - j| <= `radius` (and j <= i when `causal`).

        `bias` (buckets, h) adds to the scores the entry of the T5 bucket of j - i (bidirectional, distances to 128).
        """

    def glu(self, gate: Value, up: Value, *, kind: Gate) -> Value:
        """Return activation(gate) * up."""

    def activation(self, x: Value, *, kind: Activation) -> Value:
        """Apply `kind` to every element."""

    def add(self, a: Value, b: Value) -> Value:
        """Return a + b."""

    def mul(self, a: Value, b: Value) -> Value:
        """Return a * b, element by element."""

    def scale(self, x: Value, by: float | Weight_contra) -> Value:
        """Return x times a number, or times a checkpoint tensor of one element."""

    def pool(self, batch: Batch_contra, x: Value, *, kind: Pooling) -> Value:
        """Reduce each row's tokens to one vector: (t, f) -> (b, f). The mean of no tokens is zero."""

    def normalise(self, x: Value) -> Value:
        """Divide by the Euclidean norm (at least 1e-12)."""
