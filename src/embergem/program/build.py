"""Build the program of a model: trace its family and head, fuse steps, assign buffers.

Separate because the other modules of this package know traces and programs, and only this one knows model families.
"""

from collections.abc import Callable, Sequence

from embergem.models import Architecture
from embergem.models.head import Module
from embergem.ops.trace import Recorded, Trace, TracedBatch, WeightSpec, traced_weights
from embergem.program.plan import plan
from embergem.program.program import Program, Step, program_key
from embergem.program.rewrite import rewrite

KEYED_BY_CONFIG = frozenset(
    {"bert", "embedding_gemma2", "gemma3_text", "modernbert", "mpnet", "nomic_bert", "qwen3", "roberta", "static"}
)
"""Families that the program key does not name, because the key is part of fingerprints that are in use. Do not add one.

The key names every other family: two families can have equal configs and compute different vectors.
"""


def build(
    architecture: Architecture, head: Sequence[Module], *, alter: Callable[[Recorded], Recorded] | None = None
) -> Program:
    """Return the program that computes the model and `head`.

    `alter` replaces each call of the trace; `embergem verify` builds the programs of faulty engines with it. The key of
    the program does not show the change, so an altered program is not to be stored.
    """
    trace = Trace()
    output = architecture.vectors(head, trace, traced_weights(), TracedBatch())
    state = rewrite(trace.calls if alter is None else [alter(call) for call in trace.calls])
    placed = plan(state, output)
    specs: dict[WeightSpec, int] = {}
    steps = tuple(
        Step(
            op=call.op,
            out=placed.places[call.out.index],
            inputs=tuple(placed.places[value.index] for value in call.inputs),
            weights={role: specs.setdefault(spec, len(specs)) for role, spec in call.weights.items()},
            parameters=call.parameters,
        )
        for call in state.calls
    )
    family = architecture.arithmetic
    return Program(
        key=program_key(architecture.config, head, None if family in KEYED_BY_CONFIG else family),
        weights=tuple(specs),
        buffers=tuple(placed.buffers),
        steps=steps,
        output=placed.places[output.index],
        prefixes=architecture.family.prefixes,
    )
