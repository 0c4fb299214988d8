"""Rows of the tables of families in docs/models.md, derived from the declarations and the golden checkpoints."""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.read import read_checkpoint
from embergem.models import architecture, families, model_type_of
from embergem.ops.trace import Recorded, Trace, TracedBatch, traced_weights

GOLDENS = Path(__file__).parents[1] / "tests" / "data" / "goldens"


def goldens(module: str, roots: Sequence[Path] = (GOLDENS,)) -> list[Path]:
    """Return the golden checkpoints of the family in `module`, in name order: those whose files name it."""
    model_types = families()[module].model_types
    directories = [file.parent for root in roots for file in sorted(root.glob("*/modules.json"))]
    return [directory for directory in directories if _model_type(directory) in model_types]


@cache
def _model_type(directory: Path) -> object:
    return model_type_of(read_checkpoint(Location(directory.name, directory)).config)


def parity_row(module: str, tiny: str, larger: str) -> str:
    """Return the row of a family in the table of families, with the cells of measured differences."""
    family = families()[module]
    names = ", ".join(f"`{name}`" for name in family.arch_names)
    return f"| {family.title} | {names} | {family.checkpoints} | {family.differs} | {tiny} | {larger} |"


def operations(module: str, roots: Sequence[Path] = (GOLDENS,)) -> list[str]:
    """Return the operations that a family uses besides those that every family uses, as its goldens call them."""
    found: set[str] = set()
    for directory in goldens(module, roots):
        checkpoint = read_checkpoint(Location(directory.name, directory))
        trace = Trace()
        architecture(checkpoint.config).vectors(checkpoint.head, trace, traced_weights(), TracedBatch())
        found |= {f"{call.op}({', '.join(options)})" for call in trace.calls if (options := list(_options(call)))}
    return sorted(found)


def _options(call: Recorded) -> Iterator[str]:
    """Yield the options of a call that differ from the plainest call of its operation."""
    parameters, weights = call.parameters, call.weights
    match call.op:
        case "embed":
            yield from (role for role in ("positions", "types") if role in weights)
        case "norm":
            yield str(parameters["kind"])
            if parameters["group"] != call.out.width:
                yield "per_head"
            if "weight" not in weights:
                yield "no weight"
            elif weights["weight"].add:
                yield "plus_one"
        case "linear":
            yield from ("rows" for source in weights["weight"].sources if source.rows)
        case "rope":
            yield f"theta {parameters['theta']:g}"
        case "attention":
            yield from (name for name in ("causal", "radius") if parameters.get(name))
            yield from ("bias" for _ in range("bias" in weights))
            if parameters["kv_heads"] != parameters["heads"]:
                yield "grouped heads"
        case "glu" | "activation":
            yield str(parameters["kind"])
        case "scale":
            yield "weight" if "by" in weights else "number"
        case "pool":
            yield str(parameters["kind"])
