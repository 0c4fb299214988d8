"""Every kernel against the NumPy specification: odd sizes, alone and in a batch, on every instruction set."""

import numpy as np
import pytest
from goldens import pack
from safetensors.numpy import save_file

from embergem._native import Model, instruction_sets
from embergem.ops import Llama3Scaling, WeightLookup
from embergem.ops.reference import Batch, Reference
from embergem.ops.trace import Trace, TracedBatch, traced_weights
from embergem.program.plan import plan
from embergem.program.program import Program, Step
from embergem.program.rewrite import rewrite

LENGTHS = [1, 2, 3, 5, 6, 7, 8, 15, 16, 17, 23, 24, 25, 31, 33, 49]


class Case:
    """A forward function with random weights, run by the reference and by the executor."""

    def __init__(self, forward, directory, seed=0):
        self.forward = forward
        self.random = np.random.default_rng(seed)
        self.tensors = {}
        self.path = directory / "model.safetensors"
        trace, batch = Trace(), TracedBatch()
        output = forward(trace, traced_weights(), batch)
        self.program = self.assemble(trace, output)

    def assemble(self, trace, output):
        state = rewrite(trace.calls)
        placed, specs = plan(state, output), {}
        steps = tuple(
            Step(
                call.op,
                placed.places[call.out.index],
                tuple(placed.places[value.index] for value in call.inputs),
                {role: specs.setdefault(spec, len(specs)) for role, spec in call.weights.items()},
                call.parameters,
            )
            for call in state.calls
        )
        return Program("test", tuple(specs), tuple(placed.buffers), steps, placed.places[output.index])

    def weight(self, name, shape):
        if name not in self.tensors:
            scale = shape[-1] ** -0.5 if len(shape) > 1 and "table" not in name else 1.0
            self.tensors[name] = (self.random.standard_normal(shape) * scale).astype(np.float32)
        return self.tensors[name]

    def reference(self, rows):
        return self.forward(Reference(), WeightLookup(self.weight), Batch(*pack(rows)))

    def native(self, rows, **options):
        save_file(self.tensors, self.path)
        return Model.load(self.program.to_json(), [("", str(self.path))], **options).run(*pack(rows))


def embed(ops, weights, batch, width=40, vocab=50, **more):
    return ops.embed(batch, weights("table", vocab, width), **more)


def linear(out, features, kind=None, bias=True):
    def forward(ops, w, batch):
        x = ops.linear(embed(ops, w, batch, features), w("w", out, features), w("b", out) if bias else None)
        return ops.pool(batch, ops.activation(x, kind=kind) if kind else x, kind="mean")

    return forward


def norm(width, **options):
    def forward(ops, w, batch):
        group = options.get("per_head") or width
        bias = w("bias", group) if options["kind"] == "layer" else None
        x = ops.norm(embed(ops, w, batch, width), w("weight", group), eps=1e-6, bias=bias, **options)
        return ops.pool(batch, x, kind="max")

    return forward


def residual(before):
    def forward(ops, w, batch):
        x = embed(ops, w, batch)
        h = ops.linear(x, w("w", 40, 40))
        if before:
            x = ops.norm(ops.add(x, h), w("n", 40), bias=w("nb", 40), kind="layer", eps=1e-12)
        else:
            x = ops.add(x, ops.norm(h, w("n", 40), kind="rms", eps=1e-6, plus_one=True))
        return ops.pool(batch, x, kind="mean")

    return forward


def attention(heads, kv_heads, d, bias=False, llama3=None, **options):
    def forward(ops, w, batch):
        x = embed(ops, w, batch, 24)
        q = ops.rope(batch, ops.linear(x, w("q", heads * d, 24)), head_dim=d, theta=1e4, llama3=llama3)
        k = ops.rope(batch, ops.linear(x, w("k", kv_heads * d, 24)), head_dim=d, theta=1e4, llama3=llama3)
        v = ops.linear(x, w("v", kv_heads * d, 24))
        extra = {"bias": w("buckets", 32, heads)} if bias else {}
        x = ops.attention(batch, q, k, v, heads=heads, kv_heads=kv_heads, head_dim=d, scale=d**-0.5, **options, **extra)
        return ops.pool(batch, x, kind="last")

    return forward


def gated(kind):
    def forward(ops, w, batch):
        x = embed(ops, w, batch)
        gate, up = ops.linear(x, w("gate_up", 36, 40), rows=(0, 18)), ops.linear(x, w("gate_up", 36, 40), rows=(18, 36))
        return ops.normalise(ops.pool(batch, ops.glu(gate, up, kind=kind), kind="cls"))

    return forward


def arithmetic(ops, w, batch):
    x = embed(ops, w, batch, positions=w("places table", 60, 40), offset=2, types=w("types", 2, 40))
    y = ops.add(ops.scale(x, 0.5), ops.activation(x, kind="tanh"))
    return ops.pool(batch, ops.add(ops.scale(y, w("scalar", 1)), x), kind="mean")


CASES = {
    "embed": lambda ops, w, b: ops.pool(b, ops.scale(embed(ops, w, b), 3.0), kind="mean"),
    "arithmetic": arithmetic,
    "linear 1x1": linear(1, 1),
    "linear 17x3": linear(17, 3),
    "linear 16x300": linear(16, 300, bias=False),
    "linear 130x515": linear(130, 515, "gelu_erf"),
    "linear gelu_tanh": linear(33, 20, "gelu_tanh"),
    "linear silu": linear(9, 20, "silu"),
    "linear relu": linear(9, 20, "relu"),
    "linear sigmoid": linear(9, 20, "sigmoid"),
    "rms": norm(41, kind="rms"),
    "rms plus one per head": norm(48, kind="rms", plus_one=True, per_head=12),
    "layer": norm(37, kind="layer"),
    "residual before": residual(before=True),
    "residual after": residual(before=False),
    "attention": attention(2, 2, 8),
    "attention grouped": attention(6, 2, 20),
    "attention radius": attention(3, 1, 16, radius=4),
    "attention radius 0": attention(2, 1, 16, radius=0),
    "attention causal": attention(4, 4, 6, causal=True),
    "attention causal radius": attention(4, 2, 34, causal=True, radius=7),
    "attention bias": attention(4, 4, 8, bias=True),
    "attention bias furthest": attention(4, 4, 8, bias=True, furthest=20),
    "rope llama3": attention(2, 2, 32, llama3=Llama3Scaling(8.0, 1.0, 4.0, 64.0)),
    "glu gelu_tanh": gated("gelu_tanh"),
    "glu gelu_erf": gated("gelu_erf"),
    "glu silu": gated("silu"),
}


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("name", CASES)
def test_kernel_agrees_with_the_specification(name, instruction_set, tmp_path):
    case = Case(CASES[name], tmp_path)
    rows = [case.random.integers(0, 50, length) for length in LENGTHS]
    expected = case.reference(rows)
    found = case.native(rows, instruction_set=instruction_set)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("name", CASES)
def test_same_bits_alone_and_in_any_batch(name, instruction_set, tmp_path):
    case = Case(CASES[name], tmp_path)
    rows = [case.random.integers(0, 50, length) for length in [*LENGTHS, *LENGTHS]]
    case.reference(rows[:1])
    together = case.native(rows, instruction_set=instruction_set)
    order = case.random.permutation(len(rows))
    shuffled = case.native([rows[i] for i in order], instruction_set=instruction_set, threads=1)
    assert np.array_equal(shuffled, together[order])
    for index, row in enumerate(rows[: len(LENGTHS)]):
        assert np.array_equal(case.native([row], instruction_set=instruction_set)[0], together[index])
