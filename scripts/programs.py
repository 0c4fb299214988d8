"""Write the programs that the Rust crate carries: the cards of published models and of the golden checkpoints.

    python scripts/programs.py

Each file is a program card (`embergem.program.card`) on one line, traced from the Python model. The golden checkpoints
of the tests are among them, so that every family can be tried without a download. `tests/rust/test_rust_programs.py`
fails if a file is stale.

The keys and the arithmetic of new models are added to `tests/data/program_keys.json` and `program_arithmetic.json`.
Entries that are there stay: `tests/models/test_program_keys.py` says what to do when they differ.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from families import GOLDENS, goldens
from published_configs import PUBLISHED, spellings

from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.read import read_checkpoint
from embergem.models import architecture, families
from embergem.models.head import Module
from embergem.ops.trace import Trace, TracedBatch, traced_weights
from embergem.program.card import card

ROOT = Path(__file__).parents[1]
PROGRAMS = ROOT / "crates" / "embergem" / "programs"
KEYS, ARITHMETIC = (ROOT / "tests" / "data" / f"program_{name}.json" for name in ("keys", "arithmetic"))


def files(roots: Sequence[Path] = (GOLDENS,)) -> dict[str, str]:
    """Return the text of each file of the directory by its name, with the cards of the goldens in `roots`.

    Families that share their arithmetic can have a program in common. The file of the second one also has its name.

    Raises:
        ValueError: Two models of a family have the same program; name both in one `Published`.
    """
    made: dict[str, str] = {}
    for models, configs, head in _models(roots):
        document: dict[str, Any] = {"models": models, **card(configs, head)}
        name = f"{document['key'][:16]}.json"
        if name in made and json.loads(made[name])["model_type"] != document["model_type"]:
            name = f"{document['key'][:16]}-{document['model_type']}.json"
        if name in made:
            raise ValueError(f"{', '.join(models)} has the program of {', '.join(json.loads(made[name])['models'])}")
        made[name] = json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n"
    made["table.rs"] = _table(sorted(made))
    return made


Described = tuple[tuple[str, ...], list[dict[str, Any]], tuple[Module, ...]]


def _models(roots: Sequence[Path] = (GOLDENS,)) -> list[Described]:
    """Return the names, the spellings of config.json and the head of each model."""
    published = [(model.models, spellings(model.config), model.head) for model in PUBLISHED]
    return [*published, *_of_goldens(roots)]


def arithmetic() -> dict[str, str]:
    """Return a digest of the operations that each model calls, before they are fused and placed in buffers."""
    return {name: _digest(configs[0], head) for names, configs, head in _models() for name in names}


def _digest(config: dict[str, Any], head: Sequence[Module]) -> str:
    trace = Trace()
    architecture(config).vectors(head, trace, traced_weights(), TracedBatch())
    return hashlib.sha256(json.dumps([asdict(call) for call in trace.calls], sort_keys=True).encode()).hexdigest()


def _add_new(file: Path, found: dict[str, str]) -> None:
    """Add the entries that a file of pins lacks."""
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(dict(sorted((found | known).items())), indent=1) + "\n")


def _of_goldens(roots: Sequence[Path]) -> Iterator[Described]:
    for directory in sorted(path for module in families() for path in goldens(module, roots)):
        checkpoint = read_checkpoint(Location(directory.name, directory))
        yield (f"tests/data/goldens/{directory.name}",), [checkpoint.config], checkpoint.head


def _table(names: list[str]) -> str:
    lines = "".join(f'    include_str!("{name}"),\n' for name in names)
    return f"// Written by scripts/programs.py.\n&[\n{lines}]\n"


def main() -> None:
    """Write the files, and delete files of programs that no longer exist."""
    made = files()
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    for path in PROGRAMS.iterdir():
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (PROGRAMS / name).write_text(text)
    cards = [json.loads(text) for name, text in made.items() if name != "table.rs"]
    _add_new(KEYS, {model: card["key"] for card in cards for model in card["models"]})
    _add_new(ARITHMETIC, arithmetic())
    print(f"{PROGRAMS.relative_to(ROOT)}: {len(made)} files, {sum(map(len, made.values())) // 1024} KiB")


if __name__ == "__main__":
    main()
