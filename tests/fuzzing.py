"""What the readers of files are fed by `make fuzz` and, for a moment, by every test run.

Each target takes any bytes as a file of its kind. It may refuse them with an error of embergem's own; anything else
that is raised is a fault, and so is a process that dies, hangs or grows.
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
from embergem.checkpoint.model2vec import tensor_shapes
from embergem.checkpoint.read import read_checkpoint
from embergem.errors import EmbergemError
from embergem.export.compiler import compile_model
from embergem.options import LoadOptions

SCRATCH = Path(tempfile.mkdtemp(prefix="embergem-fuzz-"))
TINY = SCRATCH / "tiny"
WHOLE = SCRATCH / "compiled"
LONE = SCRATCH / "lone.gguf"


def prepare():
    """Lay out the directories that single files are swapped in."""
    shutil.copytree(DATA / "bert_mean", TINY)
    compile_model(LoadOptions(model=TINY), WHOLE)
    shutil.copy(TINY / "tokenizer.json", SCRATCH)


def clean():
    """Remove them."""
    shutil.rmtree(SCRATCH, ignore_errors=True)


def safetensors(data):
    """A weight file, by the header's reader and by the native one."""
    file = SCRATCH / "some.safetensors"
    file.write_bytes(data)
    with suppress(EmbergemError):
        tensor_shapes(file)
    with suppress(EmbergemError):
        tensors = Tensors([("", str(file))])
        for name, shape, _ in tensors.list:
            if 0 < np.prod(shape, dtype=float) < 1e6:
                tensors.rows(name, 0, shape[0] if shape else 1)


def gguf_file(data):
    """A GGUF file, with its settings and its tensors."""
    LONE.write_bytes(data)
    with suppress(EmbergemError):
        tensors = Tensors([("", str(LONE))])
        json.loads(tensors.metadata)
        for name, shape, _ in tensors.list:
            tensors.rows(name, 0, shape[0])
        gguf.read_gguf(LONE, Location("lone", LONE), LoadOptions(allow_missing_dense=True))


def modules(data):
    """A modules.json."""
    _read_with(TINY, "modules.json", data)


def config(data):
    """A config.json."""
    _read_with(TINY, "config.json", data)


def manifest(data):
    """An compiled.json."""
    _read_with(WHOLE, compiled.MANIFEST, data)


def program(data):
    """A program.json, by the executor."""
    with suppress(EmbergemError, UnicodeDecodeError):
        Model.load(data.decode(), [("", str(TINY / "model.safetensors"))])


def tokenizer(data):
    """A tokenizer.json."""
    file = SCRATCH / "some.json"
    file.write_bytes(data)
    with suppress(EmbergemError):
        TextPipeline(str(file), limit=64, vocab_size=1000).prepare(["What is graphene?"])


def _read_with(root, name, data):
    (root / name).write_bytes(data)
    with suppress(EmbergemError):
        read_checkpoint(Location("fuzzed", root))


def seeds():
    """Return the bytes that each target begins with."""
    small = {"general.architecture": "bert", "bert.context_length": 8, "bert.pooling_type": 1}
    blocks = np.zeros((2, 32), dtype=np.float32)
    return {
        safetensors: [(TINY / "model.safetensors").read_bytes()[:6000], b"\x02\0\0\0\0\0\0\0{}"],
        gguf_file: [ggufs.file(small, {"t": ggufs.stored(blocks, kind)}) for kind in ("F32", "Q8_0")]
        + [ggufs.of_bert("bert_mean")[:60_000]],
        modules: [(TINY / "modules.json").read_bytes()],
        config: [(TINY / "config.json").read_bytes()],
        manifest: [(WHOLE / compiled.MANIFEST).read_bytes()[:4000], (WHOLE / compiled.MANIFEST).read_bytes()],
        program: [(WHOLE / "program.json").read_bytes()],
        tokenizer: [(TINY / "tokenizer.json").read_bytes()],
    }
