"""Fuzz targets for the readers of files: `make fuzz` runs them for long, and `test_fuzz.py` for a moment.

A target reads any bytes as a file of its kind. It may refuse them with an `EmbergemError`. Any other exception is a
fault, and so is a process that crashes, hangs or needs much memory.
"""

import json
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import ggufs
import numpy as np
from goldens import DATA

from embergem._native import Model, Tensors, TextPipeline
from embergem.checkpoint import compiled, gguf
from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.read import read_checkpoint
from embergem.errors import EmbergemError
from embergem.export.compiler import compile_model
from embergem.options import LoadOptions

SCRATCH = Path(tempfile.mkdtemp(prefix="embergem-fuzz-"))
TINY = SCRATCH / "tiny"
COMPILED = SCRATCH / "compiled"
GGUF = SCRATCH / "lone.gguf"


def prepare():
    """Make the directories in which the targets replace single files."""
    shutil.copytree(DATA / "bert_mean", TINY)
    compile_model(LoadOptions(model=TINY), COMPILED)
    shutil.copy(TINY / "tokenizer.json", SCRATCH)


def clean():
    """Remove the directories."""
    shutil.rmtree(SCRATCH, ignore_errors=True)


def safetensors(data):
    """Read a safetensors file."""
    file = SCRATCH / "some.safetensors"
    file.write_bytes(data)
    with suppress(EmbergemError):
        tensors = Tensors([("", str(file))])
        for name, shape, _ in tensors.list:
            if 0 < np.prod(shape, dtype=float) < 1e6:
                tensors.rows(name, 0, shape[0] if shape else 1)


def gguf_file(data):
    """Read a GGUF file: its metadata and its tensors."""
    GGUF.write_bytes(data)
    with suppress(EmbergemError):
        tensors = Tensors([("", str(GGUF))])
        json.loads(tensors.metadata)
        for name, shape, _ in tensors.list:
            tensors.rows(name, 0, shape[0])
        gguf.read_gguf(GGUF, Location("lone", GGUF), LoadOptions(allow_missing_dense=True))


def modules(data):
    """Read a modules.json."""
    _read_with(TINY, "modules.json", data)


def config(data):
    """Read a config.json."""
    _read_with(TINY, "config.json", data)


def manifest(data):
    """Read a compiled.json."""
    _read_with(COMPILED, compiled.MANIFEST, data)


def program(data):
    """Load a program.json into the native executor."""
    with suppress(EmbergemError, UnicodeDecodeError):
        Model.load(data.decode(), [("", str(TINY / "model.safetensors"))])


def tokenizer(data):
    """Read a tokenizer.json and tokenize a text."""
    file = SCRATCH / "some.json"
    file.write_bytes(data)
    with suppress(EmbergemError):
        TextPipeline(str(file), limit=64, vocab_size=1000).prepare(["What is graphene?"])


def _read_with(root, name, data):
    (root / name).write_bytes(data)
    with suppress(EmbergemError):
        read_checkpoint(Location("fuzzed", root))


def seeds():
    """Return {target: valid files that the fuzzer starts from}."""
    small = {"general.architecture": "bert", "bert.context_length": 8, "bert.pooling_type": 1}
    blocks = np.zeros((2, 32), dtype=np.float32)
    return {
        safetensors: [(TINY / "model.safetensors").read_bytes()[:6000], b"\x02\0\0\0\0\0\0\0{}"],
        gguf_file: [ggufs.file(small, {"t": ggufs.stored(blocks, kind)}) for kind in ("F32", "Q8_0")]
        + [ggufs.of_bert("bert_mean")[:60_000]],
        modules: [(TINY / "modules.json").read_bytes()],
        config: [(TINY / "config.json").read_bytes()],
        manifest: [(COMPILED / compiled.MANIFEST).read_bytes()[:4000], (COMPILED / compiled.MANIFEST).read_bytes()],
        program: [(COMPILED / "program.json").read_bytes()],
        tokenizer: [(TINY / "tokenizer.json").read_bytes()],
    }
