"""Records the operations a model calls instead of computing them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from embergem.errors import CorruptCheckpoint
from embergem.ops import Activation, Gate, Norm, Pooling, Weights

Axis = Literal["tokens", "rows"]


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint tensor of `shape`, or its rows i..j."""

    tensor: str
    shape: tuple[int, ...]
    rows: tuple[int, int] | None = None

    def taken(self) -> tuple[int, ...]:
        """The shape of what is taken."""
        return self.shape if self.rows is None else (self.rows[1] - self.rows[0], *self.shape[1:])


@dataclass(frozen=True, slots=True)
class WeightSpec:
    """A weight: its sources one below the other, plus `add`."""

    sources: tuple[Source, ...]
    add: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape after concatenation."""
        parts = [source.taken() for source in self.sources]
        return (sum(part[0] for part in parts), *parts[0][1:])


@dataclass(frozen=True, slots=True)
class TracedValue:
    """A value that a recorded step will make."""

    index: int
    width: int
    axis: Axis


@dataclass(frozen=True, slots=True)
class TracedBatch:
    """Stands for the batch: a program never depends on what is in it."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One call: what `rewrite` and `plan` turn into steps."""

    op: str
    out: TracedValue
    inputs: tuple[TracedValue, ...]
    weights: dict[str, WeightSpec]
    parameters: dict[str, Any]


@dataclass(slots=True)
class Trace:
    """Implements `embergem.ops.Ops` by recording; `calls` is the result."""

    calls: list[Recorded] = field(default_factory=list)

    def embed(
        self,
        batch: TracedBatch,
        table: Source,
        *,
        positions: Source | None = None,
        offset: int = 0,
        types: Source | None = None,
    ) -> TracedValue:
        """See `Ops.embed`."""
        weights = {"table": table, "positions": positions, "types": types}
        return self._record("embed", (), table.shape[1], "tokens", weights, offset=offset)

    def norm(
        self,
        x: TracedValue,
        weight: Source | None = None,
        *,
        kind: Norm,
        eps: float,
        bias: Source | None = None,
        plus_one: bool = False,
        per_head: int | None = None,
    ) -> TracedValue:
        """See `Ops.norm`; adding 1 to the weight happens once, when it is loaded."""
        weights: dict[str, Source | WeightSpec | None] = {"weight": weight, "bias": bias}
        if weight is not None and plus_one:
            weights["weight"] = WeightSpec((weight,), add=1.0)
        return self._record("norm", (x,), x.width, x.axis, weights, kind=kind, eps=eps, group=per_head or x.width)

    def linear(
        self, x: TracedValue, weight: Source, bias: Source | None = None, *, rows: tuple[int, int] | None = None
    ) -> TracedValue:
        """See `Ops.linear`."""
        if rows is not None:
            weight = Source(weight.tensor, weight.shape, rows)
            bias = None if bias is None else Source(bias.tensor, bias.shape, rows)
        if weight.shape[1] != x.width:
            raise CorruptCheckpoint(
                f"{weight.tensor} takes {weight.shape[1]} features where the step before it gives {x.width}: the "
                "sizes in config.json and in the modules contradict each other"
            )
        return self._record("linear", (x,), weight.taken()[0], x.axis, {"weight": weight, "bias": bias})

    def rope(
        self, batch: TracedBatch, x: TracedValue, *, head_dim: int, theta: float, dim: int | None = None
    ) -> TracedValue:
        """See `Ops.rope`."""
        return self._record("rope", (x,), x.width, x.axis, {}, head_dim=head_dim, theta=theta, dim=dim or head_dim)

    def attention(
        self,
        batch: TracedBatch,
        q: TracedValue,
        k: TracedValue,
        v: TracedValue,
        *,
        heads: int,
        kv_heads: int,
        head_dim: int,
        scale: float,
        causal: bool = False,
        radius: int | None = None,
        bias: Source | None = None,
    ) -> TracedValue:
        """See `Ops.attention`."""
        return self._record(
            "attention", (q, k, v), heads * head_dim, "tokens", {"bias": bias},
            heads=heads, kv_heads=kv_heads, head_dim=head_dim, scale=scale, causal=causal, radius=radius,
        )  # fmt: skip

    def glu(self, gate: TracedValue, up: TracedValue, *, kind: Gate) -> TracedValue:
        """See `Ops.glu`."""
        return self._record("glu", (gate, up), gate.width, gate.axis, {}, kind=kind)

    def activation(self, x: TracedValue, *, kind: Activation) -> TracedValue:
        """See `Ops.activation`."""
        return self._record("activation", (x,), x.width, x.axis, {}, kind=kind)

    def add(self, a: TracedValue, b: TracedValue) -> TracedValue:
        """See `Ops.add`."""
        return self._record("add", (a, b), a.width, a.axis, {})

    def mul(self, a: TracedValue, b: TracedValue) -> TracedValue:
        """See `Ops.mul`."""
        return self._record("mul", (a, b), a.width, a.axis, {})

    def scale(self, x: TracedValue, by: float | Source) -> TracedValue:
        """See `Ops.scale`."""
        if isinstance(by, Source):
            return self._record("scale", (x,), x.width, x.axis, {"by": by})
        return self._record("scale", (x,), x.width, x.axis, {}, by=float(by))

    def pool(self, batch: TracedBatch, x: TracedValue, *, kind: Pooling) -> TracedValue:
        """See `Ops.pool`."""
        return self._record("pool", (x,), x.width, "rows", {}, kind=kind)

    def normalise(self, x: TracedValue) -> TracedValue:
        """See `Ops.normalise`."""
        return self._record("normalise", (x,), x.width, x.axis, {})

    def _record(
        self,
        op: str,
        inputs: tuple[TracedValue, ...],
        width: int,
        axis: Axis,
        weights: dict[str, Any],
        **parameters: Any,
    ) -> TracedValue:
        out = TracedValue(len(self.calls), width, axis)
        specs = {
            role: weight if isinstance(weight, WeightSpec) else WeightSpec((weight,))
            for role, weight in weights.items()
            if weight is not None
        }
        given = {name: value for name, value in parameters.items() if value is not None}
        self.calls.append(Recorded(op, out, inputs, specs, given))
        return out


def traced_weights() -> Weights[Source]:
    """Weights for tracing: each lookup is the name and shape the model stated."""
    lookup: Callable[[str, tuple[int, ...]], Source] = Source
    return Weights(lookup)
