"""Programs: which calls are fused, and that fusing does not change the result."""

from dataclasses import replace

import numpy as np
import pytest
from goldens import TINY, golden, pack

from embergem.ops import Llama3Scaling
from embergem.ops.reference import Batch, Reference
from embergem.ops.trace import Trace, TracedBatch, traced_weights
from embergem.program.build import build
from embergem.program.cost import flops
from embergem.program.program import program_key
from embergem.program.rewrite import rewrite


def trace(checkpoint):
    recorded = Trace()
    checkpoint.architecture.vectors(checkpoint.head, recorded, traced_weights(), TracedBatch())
    return recorded.calls


def interpret(program, checkpoint, rows):
    """Run a program step by step with the NumPy specification and return its vectors."""
    ops, lookup, batch = Reference(), checkpoint.weights().lookup, Batch(*pack(rows))
    lengths = {"tokens": len(batch.ids), "rows": len(rows)}
    buffers = [np.full((lengths[b.axis], b.width), np.nan, dtype=np.float32) for b in program.buffers]

    def at(operand):
        return buffers[operand.buffer][:, operand.column : operand.column + operand.width]

    def weight(number):
        spec = program.weights[number]
        parts = [lookup(s.tensor, s.shape)[slice(*(s.rows or (None,)))] for s in spec.sources]
        return np.concatenate(parts) + np.float32(spec.add)

    for step in program.steps:
        x = [at(operand).copy() for operand in step.inputs]
        w = {role: weight(number) for role, number in step.weights.items()}
        p = dict(step.parameters)
        match step.op:
            case "embed":
                scale = p.pop("by", 1.0)
                y = ops.embed(batch, w.pop("table"), **w, **p) * np.float32(scale)
            case "norm":
                residual, group = p.pop("residual", None), p.pop("group")
                y = x[0] + x[1] if residual == "before" else x[0]
                y = ops.norm(y, w.get("weight"), bias=w.get("bias"), per_head=group, **p)
                y = y + x[1] if residual == "after" else y
            case "linear":
                y = ops.linear(x[0], w["weight"], w.get("bias"))
                y = ops.activation(y, kind=p["activation"]) if "activation" in p else y
                y = ops.glu(*np.split(y, 2, axis=1), kind=p["gate"]) if "gate" in p else y
            case "rope":
                assert p.pop("dim") == p["head_dim"]
                llama3 = p.pop("llama3", None)
                y = ops.rope(batch, x[0], llama3=llama3 and Llama3Scaling(**llama3), **p)
            case "attention":
                y = ops.attention(batch, *x, bias=w.get("bias"), **p)
            case "pool":
                y = ops.pool(batch, x[0], **p)
            case "scale":
                y = ops.scale(x[0], w.get("by", p.get("by")))
            case _:
                y = getattr(ops, step.op)(*x, **p)
        at(step.out)[:] = y
    return at(program.output)


@pytest.mark.parametrize("name", TINY)
def test_the_rewritten_program_computes_the_same_vectors(name):
    checkpoint = golden(name)
    rows = checkpoint.ids[1:8]
    found = interpret(build(checkpoint.architecture, checkpoint.head), checkpoint, rows)
    assert np.abs(found - checkpoint.vectors[1:8]).max() < 1e-6


@pytest.mark.parametrize(("name", "linears"), [("gemma3_text", 4), ("bert_mean", 4), ("embedding_gemma2", 7)])
def test_products_of_one_input_are_stacked(name, linears):
    checkpoint = golden(name)
    before, after = trace(checkpoint), rewrite(trace(checkpoint)).calls
    assert len(after) < len(before)
    attentions = sum(call.op == "attention" for call in after)
    assert sum(call.op == "linear" for call in after) // attentions == linears
    assert not any(call.op == "activation" for call in after)
    assert sum(call.op == "glu" for call in after) == (attentions if name == "embedding_gemma2" else 0)


def test_keys_differ_between_models_and_are_stable():
    described = {name: golden(name) for name in TINY}
    programs = {name: build(one.architecture, one.head) for name, one in described.items()}
    computed = {(one.architecture.arithmetic, one.architecture.config, one.head) for one in described.values()}
    assert len({program.key for program in programs.values()}) == len(computed) >= len(TINY) - 1
    again = build(golden("qwen3").architecture, golden("qwen3").head)
    assert again == programs["qwen3"]
    assert again.to_json() == programs["qwen3"].to_json()


def test_arithmetic_is_counted():
    checkpoint = golden("gemma3_text")
    program = build(checkpoint.architecture, checkpoint.head)
    config = checkpoint.architecture.config
    hidden, inner, d = config.hidden_size, config.intermediate_size, config.head_dim
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    layer = hidden * (heads + 2 * kv_heads) * d + hidden * heads * d + 3 * hidden * inner
    dense = sum(m.in_features * m.out_features for m in checkpoint.head if hasattr(m, "in_features"))
    pairs = {True: 40 * 40, False: sum(min(i, config.radius) + min(39 - i, config.radius) + 1 for i in range(40))}
    attention = sum(4 * heads * d * pairs[full] for full in config.full_attention)
    expected = 2 * 40 * len(config.full_attention) * layer + 2 * dense + attention
    assert flops(program, [40]) == expected
    assert flops(program, [40, 40]) == 2 * expected


def test_families_with_equal_configs_have_different_keys():
    described = golden("bert_mean").architecture
    head = golden("bert_mean").head
    keys = {build(replace(described, arithmetic=name), head).key for name in ("bert", "first", "second")}
    assert len(keys) == 3


def test_a_family_with_the_arithmetic_of_another_has_its_key():
    camembert = golden("camembert")
    assert camembert.architecture.arithmetic == "roberta"
    assert build(camembert.architecture, camembert.head).key == program_key(
        camembert.architecture.config, camembert.head
    )
