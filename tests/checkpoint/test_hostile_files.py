"""Malicious directories and safetensors files: each is refused by name, with little memory and time."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import ggufs
import pytest
from goldens import copy_model
from test_gguf import HOSTILE as GGUFS

from embergem._native import Tensors
from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.read import read_checkpoint
from embergem.engine.prepare import prepare
from embergem.errors import CorruptCheckpoint, LoadError


def weights(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(shape, start, stop, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


HOSTILE = {
    "empty": b"",
    "no header": b"\0" * 4,
    "header past the end": weights(b"{}", length=2**40),
    "header of 2^64 - 1": weights(b"{}", length=2**64 - 1),
    "header that is a list": weights(b"[]"),
    "header that is no text": weights(b"\xff\xfe{}"),
    "nested bomb": weights(b'{"a":' * 500_000),
    "offsets past the end": weights({"a": tensor([4], 0, 16)}, bytes(8)),
    "offsets that overflow": weights({"a": tensor([4], 2**64 - 8, 2**64 - 1)}, bytes(16)),
    "offsets backwards": weights({"a": tensor([4], 16, 0)}, bytes(16)),
    "negative offsets": weights({"a": tensor([4], -16, 0)}, bytes(16)),
    "overlap": weights({"a": tensor([4], 0, 16), "b": tensor([4], 8, 24)}, bytes(24)),
    "the same bytes twice": weights({"a": tensor([4], 0, 16), "b": tensor([4], 0, 16)}, bytes(16)),
    "hole": weights({"a": tensor([4], 0, 16), "b": tensor([4], 32, 48)}, bytes(48)),
    "rest": weights({"a": tensor([4], 0, 16)}, bytes(17)),
    "cut": weights({"a": tensor([4], 0, 16)}, bytes(15)),
    "2^60 dimensions": weights({"a": tensor([2**60], 0, 16)}, bytes(16)),
    "a product that overflows": weights({"a": tensor([2**32, 2**32, 4], 0, 16)}, bytes(16)),
    "negative size": weights({"a": tensor([-4], 0, 16)}, bytes(16)),
    "another shape than bytes": weights({"a": tensor([5], 0, 16)}, bytes(16)),
    "unknown type": weights({"a": tensor([4], 0, 16, "F33")}, bytes(16)),
    "a pickle": b"\x80\x04\x95\x1e\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_safetensors(tmp_path, name):
    (tmp_path / "bad.safetensors").write_bytes(HOSTILE[name])
    with pytest.raises(CorruptCheckpoint, match=r"bad\.safetensors is not a valid safetensors file"):
        Tensors([("", str(tmp_path / "bad.safetensors"))])


def test_refusing_needs_little_memory(tmp_path):
    huge = {f"huge {n}": ggufs.file({}, {"t": ((2**n,), 0, b"")}) for n in (40, 60)}
    for number, data in enumerate([*HOSTILE.values(), *(entry[0] for entry in GGUFS.values()), *huge.values()]):
        (tmp_path / str(number)).write_bytes(data)
    code = """
import resource, sys
from pathlib import Path
from embergem._native import Tensors
from embergem.errors import LoadError

pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (96 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
refused = 0
for path in Path(sys.argv[1]).iterdir():
    try:
        Tensors([("", str(path))])
    except LoadError:
        refused += 1
print(refused)
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system doesn't say how much address space a process has")
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, str(len(list(tmp_path.iterdir())))), done.stderr[-2000:]


@pytest.mark.parametrize(
    "name", ["header past the end", "no header", "nested bomb", "negative size", "header that is a list"]
)
def test_a_static_model_with_a_malformed_table_is_refused(tmp_path, name):
    model = copy_model("static", tmp_path / "static")
    (model / "model.safetensors").write_bytes(HOSTILE[name])
    with pytest.raises(CorruptCheckpoint, match=r"model\.safetensors"):
        read_checkpoint(Location("static", model))


def pipe(root, name):
    (root / name).unlink()
    os.mkfifo(root / name)


def sparse(root, name):
    with (root / name).open("r+b") as file:
        file.truncate(2**40)


def circle(root, name):
    (root / name).unlink()
    (root / name).symlink_to(root / name)


def module_at(path, make=lambda root: None):
    def change(root, name):
        make(root)
        rows = json.loads((root / "modules.json").read_text())
        rows[1]["path"] = path
        (root / "modules.json").write_text(json.dumps(rows))

    return change


def ring(root):
    (root / "a").symlink_to(root / "b")
    (root / "b").symlink_to(root / "a")


@pytest.mark.parametrize("name", ["config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json"])
@pytest.mark.parametrize("damage", [pipe, sparse, circle])
def test_settings_that_are_not_regular_files(model, name, damage):
    damage(model, name)
    if damage is circle and name == "sentence_bert_config.json":
        assert read_checkpoint(Location("x", model)).limit > 0  # a directory is read like a missing file
        return
    with pytest.raises(CorruptCheckpoint, match=Path(name).name):
        read_checkpoint(Location("x", model))


@pytest.mark.parametrize(
    "change",
    [
        module_at("../1_Pooling"),
        module_at("/etc"),
        module_at("1_Pooling/../../x"),
        module_at("C:\\x"),
        module_at("a\0b"),
        module_at("a", ring),
        module_at("out", lambda root: (root / "out").symlink_to("/")),
        module_at("x" * 5000),
        module_at("/".join("x" * 2000)),
    ],
    ids=["up", "absolute", "up later", "drive", "zero byte", "ring of links", "link out", "long name", "deep"],
)
def test_module_paths_that_leave_the_directory_are_refused(model, change):
    change(model, "modules.json")
    with pytest.raises(LoadError, match=r"modules\.json|config\.json"):
        read_checkpoint(Location("x", model))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1_000_000,
        '{"a":' * 100_000,
        "9" * 100_000,
        '{"hidden_size": 1e999}',
        "NaN",
        '"\\ud800"',
        "{}",
        "\ufeff{",
        "\0",
    ],
    ids=["deep", "deep objects", "long number", "infinity", "nan", "surrogate", "nothing", "mark", "zero"],
)
def test_json_bombs(model, text):
    (model / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(LoadError):
        prepare(read_checkpoint(Location("x", model)), "x")


def test_prompts_in_another_encoding(model):
    (model / "config_sentence_transformers.json").write_bytes('{"prompts": {}}'.encode("utf-16"))
    with pytest.raises(CorruptCheckpoint, match=r"config_sentence_transformers\.json is not valid JSON"):
        read_checkpoint(Location("x", model))
