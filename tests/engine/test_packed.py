"""Tests of packed weights on disk: mapped by a later start, replaced when damaged or outdated, limited in size."""

import json
import os
import shutil

import numpy as np
import pytest
from goldens import DATA, golden
from typer.testing import CliRunner

from embergem import Embedder
from embergem.checkpoint import packed
from embergem.cli.app import app
from embergem.errors import UnsupportedOption

DTYPES = ("float32", "int16", "int8")
TEXTS = ["What is graphene?", "a carbon lattice"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EMBERGEM_PACKED_LIMIT", raising=False)


@pytest.fixture
def model(tmp_path):
    """A copy of the tiny EmbeddingGemma."""
    return shutil.copytree(DATA / "gemma3_text", tmp_path / "model")


def vectors(directory, dtype="float32"):
    with Embedder(directory, dtype=dtype) as embedder:
        return embedder.embed(TEXTS)


def only():
    """Return the only packed file."""
    (file,) = packed.list_files()
    return file


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_later_start_has_the_same_bits(model, dtype, monkeypatch):
    first = vectors(model, dtype)
    kept = {file.path: file.path.stat().st_ino for file in packed.list_files()}
    assert dtype in {file.dtype for file in packed.list_files()}
    np.testing.assert_array_equal(vectors(model, dtype), first)
    assert {file.path: file.path.stat().st_ino for file in packed.list_files()} == kept, "packed again"
    monkeypatch.setenv("EMBERGEM_PACKED_LIMIT", "0")
    np.testing.assert_array_equal(vectors(model, dtype), first)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("place", ["first byte", "last part", "contents", "tail", "cut", "empty"])
def test_a_damaged_file_is_replaced(model, place, dtype):
    first = vectors(model, dtype)
    path = next(file.path for file in packed.list_files() if file.dtype == dtype)
    sound = path.read_bytes()
    where = {"first byte": 0, "last part": len(sound) // 2 // 4096 * 4096, "contents": -300, "tail": -1}
    if place in where:
        damaged = bytearray(sound)
        damaged[where[place]] ^= 1
    else:
        damaged = sound[: len(sound) // 2] if place == "cut" else b""
    path.write_bytes(damaged)
    np.testing.assert_array_equal(vectors(model, dtype), first)
    assert path.read_bytes() == sound


def test_a_forged_list_of_parts_cannot_read_outside_the_file(model):
    import zlib

    first = vectors(model)
    path = only().path
    sound = path.read_bytes()
    tail = sound[-32:]
    length = int.from_bytes(tail[:8], "little")
    contents = json.loads(sound[-32 - length : -32])
    for start, size in ((2**63, 64), (0, 2**62), (len(sound), 4096), (3, 64)):
        contents["parts"][0] |= {"start": start, "len": size}
        text = json.dumps(contents).encode()
        end = len(text).to_bytes(8, "little") + zlib.crc32(text).to_bytes(4, "little") + tail[12:]
        path.write_bytes(sound[: -32 - length] + text + end)
        np.testing.assert_array_equal(vectors(model), first)


def test_changed_weights_replace_the_packed_file(model):
    vectors(model)
    before = only().path
    os.utime(model / "model.safetensors")
    vectors(model)
    assert only().path != before


def test_each_arithmetic_and_instruction_set_has_its_own_file(tmp_path):
    model = golden("gemma3_text")
    place = {"packed": str(tmp_path / "cache" / "packed"), "packed_limit": 10**9}
    for dtype in DTYPES:
        for kernels in ("portable", model.native().instruction_set):
            model.native(dtype=dtype, instruction_set=kernels, **place)
    made_for = {(file.dtype, file.instruction_set) for file in packed.list_files()}
    assert made_for >= {(dtype, "portable") for dtype in DTYPES}
    assert len(made_for) == len(packed.list_files())


def test_the_least_recently_used_file_is_deleted_first(tmp_path, monkeypatch):
    models = {}
    for name in "abc":
        models[name] = shutil.copytree(DATA / "bert_mean", tmp_path / name)
        vectors(models[name])
        size = only().size if name == "a" else size  # noqa: F821 - of the first round
    for age, file in enumerate(reversed(packed.list_files())):
        os.utime(file.path, (10**9 - age, 10**9 - age))
    vectors(models["a"])  # the oldest file becomes the most recently used
    monkeypatch.setenv("EMBERGEM_PACKED_LIMIT", str(int(2.5 * size)))
    os.utime(models["c"] / "model.safetensors")
    vectors(models["c"])
    assert [file.weights[0].parent.name for file in packed.list_files()] == ["a", "c"]


def test_loading_works_where_packed_files_cannot_be_kept(model, monkeypatch):
    monkeypatch.setenv("EMBERGEM_PACKED_LIMIT", "1KB")
    first = vectors(model)
    assert packed.list_files() == []
    assert list(packed.directory().iterdir()) == []
    monkeypatch.setenv("EMBERGEM_PACKED_LIMIT", "1GB")
    packed.directory().rmdir()
    packed.directory().write_text("a file where the directory would be")
    np.testing.assert_array_equal(vectors(model), first)


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("2GB", 2 * 10**9), ("1.5 mb", 1_500_000), ("7", 7), ("3k", 3000)]
)
def test_the_limit_is_a_size(monkeypatch, text, size):
    monkeypatch.setenv("EMBERGEM_PACKED_LIMIT", text)
    assert packed.limit() == size


def test_a_limit_that_is_not_a_size_is_refused(monkeypatch):
    monkeypatch.setenv("EMBERGEM_PACKED_LIMIT", "plenty")
    with pytest.raises(UnsupportedOption, match="'plenty' is not a size"):
        packed.limit()


def test_the_command_lists_and_clears_packed_files(model):
    run = CliRunner().invoke
    vectors(model)
    (row,) = json.loads(run(app, ["models", "packed", "--json"]).output)
    assert row["weights"][0] == str((model / "model.safetensors").resolve())
    assert row["dtype"] == "float32"
    assert "float32" in run(app, ["models", "packed"]).output
    assert run(app, ["models", "packed", "--clear"]).output.endswith("freed\n")
    assert packed.list_files() == []


def test_a_tokenizer_is_stored_unless_files_are_off(model, monkeypatch):
    monkeypatch.setenv("EMBERGEM_PACKED_LIMIT", "0")
    first = vectors(model)
    assert not packed.tokenizers().exists()
    monkeypatch.delenv("EMBERGEM_PACKED_LIMIT")
    for _ in range(2):
        np.testing.assert_array_equal(vectors(model), first)
        (file,) = packed.tokenizers().iterdir()
    size = file.stat().st_size + sum(file.size for file in packed.list_files())
    assert packed.clear() == size
    assert not file.exists()
