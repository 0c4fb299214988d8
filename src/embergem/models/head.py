"""The head of a model: the pooling, dense and normalisation modules that modules.json lists after the transformer.

Separate because checkpoint readers and programs use these types, and neither package uses the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from embergem import ops as vocabulary
from embergem.ops import Batch, Ops, Value, Weights


@dataclass(frozen=True, slots=True)
class Pooling:
    """Reduce the tokens of each row to one vector."""

    mode: vocabulary.Pooling


@dataclass(frozen=True, slots=True)
class Dense:
    """A linear layer and an activation. `weights` is the directory of its tensors, such as "2_Dense"."""

    weights: str
    in_features: int
    out_features: int
    bias: bool
    activation: vocabulary.Activation | None


@dataclass(frozen=True, slots=True)
class Normalize:
    """Scale each vector to length 1."""


Module = Pooling | Dense | Normalize


def width_after(head: Sequence[Module], hidden: int | None) -> int | None:
    """Return the size of the vectors that `head` makes of hidden states of the width `hidden`; None: it is unknown."""
    sizes = [module.out_features for module in head if isinstance(module, Dense)]
    return sizes[-1] if sizes else hidden


def apply(ops: Ops, head: Sequence[Module], weights: Weights, batch: Batch, x: Value) -> Value:
    """Return the vectors (b, dimensions) that `head` makes of the last hidden states `x` (t, hidden)."""
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
