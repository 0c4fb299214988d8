"""What sentence-transformers puts after the model, from modules.json: pooling, dense layers, normalisation."""

from collections.abc import Sequence
from dataclasses import dataclass

from embergem import ops as vocabulary
from embergem.ops import Batch_contra, Ops, Value, Weight, Weights


@dataclass(frozen=True, slots=True)
class Pooling:
    """Tokens to one vector a row."""

    mode: vocabulary.Pooling


@dataclass(frozen=True, slots=True)
class Dense:
    """A linear layer; `weights` is the directory its tensors come from, such as "2_Dense"."""

    weights: str
    in_features: int
    out_features: int
    bias: bool
    activation: vocabulary.Activation | None


@dataclass(frozen=True, slots=True)
class Normalize:
    """Scale each vector to length 1."""


Module = Pooling | Dense | Normalize


def apply(
    ops: Ops[Value, Weight, Batch_contra],
    head: Sequence[Module],
    weights: Weights[Weight],
    batch: Batch_contra,
    x: Value,
) -> Value:
    """Last hidden states (t, hidden) to vectors (b, dimensions)."""
    for module in head:
        match module:
            case Pooling(mode):
                x = ops.pool(batch, x, kind=mode)
            case Dense(directory, in_features, out_features, bias, activation):
                w = weights.under(f"{directory}.linear.")
                x = ops.linear(x, w("weight", out_features, in_features), w("bias", out_features) if bias else None)
                if activation is not None:
                    x = ops.activation(x, kind=activation)
            case Normalize():
                x = ops.normalise(x)
    return x
