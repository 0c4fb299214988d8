"""Weight files that another program overwrites, cuts short or replaces while a model is loaded.

No vector of other bytes is returned or stored, the model fails with a clear error, and the process and its other models
go on. crates/core/tests/changed_files.rs has the same for the executor alone.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time

import ggufs
import numpy as np
import pytest
from goldens import DATA, copy_model

from embergem import Embedder
from embergem.engine import Request
from embergem.engine import load as loading
from embergem.engine.vector_cache import VectorCache
from embergem.errors import LoadError, ModelFailed
from embergem.export.compiler import compile_model
from embergem.loader import load
from embergem.options import LoadOptions

if not hasattr(signal, "SIGBUS"):
    pytest.skip("this system refuses to cut a mapped file short", allow_module_level=True)

TEXTS = ["What is graphene?", "a carbon lattice"]
FAST = {"max_batch_tokens": 1024}
"""Options without which the first load measures a batch size."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """An empty cache directory."""
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EMBERGEM_PACKED_LIMIT", "1GB")


def gguf(directory):
    shutil.copytree(DATA / "gemma3_text", directory)
    (directory / "model.safetensors").unlink()
    (directory / "model.gguf").write_bytes(ggufs.of_gemma("Q8_0"))
    return directory / "model.gguf"


def compiled(directory):
    compile_model(LoadOptions(model=DATA / "gemma3_text"), directory, "int8")
    [weights] = directory.glob("*.safetensors")
    return weights


def checkpoint(name):
    return lambda directory: copy_model(name, directory) / "model.safetensors"


FORMATS = {
    "checkpoint": checkpoint("gemma3_text"), "static": checkpoint("static"), "gguf": gguf, "compiled": compiled,
}  # fmt: skip


@pytest.fixture(params=FORMATS)
def weights(request, tmp_path):
    """The weight file of a model in each of the formats."""
    return FORMATS[request.param](tmp_path / "model")


@pytest.fixture
def table(tmp_path):
    """The weight file of the tiny EmbeddingGemma."""
    return FORMATS["checkpoint"](tmp_path / "model")


def opened(directory):
    """Load a model without the measurement of a batch size."""
    return Embedder(load(LoadOptions(model=directory, **FAST)))


def directory_of(weights):
    return weights if weights.suffix == ".gguf" else weights.parent


def overwrite(path, content):
    """Write a file in place, and set its modification time back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def other_bytes(content):
    return bytes(byte ^ 1 for byte in content)


def test_an_overwritten_file_fails_the_model_until_it_is_loaded_again(weights):
    sound = weights.read_bytes()
    with opened(directory_of(weights)) as embedder:
        expected = embedder.embed(TEXTS)
        overwrite(weights, other_bytes(sound))
        for _ in range(2):
            with pytest.raises(ModelFailed, match=rf"{weights.name} .* was overwritten.*Load the model again"):
                embedder.embed(TEXTS)
        overwrite(weights, sound)
        with pytest.raises(ModelFailed, match="was overwritten"):
            embedder.embed("another text")
    with opened(directory_of(weights)) as embedder:
        np.testing.assert_array_equal(embedder.embed(TEXTS), expected)


def test_a_persistent_cache_keeps_no_vector_of_other_bytes(table, tmp_path):
    sound = table.read_bytes()
    options = LoadOptions(model=table.parent, **FAST)

    def vectors(texts):
        cache = VectorCache(2**20, tmp_path / "vectors.sqlite")
        try:
            with load(options, cache=cache) as engine:
                return engine.fingerprint, engine.embed(Request(texts=texts)).vectors
        finally:
            cache.close()

    space, expected = vectors(TEXTS)
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "vectors.sqlite").unlink()
    cache = VectorCache(2**20, tmp_path / "vectors.sqlite")
    with load(options, cache=cache) as engine:
        engine.embed(Request(texts=TEXTS[:1]))
        overwrite(table, other_bytes(sound))
        with pytest.raises(ModelFailed):
            engine.embed(Request(texts=TEXTS))
        with pytest.raises(ModelFailed):
            engine.embed(Request(texts=TEXTS[:1]))  # this row is in the cache
    cache.close()
    overwrite(table, sound)
    assert vectors(TEXTS)[0] == space
    np.testing.assert_array_equal(vectors(TEXTS)[1], expected)


def test_other_bytes_with_the_old_size_and_time_are_another_space(table):
    sound = table.read_bytes()
    header = 8 + int.from_bytes(sound[:8], "little")
    with load(LoadOptions(model=table.parent, **FAST)) as engine:
        before = engine.fingerprint
    flipped = bytearray(sound)
    flipped[header] ^= 1  # the last bit of the first number
    overwrite(table, bytes(flipped))
    with load(LoadOptions(model=table.parent, **FAST)) as engine:
        assert engine.fingerprint != before


def test_every_vector_is_sound_while_a_file_is_written_and_restored(table):
    """At random times during many runs the file gets other bytes, and its own ones again."""
    sound, choice = table.read_bytes(), random.Random(4)
    other = other_bytes(sound)
    with opened(table.parent) as embedder:
        expected = embedder.embed(TEXTS)
    delays = [choice.uniform(0, 0.06) for _ in range(8)]

    def write(delay):
        for content in (other, sound):
            time.sleep(delay)
            with table.open("r+b") as file:
                file.write(content)

    refused = computed = 0
    for delay in delays:
        writer = threading.Thread(target=write, args=(delay,))
        with opened(table.parent) as embedder:
            np.testing.assert_array_equal(embedder.embed(TEXTS), expected)
            writer.start()
            try:
                while writer.is_alive():
                    np.testing.assert_array_equal(embedder.embed(TEXTS), expected)
                    computed += 1
            except ModelFailed:
                refused += 1
            writer.join()
    assert computed
    assert refused


OPENED = """
from embergem import Embedder
from embergem.loader import load
from embergem.options import LoadOptions


def opened(directory):
    return Embedder(load(LoadOptions(model=directory, max_batch_tokens=1024)))


"""


def run(program, *, expect=0, before=""):
    """Run a Python program, which can load models by `opened`, and return its output."""
    done = subprocess.run(
        [sys.executable, "-c", before + OPENED + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == expect, done.stderr
    return done.stdout


BEFORE = pytest.mark.parametrize("before", ["", "import faulthandler; faulthandler.enable()"], ids=["", "faulthandler"])


@BEFORE
def test_a_file_that_is_cut_short_fails_its_model_and_no_other(tmp_path, before):
    models = []
    for name, write in FORMATS.items():
        for size in (0, 5000):
            weights = write(tmp_path / f"{name}-{size}")
            models.append((str(directory_of(weights)), str(weights), size))
    output = run(
        f"""
        import os
        from embergem.errors import EmbergemError
        other = opened({str(DATA / "bert_mean")!r})
        expected = other.embed("a")
        for directory, weights, size in {models!r}:
            model = opened(directory)
            model.embed("a")
            os.truncate(weights, size)
            found = []
            for _ in range(2):
                try:
                    found.append(model.embed(["a", "What is graphene?"]))
                except EmbergemError as error:
                    found.append((error.code, error.status, error.message))
            assert found[0] == found[1], found
            assert (other.embed("a") == expected).all()
            model.close()
            try:
                opened(directory)
            except EmbergemError as error:
                print(found[0], error.code)
    """,
        before=before,
    )
    lines = output.splitlines()
    assert len(lines) == len(models)
    for line, (_, weights, size) in zip(lines, models, strict=True):
        assert f"('model_failed', 503, 'The file {os.path.basename(weights)} of the loaded model was cut short" in line
        assert f" to {size} bytes, so the model gives no more vectors." in line
        assert line.endswith(("corrupt_checkpoint", "missing_tensor"))


def test_a_cut_file_of_packed_weights_fails_the_model(table, tmp_path):
    output = run(f"""
        import os, pathlib
        from embergem.errors import ModelFailed
        expected = None
        for _ in range(3):
            model = opened({str(table.parent)!r})
            expected = model.embed("a") if expected is None else expected
            assert (model.embed("a") == expected).all()
            [packed] = pathlib.Path({str(tmp_path / "cache" / "packed")!r}).iterdir()
            os.truncate(packed, 4096)
            try:
                model.embed("b")
            except ModelFailed as error:
                print(error)
    """)
    assert len(output.splitlines()) == 3
    assert all(".packed of the loaded model was cut short from " in line for line in output.splitlines())


@BEFORE
@pytest.mark.parametrize("fault", ["os.kill(os.getpid(), signal.SIGBUS)", "view[8000]"])
def test_any_other_bus_error_still_ends_the_process(tmp_path, before, fault):
    (tmp_path / "other").write_bytes(bytes(9000))
    run(
        f"""
        import mmap, os, signal
        model = opened({str(DATA / "static")!r})
        file = open({str(tmp_path / "other")!r}, "r+b")
        view = mmap.mmap(file.fileno(), 0)
        os.truncate(file.fileno(), 0)
        {fault}
        """,
        expect=-signal.SIGBUS,
        before=before,
    )


def test_a_file_that_is_replaced_or_touched_changes_nothing(table, tmp_path):
    with opened(table.parent) as embedder:
        expected = embedder.embed(TEXTS)
        os.utime(table)
        np.testing.assert_array_equal(embedder.embed(TEXTS), expected)
        (tmp_path / "new").write_bytes(b"another model")
        (tmp_path / "new").replace(table)
        np.testing.assert_array_equal(embedder.embed(TEXTS), expected)
        shutil.rmtree(table.parent)
        np.testing.assert_array_equal(embedder.embed(TEXTS), expected)


@pytest.mark.parametrize("name", ["load_as", "text_pipeline", "fingerprint"])
@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_files_that_change_during_the_load_are_refused(table, monkeypatch, name, file):
    original = getattr(loading, name)

    def then_touch(*args, **options):
        result = original(*args, **options)
        (table.parent / file).touch()
        return result

    monkeypatch.setattr(loading, name, then_touch)
    with pytest.raises(LoadError, match=rf"{file} changed while it was loaded"):
        load(LoadOptions(model=table.parent, **FAST))
