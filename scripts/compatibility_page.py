"""Write docs/compatibility.md from the tables of the compatibility classes.

python scripts/compatibility_page.py [--check]

With --check nothing is written; the exit status is 1 when the page is stale.
"""

import inspect
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from generated import write_or_check

from embergem import EmbeddingModelBuilder, Runner, Which
from embergem.compat.arguments import Different, Ignored, Refused, Table
from embergem.compat.mistralrs.tables import EMBEDDING_MODEL_BUILDER, RUNNER, WHICH_EMBEDDING
from embergem.compat.sentence_transformers.tables import CONSTRUCTOR, ENCODE, MEMBERS, NAMES
from embergem.sentence_transformers import SentenceTransformer, util

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "compatibility.md"
API = ROOT / "tests" / "data" / "sentence_transformers_api.json"
KINDS = {type(None): "same", Different: "different", Ignored: "ignored", Refused: "refused"}
INTRODUCTION = """\
# Coming from mistral.rs or sentence-transformers

Use this page to see what happens to each argument when you replace an import of mistral.rs or sentence-transformers with embergem's class of the same shape. *Accepted* arguments keep their meaning. *Refused* ones raise `UnsupportedOption` with the reason below. *Ignored* ones issue an `IgnoredOptionWarning`, and no vector depends on them.

Generated from the tables in `embergem.compat` by `make compatibility-page`; a test fails when it is stale.

```python
from embergem import EmbeddingRequest, Runner, Which  # was: from mistralrs import ...
from embergem.sentence_transformers import SentenceTransformer  # was: from sentence_transformers import ...

runner = Runner(which=Which.Embedding("tests/data/goldens/gemma3_text"))
vectors = runner.send_embedding_request(EmbeddingRequest(input=["What is graphene?"]))
model = SentenceTransformer("tests/data/goldens/gemma3_text")
print(len(vectors[0]), model.encode("What is graphene?").shape)
```
"""  # noqa: E501 - a paragraph of Markdown is one line


def main() -> int:
    """Write the page or, with --check, compare it."""
    return write_or_check(PAGE, "\n".join(lines()).rstrip() + "\n", "compatibility-page")


def lines() -> Iterator[str]:
    """Return the lines of the page."""
    yield INTRODUCTION
    methods = [name for name in vars(EmbeddingModelBuilder) if not name.startswith("_") and name != "build"]
    yield from section("Runner", inspect.signature(Runner).parameters, RUNNER)
    yield from section("Which.Embedding", inspect.signature(Which.Embedding).parameters, WHICH_EMBEDDING)
    yield from section("EmbeddingModelBuilder", methods, EMBEDDING_MODEL_BUILDER)
    accepted = [name for name in inspect.signature(SentenceTransformer).parameters if name != "options"]
    yield from section("SentenceTransformer", [*accepted, *CONSTRUCTOR], CONSTRUCTOR)
    encode = [name for name in inspect.signature(SentenceTransformer.encode).parameters if name != "self"]
    yield from section("SentenceTransformer.encode", encode, ENCODE)
    yield from members()


def members() -> Iterator[str]:
    """Return the table of the members of `SentenceTransformer`, and that of the names of its module."""
    recorded = json.loads(API.read_text(encoding="utf-8"))
    yield "## Members of SentenceTransformer"
    yield ""
    yield f"Every public member of the class in sentence-transformers {recorded['version']}. *Same* members have a test of their value. Members that the class has from `torch.nn.Module` and that are not listed, such as `state_dict` or `parameters`, are refused with an `AttributeError`."  # noqa: E501
    yield ""
    yield "| member | here | reason or difference |"
    yield "| --- | --- | --- |"
    for name, member in recorded["members"].items():
        treatment = MEMBERS.get(name)
        if treatment is not None or not member["torch"]:
            yield f"| `{name}` | {KINDS[type(treatment)]} | {treatment.reason if treatment else ''} |"
    yield ""
    yield "`embergem.sentence_transformers.util` has: " + ", ".join(f"`{name}`" for name in util.__all__) + "."
    yield ""
    yield "Importing one of these names raises an `ImportError` with the reason: "
    yield ", ".join(f"`{name}`" for name in NAMES) + "."
    yield ""


def section(title: str, names: Iterable[str], table: Table) -> Iterator[str]:
    """Return the table of one class."""
    yield f"## {title}"
    yield ""
    yield "| argument | treatment | reason |"
    yield "| --- | --- | --- |"
    for name in names:
        treatment = table.get(name)
        kind = "accepted" if treatment is None else "refused" if isinstance(treatment, Refused) else "ignored"
        yield f"| `{name}` | {kind} | {treatment.reason if treatment else ''} |"
    yield ""


if __name__ == "__main__":
    sys.exit(main())
