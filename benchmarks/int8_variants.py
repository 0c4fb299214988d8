"""Simulate variants of the int8 products in NumPy, and measure how near each comes to float32.

    python benchmarks/int8_variants.py [MODEL ...] [--schemes block-64 only-rows ...] [--documents N]

MODEL is a name of `benchmarks/exactness.py`; the default is the real Gemma 3 270M without `<eos>`, MiniLM and mpnet.
The texts are those of that procedure. `--documents` also measures the neighbours kept among the first N articles.
Products of tokens are rounded as `embergem.ops.int8` says, with one thing changed. Everything else is float32,
attention included. The loss is 1 - cosine in millionths; its mean depends less on one text than the least cosine.
"""

import math
import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # OpenBLAS reads it when NumPy is imported

import numpy as np
from exactness import MODELS, NEAREST, NO_EOS, Vectors, corpus, nearest, texts
from numpy.typing import NDArray
from safetensors.numpy import load_file

from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.read import read_checkpoint
from embergem.engine.prepare import prepare, text_pipeline
from embergem.models.architecture import architecture
from embergem.ops import Activation, Pooling, WeightLookup
from embergem.ops.int8 import FURTHEST, LARGEST, MIN_PEAK, row_factors
from embergem.ops.reference import Array, Batch, Reference
from embergem.options import LoadOptions
from embergem.types import pack

Rows = Sequence[Sequence[int]]
Squares = NDArray[np.float64]

DEFAULT_MODELS = ("gemma-3-270m-no-eos", "all-MiniLM-L6-v2", "all-mpnet-base-v2")
PAD = 256
"""The width of a product is padded to a multiple of this: the largest group."""
BATCH_TOKENS = 3000
RANDOM = (8, 48)
"""Texts and length of the random ids that decide the smoothing, as in crates/core/src/model/smoothing.rs."""
COMPENSATED = (32, 64)
"""Texts and their most tokens for the second moments of `Scheme.compensated`."""
DAMPING = 0.1
"""Share of the mean diagonal that is added to the diagonal of the second moments."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """A variant of `embergem.ops.int8`; the defaults are the scheme itself.

    Attributes:
        block: Size of the Hadamard blocks. 1 transforms nothing.
        group: Values that share a scale.
        step: Step of the smoothing exponents, 0.25 for powers of 2^¼; 0 does not round them. None smooths nothing.
        rounded: Which side is rounded.
        signs: Multiply the channels by fixed random signs before the transform.
        compensated: Compensate the rounding of each weight in those after it (GPTQ, Frantar et al. 2022), with the
            second moments of the inputs on random ids or on articles. None compensates nothing.
        only: Substring of the names of the weights whose products are rounded.
    """

    block: int = 128
    group: int = 128
    step: float | None = 0.25
    rounded: Literal["both", "rows", "weights"] = "both"
    signs: bool = False
    compensated: Literal["random", "articles"] | None = None
    only: str = ""


SCHEMES = {
    "int8": Scheme(),
    "only-rows": Scheme(rounded="rows"),
    "only-weights": Scheme(rounded="weights"),
    "block-1": Scheme(block=1),
    "block-16": Scheme(block=16),
    "block-32": Scheme(block=32),
    "block-64": Scheme(block=64),
    "group-64": Scheme(group=64),
    "group-256": Scheme(group=256),
    "no-smoothing": Scheme(step=None),
    "whole-steps": Scheme(step=1),
    "exact-smoothing": Scheme(step=0),
    "signs": Scheme(signs=True),
    "quarter-steps-signs": Scheme(step=0.25, signs=True),
    "compensated": Scheme(compensated="random"),
    "compensated-only-weights": Scheme(compensated="random", rounded="weights"),
    "articles": Scheme(compensated="articles"),
    "articles-only-weights": Scheme(compensated="articles", rounded="weights"),
}

ERF_AT = np.linspace(-6, 6, 240_001)
ERF = np.array([math.erf(x) for x in ERF_AT])

Number = TypeVar("Number", np.float32, np.float64)
Key = tuple[int, tuple[int, int] | None]
"""A weight: the address of its tensor, and the rows that a product takes."""


class Products(Reference):
    """The operations of the reference, with other products over tokens.

    Attributes:
        product: Computes the product of rows with the weight of this key.
    """

    def __init__(self, product: Callable[[Array, Key, Array], Array]) -> None:
        self.product = product
        self.pooled = False

    def linear(
        self, x: Array, weight: Array, bias: Array | None = None, *, rows: tuple[int, int] | None = None
    ) -> Array:
        """See `Operations.linear`."""
        if self.pooled:
            return super().linear(x, weight, bias, rows=rows)
        part = slice(*rows) if rows else slice(None)
        y = self.product(x, (id(weight), rows), weight[part])
        return y if bias is None else y + bias[part]

    def pool(self, batch: Batch, x: Array, *, kind: Pooling) -> Array:
        """See `Operations.pool`."""
        self.pooled = True
        return super().pool(batch, x, kind=kind)

    def activation(self, x: Array, *, kind: Activation) -> Array:
        """See `Operations.activation`; the error function is interpolated, to 1e-9."""
        if kind != "gelu_erf":
            return super().activation(x, kind=kind)
        erf: Array = np.interp(x * math.sqrt(0.5), ERF_AT, ERF).astype(np.float32)
        share: Array = np.float32(0.5) * (1 + erf)
        return x * share


@dataclass
class Stack:
    """The products of one input. The engine stacks their weights, so they share the smoothing.

    Attributes:
        weights: Weights by key, in the order of the products.
        name: Name of the first tensor.
        squares: Mean square of each input channel on random ids.
        moments: Second moments of the input, by the ids that `Scheme.compensated` names; empty until they are needed.
    """

    weights: dict[Key, Array]
    name: str
    squares: Squares
    moments: dict[str, Squares] = field(default_factory=dict)


@dataclass
class Model:
    """A checkpoint, with its texts as ids and their vectors in float32."""

    name: str
    stacks: list[Stack] = field(default_factory=list)

    def __post_init__(self) -> None:
        directory = MODELS[self.name]()
        options = LoadOptions(model=directory, allow_missing_dense=True)
        checkpoint = read_checkpoint(Location(id=self.name, path=Path(directory)), options)
        prepared = prepare(checkpoint, self.name, options)
        self.architecture, self.head = architecture(checkpoint.config), checkpoint.head
        self.tensors = {
            prefix + name: tensor.astype(np.float32)
            for prefix, path in checkpoint.weights
            for name, tensor in load_file(path).items()
        }
        self.names = {id(tensor): name for name, tensor in self.tensors.items()}
        self.vocabulary, self.limit = prepared.vocab_size, prepared.limit
        pipeline = text_pipeline(checkpoint, prepared)
        eos = not self.name.endswith(NO_EOS)

        def ids(group: Sequence[str]) -> Rows:
            rows = [found.tolist() for found, _ in pipeline.prepare(group, truncate=True)]
            return rows if eos else [row[:-1] for row in rows]

        self.texts = ids(texts())
        self.documents = ids(corpus("lee-background/lee_background.cor", "ascii"))
        self.exact = self.vectors(self.texts, plain)
        self.stacks = list(self.observe())

    def lookup(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return a tensor under any of the names that checkpoints give it."""
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        prefixes = ("", "language_model.", *self.architecture.family.prefixes)
        names = [prefix + spelled for spelled in (name, old) for prefix in prefixes]
        tensor = next(self.tensors[each] for each in names if each in self.tensors)
        if tensor.shape != shape:
            raise ValueError(f"{name} has the shape {tensor.shape} instead of {shape}.")
        return tensor

    def vectors(self, rows: Rows, product: Callable[[Array, Key, Array], Array]) -> Vectors:
        """Return the unit vectors of rows of ids."""
        found, batch = [], list[Sequence[int]]()
        for index, row in enumerate(rows):
            batch.append(row)
            if index + 1 == len(rows) or sum(map(len, batch)) + len(rows[index + 1]) > BATCH_TOKENS:
                ops, weights = Products(product), WeightLookup(self.lookup)
                found.append(self.architecture.vectors(self.head, ops, weights, Batch(*pack(batch))))
                batch = []
        every = np.concatenate(found).astype(np.float64)
        unit: Vectors = every / np.linalg.norm(every, axis=1, keepdims=True)
        return unit

    def random_ids(self, count: int, length: int) -> Rows:
        """Return the random ids of crates/core/src/model/smoothing.rs."""
        length, state, ids = min(length, self.limit), 1, []
        for _ in range(count * length):
            state = (state * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) % 2**64
            ids.append(state * self.vocabulary >> 64)
        return [ids[i : i + length] for i in range(0, len(ids), length)]

    def observe(self) -> Iterator[Stack]:
        """Yield the products of each input, as they are computed for random ids."""
        inputs: list[tuple[Array, Stack]] = []

        def product(x: Array, key: Key, weight: Array) -> Array:
            if not inputs or inputs[-1][0] is not x:
                squares = np.square(x, dtype=np.float64).mean(axis=0)
                inputs.append((x, Stack({}, self.names[key[0]], squares)))
            inputs[-1][1].weights[key] = weight
            return plain(x, key, weight)

        self.vectors(self.random_ids(*RANDOM), product)
        return (stack for _, stack in inputs)

    def measure_moments(self, ids: Literal["random", "articles"]) -> None:
        """Measure the second moments of the input of each stack, unless they are known.

        The articles are the first of those whose neighbours are compared, not any of the 24 texts.
        """
        if ids in self.stacks[0].moments:
            return
        first = {next(iter(stack.weights)): stack for stack in self.stacks}
        count, length = COMPENSATED
        articles = [row[:length] for row in self.documents[:count]]

        def product(x: Array, key: Key, weight: Array) -> Array:
            if key in first:
                first[key].moments[ids] = (x.T @ x / np.float32(len(x))).astype(np.float64)
            return plain(x, key, weight)

        self.vectors(articles if ids == "articles" else self.random_ids(count, length), product)


class Rounded:
    """The products of a scheme: an argument of `Model.vectors`."""

    def __init__(self, model: Model, scheme: Scheme) -> None:
        self.scheme = scheme
        self.factors: dict[Key, Array] = {}
        self.weights: dict[Key, Array] = {}
        signs = np.random.default_rng(7)
        if scheme.compensated:
            model.measure_moments(scheme.compensated)
        for stack in model.stacks:
            if scheme.only not in stack.name:
                continue
            weight = np.concatenate(list(stack.weights.values()))
            factors = smoothing(stack.squares, weight, scheme.step)
            if scheme.signs:
                factors *= signs.choice(np.array([-1, 1], dtype=np.float32), len(factors))
            channels = transform(weight * factors, scheme.block)
            if scheme.compensated and scheme.rounded != "rows":
                found = stack.moments[scheme.compensated]
                moments = transform(found / factors / factors[:, None], scheme.block)
                channels = compensate(channels, transform(moments.T, scheme.block), scheme.group)
            elif scheme.rounded != "rows":
                channels = rounded(channels, scheme.group)
            parts = np.split(channels, np.cumsum([len(part) for part in stack.weights.values()])[:-1])
            for key, part in zip(stack.weights, parts, strict=True):
                self.factors[key], self.weights[key] = factors, np.ascontiguousarray(part.T)

    def __call__(self, x: Array, key: Key, weight: Array) -> Array:
        """Return the product of rows with the weight of this key."""
        if key not in self.weights:
            return plain(x, key, weight)
        rows = transform(x / self.factors[key], self.scheme.block)
        if self.scheme.rounded != "weights":
            rows = rounded(rows, self.scheme.group)
        return rows @ self.weights[key]


def plain(x: Array, _: Key, weight: Array) -> Array:
    """Return the product in float32."""
    y: Array = x @ weight.T
    return y


def smoothing(squares: Squares, weight: Array, step: float | None) -> Array:
    """Return the factor of each channel of the weight, as `embergem.ops.int8.smoothing_exponents` with any step."""
    factors = np.ones(len(squares), dtype=np.float32)
    if step is None:
        return factors
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = squares / np.square(weight, dtype=np.float64).sum(axis=0)
    known = np.isfinite(ratios) & (ratios > 0)
    exponents = np.log2(ratios[known]) / 4
    if step:
        exponents = np.rint(exponents / step) * step
    median = np.sort(exponents)[len(exponents) // 2]
    relative = np.clip(exponents - median, -FURTHEST / 4, FURTHEST / 4)
    # The engine rounds its factors to bfloat16.
    engine = step == SCHEMES["int8"].step
    factors[known] = np.reciprocal(row_factors(np.rint(4 * relative).astype(np.int8))) if engine else np.exp2(relative)
    return factors


def transform(rows: NDArray[Number], block: int) -> NDArray[Number]:
    """Pad rows, and multiply each block of them with the normalised Hadamard matrix."""
    matrix = np.ones((1, 1))
    while len(matrix) < block:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % PAD)))
    turned: NDArray[Number] = padded.reshape(-1, block) @ (matrix / math.sqrt(block)).astype(rows.dtype)
    return turned.reshape(padded.shape)


def rounded(rows: Array, group: int) -> Array:
    """Round rows to 8 bits with a scale for each group."""
    groups = rows.reshape(len(rows), -1, group)
    scales = np.maximum(np.abs(groups).max(axis=2, keepdims=True), MIN_PEAK) / np.float32(LARGEST)
    values: Array = (np.rint(groups / scales) * scales).astype(np.float32)
    return values.reshape(rows.shape)


def compensate(channels: Array, moments: Squares, group: int) -> Array:
    """Round channels one element after the other, and correct the elements after it for the error of each."""
    damped = (moments + moments.T) / 2 + DAMPING * np.mean(np.diag(moments)) * np.eye(len(moments))
    inverse = np.linalg.cholesky(np.linalg.inv(damped)).T
    left, out = channels.astype(np.float64), np.zeros_like(channels)
    for first in range(0, left.shape[1], group):
        end = first + group
        scales = np.maximum(np.abs(left[:, first:end]).max(axis=1), MIN_PEAK) / LARGEST
        errors = np.zeros((len(left), group))
        for i in range(first, end):
            out[:, i] = np.clip(np.rint(left[:, i] / scales), -LARGEST, LARGEST) * scales
            errors[:, i - first] = (left[:, i] - out[:, i]) / inverse[i, i]
            left[:, i:end] -= np.outer(errors[:, i - first], inverse[i, i:end])
        left[:, end:] -= errors @ inverse[first:end, end:]
    return out


def main() -> None:
    """Print a row of the table for each model and scheme."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: " + ", ".join(DEFAULT_MODELS))
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=list(SCHEMES), metavar="SCHEME")
    parser.add_argument("--documents", type=int, default=0, metavar="N")
    given = parser.parse_args()
    columns = ["model", "scheme", "least cosine", "mean loss"] + [f"top {NEAREST} kept"] * bool(given.documents)
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for name in given.models or DEFAULT_MODELS:
        model = Model(name)
        documents = model.documents[: given.documents]
        neighbours = nearest(model.vectors(documents, plain)) if documents else None
        for scheme in given.schemes:
            product = Rounded(model, SCHEMES[scheme])
            cosines = np.sum(model.exact * model.vectors(model.texts, product), axis=1)
            cells = [name, scheme, f"{cosines.min():.5f}", f"{1e6 * np.mean(1 - cosines):.0f}"]
            if neighbours is not None:
                pairs = zip(neighbours, nearest(model.vectors(documents, product)), strict=True)
                cells.append(f"{np.mean([np.isin(right, other).mean() for right, other in pairs]):.4f}")
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
