"""Run the cases of tests/data/reference_cases.json through embergem, and write the table in docs/trust.md.

    python scripts/reference_table.py [--check]

An outcome is "equal" (embergem's vectors are those that the published library gives for the changed checkpoint),
"refused" (embergem gives an error), "accepted" (`MEANT` and `FAILS` have the reasons), or "wrong".
`tests/models/test_reference_cases.py` accepts no wrong one.
"""

import json
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from families import GOLDENS, goldens
from generated import write_or_check

from embergem import TruncationWarning, _native
from embergem.checkpoint.checkpoint import Checkpoint, Location
from embergem.checkpoint.read import read_checkpoint
from embergem.engine.prepare import Prepared, prepare, text_pipeline
from embergem.errors import EmbergemError
from embergem.models import families
from embergem.types import Vectors, pack

ROOT = Path(__file__).parents[1]
CASES: dict[str, Any] = json.loads((GOLDENS.parent / "reference_cases.json").read_text(encoding="utf-8"))
PAGE = ROOT / "docs" / "trust.md"
BEGIN, END = "<!-- fields: make reference-table -->\n", "<!-- /fields -->\n"
TOLERANCE = 2e-5
MEANT = {
    "use_bidirectional_attention": "text-embeddings-inference and the authors mean it; transformers ignores it here",
}
"""Fields of config.json that embergem follows on purpose where the library does not, with the reason."""
FAILS = (
    "Padding_idx must be within num_embeddings",
    "Validation error for field 'classifier_dropout'",
    "Could not access output key 'last_hidden_state'",
    "is not homogeneous across layers",
    "unexpected keyword argument 'add_pooling_layer'",
    "requires also providing module",
    "The size of tensor",
    "The expanded size of the tensor",
    "index 162 is out of bounds",
)
"""Errors of the library that are no answer: it fails on a default of its own, on the type of a field that changes
nothing, or on a text that is longer than its position table, which embergem truncates with a warning."""


UNCHANGED = {"file": "modules.json", "set": {}}
"""The edit that leaves a checkpoint as it is."""


@dataclass(frozen=True)
class Outcome:
    """What embergem does with a case: "equal", "refused", "accepted" or "wrong", and the error or both answers."""

    edit: dict[str, Any]
    kind: str
    detail: str


def apply(directory: Path, edit: dict[str, Any]) -> None:
    """Change a file of the checkpoint in `directory`."""
    file = directory / edit["file"]
    match edit:
        case {"remove": True}:
            file.unlink(missing_ok=True)
        case {"rename": name}:
            file.rename(directory / name)
        case {"text": text}:
            file.write_text(text)
        case _:
            content = json.loads(file.read_text())
            fields = content[edit["inside"]] if "inside" in edit else content
            if not edit.get("set") and "unset" not in edit:
                return
            fields.update(edit.get("set", {}))
            fields.pop(edit.get("unset"), None)
            file.write_text(json.dumps(content))


@contextmanager
def changed(directory: Path, edit: dict[str, Any]) -> Iterator[None]:
    """Change the checkpoint in `directory` until the block ends."""
    names = [edit["file"], *([edit["rename"]] if "rename" in edit else [])]
    before = {name: (directory / name).read_bytes() for name in names if (directory / name).exists()}
    apply(directory, edit)
    try:
        yield
    finally:
        for name in names:
            (directory / name).unlink(missing_ok=True)
        for name, content in before.items():
            (directory / name).write_bytes(content)


class Subject:
    """A golden checkpoint in a scratch directory. `vectors` computes only if the checkpoint became another model."""

    def __init__(self, name: str, scratch: Path) -> None:
        self.directory = scratch / name
        ignored = shutil.ignore_patterns("expected.npz", "inputs.json")
        shutil.copytree(GOLDENS / name, self.directory, ignore=ignored)
        self._known: dict[str, Vectors] = {}

    def vectors(self) -> Vectors:
        """Return the vectors of the texts of the cases, truncated as the library does it.

        Raises:
            EmbergemError: The checkpoint is refused.
        """
        checkpoint = read_checkpoint(Location("model", self.directory))
        prepared = prepare(checkpoint, "model")
        program = prepared.program.to_json()
        _native.require_all_read(program, checkpoint.files)
        tokenizer = checkpoint.tokenizer.read_text(encoding="utf-8")
        key = json.dumps([program, prepared.limit, tokenizer, prepared.bare])
        if key not in self._known:
            self._known[key] = self._compute(checkpoint, prepared, program)
        return self._known[key]

    def _compute(self, checkpoint: Checkpoint, prepared: Prepared, program: str) -> Vectors:
        text = text_pipeline(checkpoint, prepared)
        rows = [ids for ids, _ in text.prepare(CASES["texts"], truncate=True)]
        return _native.Model.load(program, checkpoint.files).run(*pack(rows))


def outcomes(name: str) -> Iterator[Outcome]:
    """Yield the outcome of each case of the golden `name`, after one of the unchanged checkpoint."""
    stored = CASES["answers"][name]
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        subject = Subject(name, Path(scratch))
        for case in [{"edit": UNCHANGED, "answer": "same"}, *stored["cases"]]:
            edit, answer = case["edit"], case["answer"]
            with changed(subject.directory, edit):
                try:
                    found = subject.vectors()
                except EmbergemError as error:
                    yield Outcome(edit, "refused", str(error).replace(scratch, "DIR"))
                    continue
            expected = stored["base"] if answer == "same" else answer
            detail = f"{found[:, :4].tolist()} instead of {answer}"
            if not isinstance(expected, str) and np.allclose(
                found[:, : len(expected[0])], expected, rtol=0, atol=TOLERANCE
            ):
                yield Outcome(edit, "equal", detail)
            elif any(field in MEANT for field in edit.get("set", {})) or any(text in answer for text in FAILS):
                yield Outcome(edit, "accepted", detail)
            else:
                yield Outcome(edit, "wrong", detail)


@cache
def results(name: str) -> tuple[Outcome, ...]:
    """Return the outcomes of the golden `name`; the test of the cases and that of the table share them."""
    return tuple(outcomes(name))


def row(module: str) -> str:
    """Return the row of a family in the table: fields of config.json, and settings and files beside it."""
    found = [one for path in goldens(module) if path.name in CASES["answers"] for one in results(path.name)]
    config = [one for one in found if one.edit["file"] == "config.json"]
    beside = [one for one in found if one.edit["file"] != "config.json" and one.edit != UNCHANGED]
    cells = []
    for part in (config, beside):
        count = Counter(one.kind for one in part)
        cells += [str(len(part)), *(str(count[kind]) for kind in ("equal", "refused", "accepted"))]
    return f"| {families()[module].title} | {' | '.join(cells)} |"


def page() -> str:
    """Return docs/trust.md with the table of this version."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    head = (
        "| family | fields tried | equal | refused | accepted | other settings, files | equal | refused | accepted |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
    )
    modules = [name for name in families() if any(path.name in CASES["answers"] for path in goldens(name))]
    table = head + "".join(f"{row(module)}\n" for module in modules)
    return f"{before}{BEGIN}{table}{END}{after}"


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, page(), "reference-table"))
