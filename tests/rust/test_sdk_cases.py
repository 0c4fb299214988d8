"""One file of cases through both SDKs: the same token ids, limits, tasks, sizes, bits and errors.

`tests/data/sdk_cases.json` is a list of cases. A case names a golden checkpoint, edits of its files, load options and a
request, and what both SDKs must give: either an error code, or ids, limit, tasks, sizes, truncated inputs and the first
numbers of each vector. `crates/embergem/src/sdk_cases.rs` runs the same file. The bits of vectors depend on the
instruction set, so they are not in the file: the last test compares those of the two SDKs on this machine. It also
compares error messages, except in cases with `own_words`: they name options of the SDK, or families that it knows.

A new case needs no `expect`: `python tests/rust/test_sdk_cases.py` fills in what Python gives. Check it by reading.
"""

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the run as a program
from goldens import DATA, TINY, copy_model

from embergem import Embedder
from embergem.checkpoint.checkpoint import Location
from embergem.errors import EmbergemError
from embergem.loader import load
from embergem.options import LoadOptions
from embergem.types import Request

ROOT = DATA.parents[2]
FILE = DATA.parent / "sdk_cases.json"
CASES = json.loads(FILE.read_text())
SHOWN = 3
"""Numbers of each vector in the file."""
TOLERANCE = {"float32": 2e-5, "bfloat16": 1e-3, "int16": 1e-3, "int8": 3e-2}
"""Largest difference of a number between machines, by dtype. Only some machines round rows to bfloat16."""


def text_of(value):
    """A text of a case: a string, a string repeated some times, or UTF-16 code units, which need not be valid."""
    match value:
        case {"repeat": text, "times": times}:
            return text * times
        case {"utf16": units}:
            return "".join(map(chr, units))
    return value


def edit(directory, change):
    """Apply one edit of a case to a copy of a checkpoint."""
    file = directory / change["file"]
    match change:
        case {"remove": True}:
            file.unlink()
        case {"rename": name}:
            file.rename(directory / name)
        case {"text": text}:
            file.write_text(text)
        case {"set": fields}:
            content = json.loads(file.read_text()) if file.exists() else {}
            file.write_text(json.dumps(content | fields))
        case {"replace": [old, new]}:
            content = file.read_bytes()
            assert content.count(old.encode()) == 1, "the text that is replaced must occur once"
            file.write_bytes(content.replace(old.encode(), new.encode()))
        case {"keep_bytes": size}:
            file.write_bytes(file.read_bytes()[:size])


def options_of(case):
    """The load options of a case."""
    options = dict(case.get("options", {}))
    if "tokenizer" in options:
        options["tokenizer"] = DATA / options["tokenizer"]
    return options


def request_of(case):
    """The request of a case, and its arguments for `Embedder.embed`."""
    texts = None if "texts" not in case else [text_of(text) for text in case["texts"]]
    fields = {"task": case.get("task"), "dimensions": case.get("dimensions"), "truncate": case.get("truncate", False)}
    request = Request(texts=texts, ids=case.get("ids"), titles=case.get("titles"), **fields)
    return request, {"texts": texts if texts is not None else case["ids"], "title": case.get("titles"), **fields}


def result_of(case, directory):
    """What Python gives for a case, as in `expect`, and all vectors or the message of an error."""
    path = TINY[case["checkpoint"]]
    if "edits" in case:
        path = copy_model(case["checkpoint"], directory / "model")
        for change in case["edits"]:
            edit(path, change)
    request, arguments = request_of(case)
    try:
        with (
            load(LoadOptions(**options_of(case)), location=Location("model", path)) as engine,
            Embedder(engine) as embedder,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            vectors = embedder.embed(**arguments)
            rows = engine.prepare(request)
            return {
                "limit": embedder.limit,
                "tasks": list(embedder.tasks),
                "allowed_dimensions": list(embedder.allowed_dimensions[:4]),
                "ids": [row.ids.tolist() for row in rows],
                "truncated": [index for index, row in enumerate(rows) if row.length > len(row.ids)],
                "vectors": [[round(float(value), 5) for value in vector[:SHOWN]] for vector in vectors],
            }, vectors
    except EmbergemError as error:
        return {"error": error.code}, str(error).replace(str(path), "MODEL")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What Python gives for each case, computed once."""
    known = {}

    def result(case):
        if case["name"] not in known:
            known[case["name"]] = result_of(case, tmp_path_factory.mktemp("case"))
        return known[case["name"]]

    return result


def test_the_cases_cover_many_goldens_and_every_kind_of_error():
    assert len({case["name"] for case in CASES}) == len(CASES) >= 60
    assert len({case["checkpoint"] for case in CASES}) >= 11  # test_rust_sdk.py compares the bits of all
    codes = {case["expect"].get("error") for case in CASES}
    assert codes >= {
        "context_length_exceeded", "corrupt_checkpoint", "empty_input", "invalid_dimensions", "invalid_task",
        "invalid_text", "missing_tensor", "model_not_ready", "token_out_of_range", "unsupported_model",
        "unsupported_option",
    }  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_python(results, case):
    found, _ = results(case)
    expect = dict(case["expect"])
    if "vectors" in expect and "vectors" in found:
        tolerance = TOLERANCE[case.get("options", {}).get("dtype", "float32")]
        assert np.allclose(found.pop("vectors"), expect.pop("vectors"), rtol=0, atol=tolerance)
    assert found == expect


@pytest.mark.skipif(not shutil.which("cargo"), reason="cargo is not installed")
def test_rust_has_the_bits_and_the_messages_of_python(results, tmp_path):
    output = tmp_path / "rust.json"
    command = ["cargo", "test", "--profile", "checks", "--quiet", "--locked", "--package", "embergem", "--lib"]
    done = subprocess.run(
        [*command, "sdk_cases"], cwd=ROOT, env={**os.environ, "EMBERGEM_CASE_RESULTS": str(output)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rust = json.loads(output.read_text())
    cases = [case for case in CASES if case.get("only") != "python"]
    assert set(rust) == {case["name"] for case in cases}
    different = {}
    for case in cases:
        _, python = results(case)
        if case.get("own_words"):
            continue
        same = python.view(np.uint32).ravel().tolist() if isinstance(python, np.ndarray) else python
        if rust[case["name"]] != same:
            different[case["name"]] = (rust[case["name"]], same) if isinstance(same, str) else "other bits"
    assert not different


def record(directory):
    """Fill in `expect` where it is missing."""
    for number, case in enumerate(CASES):
        if "expect" not in case:
            case["expect"] = result_of(case, directory / str(number))[0]
    lines = ",\n".join(" " + json.dumps(case, ensure_ascii=False) for case in CASES)
    FILE.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        record(Path(directory))
