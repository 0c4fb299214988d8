"""Write the programs that the Rust crate carries: the cards of published models and of the golden checkpoints.

    python scripts/programs.py

Each file is a program card (`embergem.program.card`) on one line, traced from the Python model. The golden checkpoints
of the tests are among them, so that every family can be tried without a download. `tests/rust/test_rust_programs.py`
fails if a file is stale.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from families import GOLDENS, goldens
from published_configs import PUBLISHED, spellings

from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.read import read_checkpoint
from embergem.models import families
from embergem.models.head import Module
from embergem.program.card import card

ROOT = Path(__file__).parents[1]
PROGRAMS = ROOT / "crates" / "embergem" / "programs"


def files(roots: Sequence[Path] = (GOLDENS,)) -> dict[str, str]:
    """Return the text of each file of the directory by its name, with the cards of the goldens in `roots`.

    Families that share their arithmetic can have a program in common. The file of the second one also has its name.

    Raises:
        ValueError: Two models of a family have the same program; name both in one `Published`.
    """
    made: dict[str, str] = {}
    published = [(model.models, spellings(model.config), model.head) for model in PUBLISHED]
    for models, configs, head in [*published, *_of_goldens(roots)]:
        document: dict[str, Any] = {"models": models, **card(configs, head)}
        name = f"{document['key'][:16]}.json"
        if name in made and json.loads(made[name])["model_type"] != document["model_type"]:
            name = f"{document['key'][:16]}-{document['model_type']}.json"
        if name in made:
            raise ValueError(f"{', '.join(models)} has the program of {', '.join(json.loads(made[name])['models'])}")
        made[name] = json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n"
    made["table.rs"] = _table(sorted(made))
    return made


def _of_goldens(roots: Sequence[Path]) -> Iterator[tuple[tuple[str, ...], list[dict[str, Any]], tuple[Module, ...]]]:
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
    print(f"{PROGRAMS.relative_to(ROOT)}: {len(made)} files, {sum(map(len, made.values())) // 1024} KiB")


if __name__ == "__main__":
    main()
