"""The operations that model files are written in, and the types that model files see.

A model file calls these operations and nothing else. One definition therefore serves every backend: `ops.reference`
computes in NumPy and is the specification; `ops.trace` records a `Program` for the native executor.

Values are packed: (tokens, features) before `pool`, (rows, features) after `pool`. Nothing is padded. The `batch` says
where each row begins and ends. Each call receives everything that it needs; there are no globals.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

Norm = Literal["rms", "layer"]
Gate = Literal["gelu_tanh", "gelu_erf", "silu"]
Activation = Literal["gelu_tanh", "gelu_erf", "silu", "tanh", "relu", "sigmoid"]
Pooling = Literal["mean", "cls", "last", "max"]

V = TypeVar("V")
W = TypeVar("W")
W_contra = TypeVar("W_contra", contravariant=True)
B_contra = TypeVar("B_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Llama3Scaling:
    """The scaling of rotary frequencies that config.json calls "llama3", with its fields there.

    A frequency that makes fewer turns than `low_freq_factor` within `original_max_position_embeddings` tokens is
    divided by `factor`; one that makes more than `high_freq_factor` stays; between the two it is interpolated.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: float


class Value:
    """An activation as a model sees it, (tokens, features) or (rows, features): opaque, passed between operations."""


class Weight:
    """A checkpoint tensor as a model sees it: opaque, passed to operations."""


class Batch:
    """The rows of a batch as a model sees them: opaque, passed to operations."""


@dataclass(frozen=True, slots=True)
class WeightLookup(Generic[W]):
    """Checkpoint tensors by name. The caller states the expected shape, so that an error can name the tensor."""

    lookup: Callable[[str, tuple[int, ...]], W]
    prefix: str = ""

    def __call__(self, name: str, *shape: int) -> W:
        """Return the tensor `prefix + name`, which must have `shape`."""
        return self.lookup(self.prefix + name, shape)

    def under(self, prefix: str) -> "WeightLookup[W]":
        """Return a lookup in which names are relative to `prefix`."""
        return WeightLookup(self.lookup, self.prefix + prefix)


class Operations(Protocol[V, W_contra, B_contra]):
    """The operations of a backend with values V, weights W and batches B.

    Shapes: t tokens, b rows of the batch, f features, h heads, d head_dim.
    """

    def embed(
        self,
        batch: B_contra,
        table: W_contra,
        *,
        integers: bool = False,
        mapping: W_contra | None = None,
        weights: W_contra | None = None,
        positions: W_contra | None = None,
        offset: int = 0,
        padding: int | None = None,
        types: W_contra | None = None,
    ) -> V:
        """Return the row of `table` (vocabulary, f) for each token id: (t, f).

        With `mapping` (vocabulary,), whole numbers, the table has a row for each of its numbers, and id i has the row
        `mapping[i]`. With `weights` (vocabulary,), multiply by the weight of the id. With `integers`, the table has
        whole numbers without scales.

        With `types` (kinds, f), add its row 0. With `positions` (places, f), add its row `offset` + position of the
        token in its row of the batch, counted from 0. Tokens with the id `padding` are not counted, and get row
        `offset` - 1.
        """

    def norm(
        self,
        x: V,
        weight: W_contra | None = None,
        *,
        kind: Norm,
        eps: float,
        bias: W_contra | None = None,
        plus_one: bool = False,
        per_head: int | None = None,
    ) -> V:
        """Normalise all features, or each group of `per_head` features, then multiply by `weight` and add `bias`.

        With `plus_one` the factor is 1 + `weight`.
        """

    def linear(self, x: V, weight: W_contra, bias: W_contra | None = None, *, rows: tuple[int, int] | None = None) -> V:
        """Return x · weightᵀ + bias. `weight` is (out, in); `rows` = (i, j) takes its rows i..j and those of `bias`."""

    def rope(
        self,
        batch: B_contra,
        x: V,
        *,
        head_dim: int,
        theta: float,
        llama3: Llama3Scaling | None = None,
        linear: float | None = None,
    ) -> V:
        """Rotate the features of each head by position · theta^(-2i/d); feature i is paired with feature i + d/2.

        `llama3` scales these frequencies, and `linear` divides all of them.
        """

    def attention(
        self,
        batch: B_contra,
        q: V,
        k: V,
        v: V,
        *,
        heads: int,
        kv_heads: int,
        head_dim: int,
        scale: float,
        causal: bool = False,
        radius: int | None = None,
        bias: W_contra | None = None,
        furthest: int = 128,
    ) -> V:
        """Attend within each row: query i sees key j if |i - j| <= `radius`, and j <= i when `causal`.

        `bias` (buckets, h) adds to each score the entry for the T5 bucket of j - i (bidirectional, distances to
        `furthest`).
        """

    def glu(self, gate: V, up: V, *, kind: Gate) -> V:
        """Return activation(gate) * up, with the activation `kind`."""

    def activation(self, x: V, *, kind: Activation) -> V:
        """Apply `kind` to every element."""

    def add(self, a: V, b: V) -> V:
        """Return a + b."""

    def scale(self, x: V, by: float | W_contra) -> V:
        """Return x times a number, or times a checkpoint tensor of one element."""

    def pool(self, batch: B_contra, x: V, *, kind: Pooling) -> V:
        """Reduce the tokens of each row to one vector: (t, f) -> (b, f). The mean of no tokens is zero."""

    def normalise(self, x: V) -> V:
        """Divide each vector by its Euclidean norm, or by 1e-12 if the norm is smaller."""


Ops: TypeAlias = Operations[Value, Weight, Batch]
"""The operations as a model sees them."""
Weights: TypeAlias = WeightLookup[Weight]
"""Checkpoint tensors by name as a model sees them."""
