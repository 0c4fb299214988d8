"""A backend that records the operations that a model calls, for `program.build` to make a program of."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from embergem.errors import CorruptCheckpoint
from embergem.ops import Activation, Gate, Llama3Scaling, Norm, Operations, Pooling, WeightLookup

Axis = Literal["tokens", "rows"]


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint tensor of `shape`, or its rows i..j if `rows` is (i, j)."""

    tensor: str
    shape: tuple[int, ...]
    rows: tuple[int, int] | None = None

    def taken(self) -> tuple[int, ...]:
        """Return the shape of the rows that are used."""
        return self.shape if self.rows is None else (self.rows[1] - self.rows[0], *self.shape[1:])


@dataclass(frozen=True, slots=True)
class WeightSpec:
    """A weight of a program: the rows of its sources concatenated, plus `add`."""

    sources: tuple[Source, ...]
    add: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape after concatenation."""
        parts = [source.taken() for source in self.sources]
        return (sum(part[0] for part in parts), *parts[0][1:])


@dataclass(frozen=True, slots=True)
class TracedValue:
    """The result of a recorded call: `width` features for each token or row."""

    index: int
    width: int
    axis: Axis


@dataclass(frozen=True, slots=True)
class TracedBatch:
    """A batch without rows: a program does not depend on the rows that it runs on."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded call, which `program.rewrite` and `program.plan` turn into a step."""

    op: str
    out: TracedValue
    inputs: tuple[TracedValue, ...]
    weights: dict[str, WeightSpec]
    parameters: dict[str, Any]


@dataclass(slots=True)
class Trace(Operations[TracedValue, Source, TracedBatch]):
    """Records each operation in `calls`."""

    calls: list[Recorded] = field(default_factory=list)

    def embed(
        self,
        batch: TracedBatch,
        table: Source,
        *,
        integers: bool = False,
        mapping: Source | None = None,
        weights: Source | None = None,
        positions: Source | None = None,
        offset: int = 0,
        padding: int | None = None,
        types: Source | None = None,
    ) -> TracedValue:
        """See `Operations.embed`."""
        tables = {"table": table, "mapping": mapping, "weights": weights, "positions": positions, "types": types}
        return self._record(
            "embed", (), table.shape[1], "tokens", tables, offset=offset, padding=padding, integers=integers or None
        )

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
        """See `Operations.norm`; the 1 of `plus_one` is added to the weight once, when the weight is loaded."""
        weights: dict[str, Source | WeightSpec | None] = {"weight": weight, "bias": bias}
        if weight is not None and plus_one:
            weights["weight"] = WeightSpec((weight,), add=1.0)
        return self._record("norm", (x,), x.width, x.axis, weights, kind=kind, eps=eps, group=per_head or x.width)

    def linear(
        self, x: TracedValue, weight: Source, bias: Source | None = None, *, rows: tuple[int, int] | None = None
    ) -> TracedValue:
        """See `Operations.linear`."""
        if rows is not None:
            weight = Source(weight.tensor, weight.shape, rows)
            bias = None if bias is None else Source(bias.tensor, bias.shape, rows)
        if weight.shape[1] != x.width:
            raise CorruptCheckpoint(
                f"The linear layer {weight.tensor} takes {weight.shape[1]} features, but the step before it gives "
                f"{x.width}. The sizes in config.json and in modules.json contradict each other; take both files from "
                "the same model."
            )
        return self._record("linear", (x,), weight.taken()[0], x.axis, {"weight": weight, "bias": bias})

    def rope(
        self,
        batch: TracedBatch,
        x: TracedValue,
        *,
        head_dim: int,
        theta: float,
        llama3: Llama3Scaling | None = None,
        linear: float | None = None,
    ) -> TracedValue:
        """See `Operations.rope`. The program format has `dim`, the features of a head that are rotated: all of them."""
        scaling = None if llama3 is None else asdict(llama3)
        return self._record(
            "rope", (x,), x.width, x.axis, {},
            head_dim=head_dim, theta=theta, dim=head_dim, llama3=scaling, linear=linear,
        )  # fmt: skip

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
        furthest: int = 128,
    ) -> TracedValue:
        """See `Operations.attention`."""
        return self._record(
            "attention", (q, k, v), heads * head_dim, "tokens", {"bias": bias},
            heads=heads, kv_heads=kv_heads, head_dim=head_dim, scale=scale, causal=causal, radius=radius,
            furthest=None if bias is None or furthest == 128 else furthest,
        )  # fmt: skip

    def glu(self, gate: TracedValue, up: TracedValue, *, kind: Gate) -> TracedValue:
        """See `Operations.glu`."""
        return self._record("glu", (gate, up), gate.width, gate.axis, {}, kind=kind)

    def activation(self, x: TracedValue, *, kind: Activation) -> TracedValue:
        """See `Operations.activation`."""
        return self._record("activation", (x,), x.width, x.axis, {}, kind=kind)

    def add(self, a: TracedValue, b: TracedValue) -> TracedValue:
        """See `Operations.add`."""
        return self._record("add", (a, b), a.width, a.axis, {})

    def scale(self, x: TracedValue, by: float | Source) -> TracedValue:
        """See `Operations.scale`."""
        if isinstance(by, Source):
            return self._record("scale", (x,), x.width, x.axis, {"by": by})
        return self._record("scale", (x,), x.width, x.axis, {}, by=float(by))

    def pool(self, batch: TracedBatch, x: TracedValue, *, kind: Pooling) -> TracedValue:
        """See `Operations.pool`."""
        return self._record("pool", (x,), x.width, "rows", {}, kind=kind)

    def normalise(self, x: TracedValue) -> TracedValue:
        """See `Operations.normalise`."""
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


def traced_weights() -> WeightLookup[Source]:
    """Return a lookup for tracing: it answers with the name and the shape that the model stated."""
    lookup: Callable[[str, tuple[int, ...]], Source] = Source
    return WeightLookup(lookup)
