"""Runs the fuzz targets on a few damaged files, with a fixed seed; `make fuzz` runs them for longer."""

import fuzzing
import numpy as np
import pytest

TARGETS = ["safetensors", "gguf_file", "modules", "config", "manifest", "program", "tokenizer"]
INTERESTING = [b"\xff" * 8, b"\0" * 8, b"\x7f", b"-1", b"1e999", b"null", b"[", b"{", b'"', b"999999999999999999999"]
ROUNDS = 40


@pytest.fixture(scope="module", autouse=True)
def files():
    fuzzing.prepare()
    yield
    fuzzing.clean()


def damaged(data, random):
    """Return `data` with bytes changed, replaced by an interesting value, removed, or cut off at the end."""
    data = bytearray(data)
    for _ in range(random.integers(1, 4)):
        place = int(random.integers(max(1, len(data))))
        match random.integers(4):
            case 0:
                data[place : place + 1] = bytes([random.integers(256)])
            case 1:
                data[place : place + int(random.integers(9))] = INTERESTING[random.integers(len(INTERESTING))]
            case 2:
                del data[place : place + int(random.integers(1, 64))]
            case _:
                del data[place:]
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_refused_or_read(name):
    target, random = getattr(fuzzing, name), np.random.default_rng(len(name))
    seeds = fuzzing.seeds()[target]
    for crasher in sorted((fuzzing.DATA.parent / "fuzz" / name).glob("*")):  # files that showed a fault before
        target(crasher.read_bytes())
    runs = 0
    for seed in seeds:
        for _ in range(ROUNDS):
            target(damaged(seed, random))
            runs += 1
    assert runs == ROUNDS * len(seeds)
