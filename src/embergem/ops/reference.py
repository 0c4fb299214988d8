"""The operations in NumPy, written to be read: the specification that every kernel is tested against."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embergem.ops import Activation, Gate, Llama3Scaling, Norm, Operations, Pooling

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Batch:
    """Packed rows: token `ids` (t,) and `cu_seqlens` (b + 1,), the offset of each row, then t."""

    ids: NDArray[np.uint32]
    cu_seqlens: NDArray[np.uint32]

    def spans(self) -> list[slice]:
        """Return the slice of the tokens of each row."""
        return [slice(int(i), int(j)) for i, j in zip(self.cu_seqlens[:-1], self.cu_seqlens[1:], strict=True)]

    def positions(self, padding: int | None = None) -> NDArray[np.int64]:
        """Return the position of each token in its row, counted from 0; shape (t,).

        Tokens with the id `padding` are not counted, and their position is -1.
        """
        counted = np.ones(len(self.ids), dtype=bool) if padding is None else self.ids != padding
        return np.concatenate([np.where(counted[span], np.cumsum(counted[span]) - 1, -1) for span in self.spans()])


class Reference(Operations[Array, Array, Batch]):
    """Computes the operations on float32 arrays."""

    def embed(
        self,
        batch: Batch,
        table: Array,
        *,
        integers: bool = False,
        mapping: Array | None = None,
        weights: Array | None = None,
        positions: Array | None = None,
        offset: int = 0,
        padding: int | None = None,
        types: Array | None = None,
    ) -> Array:
        """See `Operations.embed`."""
        x = table[batch.ids if mapping is None else mapping[batch.ids].astype(np.int64)].astype(np.float32)
        if weights is not None:
            x = x * weights[batch.ids, None].astype(np.float32)
        if types is not None:
            x = x + types[0]
        if positions is not None:
            x = x + positions[offset + batch.positions(padding)]
        return x

    def norm(
        self,
        x: Array,
        weight: Array | None = None,
        *,
        kind: Norm,
        eps: float,
        bias: Array | None = None,
        plus_one: bool = False,
        per_head: int | None = None,
    ) -> Array:
        """See `Operations.norm`; the statistics are over the last axis."""
        y = x.reshape(len(x), -1, per_head or x.shape[1])
        if kind == "layer":
            y = y - y.mean(axis=-1, keepdims=True)
        y = y / np.sqrt(np.mean(y * y, axis=-1, keepdims=True) + np.float32(eps))
        if weight is not None:
            y = y * (1 + weight if plus_one else weight)
        if bias is not None:
            y = y + bias
        normed: Array = y.reshape(x.shape)
        return normed

    def linear(
        self, x: Array, weight: Array, bias: Array | None = None, *, rows: tuple[int, int] | None = None
    ) -> Array:
        """See `Operations.linear`; `weight` is (out, in)."""
        part = slice(*rows) if rows else slice(None)
        y = x @ weight[part].T
        return y if bias is None else y + bias[part]

    def rope(
        self,
        batch: Batch,
        x: Array,
        *,
        head_dim: int,
        theta: float,
        llama3: Llama3Scaling | None = None,
        linear: float | None = None,
    ) -> Array:
        """See `Operations.rope`. Angles are float32 products of float32 frequencies, as in transformers."""
        half = head_dim // 2
        frequencies = 1.0 / theta ** (np.arange(0, head_dim, 2) / head_dim)
        if llama3 is not None:
            turns = llama3.original_max_position_embeddings * frequencies / (2 * math.pi)
            share = (turns - llama3.low_freq_factor) / (llama3.high_freq_factor - llama3.low_freq_factor)
            share = np.clip(share, 0, 1)
            frequencies = share * frequencies + (1 - share) * frequencies / llama3.factor
        if linear is not None:
            frequencies = frequencies / linear
        rounded = frequencies.astype(np.float32)
        angles = batch.positions().astype(np.float32)[:, None, None] * rounded  # (t, 1, half)
        cos, sin = np.cos(angles), np.sin(angles)
        heads = x.reshape(len(x), -1, head_dim)
        a, b = heads[..., :half], heads[..., half:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).reshape(x.shape)

    def attention(
        self,
        batch: Batch,
        q: Array,
        k: Array,
        v: Array,
        *,
        heads: int,
        kv_heads: int,
        head_dim: int,
        scale: float,
        causal: bool = False,
        radius: int | None = None,
        bias: Array | None = None,
        furthest: int = 128,
    ) -> Array:
        """See `Operations.attention`; query head i uses key-value head i // (heads // kv_heads)."""
        out = np.empty((len(q), heads * head_dim), dtype=np.float32)
        for span in batch.spans():
            n = span.stop - span.start
            distance = np.arange(n)[None, :] - np.arange(n)[:, None]  # key minus query, (n, n)
            hidden = np.zeros((n, n), dtype=bool)
            if radius is not None:
                hidden |= np.abs(distance) > radius
            if causal:
                hidden |= distance > 0
            queries = q[span].reshape(n, heads, head_dim).transpose(1, 0, 2)  # (h, n, d)
            keys = k[span].reshape(n, kv_heads, head_dim).transpose(1, 0, 2).repeat(heads // kv_heads, axis=0)
            values = v[span].reshape(n, kv_heads, head_dim).transpose(1, 0, 2).repeat(heads // kv_heads, axis=0)
            scores = queries @ keys.transpose(0, 2, 1) * np.float32(scale)  # (h, n, n)
            if bias is not None:
                scores = scores + bias[relative_buckets(distance, len(bias), furthest)].transpose(2, 0, 1)
            scores = np.where(hidden, np.float32(-np.inf), scores)
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            weights /= weights.sum(axis=-1, keepdims=True)
            out[span] = (weights @ values).transpose(1, 0, 2).reshape(n, heads * head_dim)
        return out

    def glu(self, gate: Array, up: Array, *, kind: Gate) -> Array:
        """See `Operations.glu`."""
        return self.activation(gate, kind=kind) * up

    def activation(self, x: Array, *, kind: Activation) -> Array:
        """See `Operations.activation`."""
        match kind:
            case "gelu_tanh":
                inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
                share: Array = np.float32(0.5) * (1 + np.tanh(inner))
                return x * share
            case "gelu_erf":
                erf = np.array([math.erf(e) for e in (x.ravel() * math.sqrt(0.5))], dtype=np.float32)
                return x * (np.float32(0.5) * (1 + erf.reshape(x.shape)))
            case "silu":
                return x * self.activation(x, kind="sigmoid")
            case "sigmoid":
                # Unlike 1 / (1 + exp(-x)), this form cannot overflow.
                sigmoid: Array = np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * x))
                return sigmoid
            case "tanh":
                return np.tanh(x)
            case "relu":
                return np.maximum(x, np.float32(0))

    def add(self, a: Array, b: Array) -> Array:
        """See `Operations.add`."""
        return a + b

    def scale(self, x: Array, by: float | Array) -> Array:
        """See `Operations.scale`."""
        return x * np.float32(by.item() if isinstance(by, np.ndarray) else by)

    def pool(self, batch: Batch, x: Array, *, kind: Pooling) -> Array:
        """See `Operations.pool`; the mean counts every token of the row, special and prompt tokens included."""
        rows = [x[span] for span in batch.spans()]
        match kind:
            case "mean":
                return np.stack([row.mean(axis=0) if len(row) else np.zeros_like(x, shape=x.shape[1:]) for row in rows])
            case "cls":
                return np.stack([row[0] for row in rows])
            case "last":
                return np.stack([row[-1] for row in rows])
            case "max":
                return np.stack([row.max(axis=0) for row in rows])

    def normalise(self, x: Array) -> Array:
        """See `Operations.normalise`."""
        length = np.sqrt(np.sum(x * x, axis=-1, keepdims=True))
        unit: Array = x / np.maximum(length, np.float32(1e-12))
        return unit


def relative_buckets(distance: NDArray[np.int64], buckets: int, furthest: int) -> NDArray[np.int64]:
    """Return T5's bidirectional bucket of each `distance`, key position minus query position.

    The upper half of the buckets is for keys after the query. In each half, the first half of the buckets holds one
    distance each; the others grow logarithmically and end at `furthest`. Source: Raffel et al. 2020, section 2.1; MPNet
    uses the same buckets.
    """
    side = buckets // 2
    exact = side // 2
    near = np.abs(distance)
    far = np.maximum(near, 1).astype(np.float32)  # keeps log() finite; where it changes `near`, `near` is chosen below
    growth = np.log(far / np.float32(exact)) / np.float32(math.log(furthest / exact)) * np.float32(side - exact)
    logarithmic = np.minimum(exact + growth.astype(np.int64), side - 1)
    return np.where(distance > 0, side, 0) + np.where(near < exact, near, logarithmic)
