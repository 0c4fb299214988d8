"""`verify` against servers that are broken on purpose, one per cause; what they answer is made by the specification."""

import base64
import json
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pytest
import uvicorn
from goldens import Golden, golden
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from typer.testing import CliRunner

from embergem.checkpoint.checkpoint import Location
from embergem.cli.app import app as commands
from embergem.diagnostics.verify import verify
from embergem.diagnostics.verify.local import LocalModel
from embergem.diagnostics.verify.peers import ServerPeer
from embergem.diagnostics.verify.probes import make_probes
from embergem.models.head import Dense, Normalize, Pooling
from embergem.ops import WeightLookup
from embergem.server.run import bind


def specified(model, ids, known={}):  # noqa: B006 - many servers answer from the same model
    """The vector of a row by the specification, computed once."""
    found = known.get((id(model), ids))
    if found is None:
        found = known[id(model), ids] = (model.reference([ids])[0], model)  # which also keeps the id from being reused
    return found[0]


@dataclass(frozen=True)
class Faults:
    """How a server is broken; without any it is right."""

    golden: Golden
    local: LocalModel
    text: object = staticmethod(lambda text: text)
    ids: object = staticmethod(lambda ids: ids)
    vector: object = staticmethod(lambda vector: vector)
    together: object = staticmethod(lambda vectors: vectors)
    counts: bool = True
    encode: bool = False

    def embed(self, texts):
        rows = [self.ids(row) for row in self.local.rows([self.text(text) for text in texts])]
        vectors = [self.vector(specified(self.golden, tuple(row.tolist()))) for row in rows]
        return rows, (self.together(vectors) if len(vectors) > 1 else vectors)


class Rounded(Golden):
    """Weights kept as bfloat16 are."""

    def weights(self):
        exact = super().weights().lookup

        def lookup(name, shape):
            bits = exact(name, shape).astype(np.float32).view(np.uint32)
            return ((bits + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32)

        return WeightLookup(lookup)


@contextmanager
def serving(faults):
    """Address of a server with these faults."""

    async def embeddings(http):
        body = await http.json()
        if any(faults.text(text) is None for text in body["input"]):
            return JSONResponse({"error": {"message": "no empty input"}}, 400)
        rows, vectors = faults.embed(body["input"])
        values = [
            base64.b64encode(vector.astype("<f4").tobytes()).decode() if faults.encode
            else [None if np.isnan(value) else float(value) for value in vector]
            for vector in vectors
        ]  # fmt: skip
        data = [{"index": index, "embedding": value} for index, value in enumerate(values)]
        usage = {"usage": {"prompt_tokens": sum(map(len, rows))}} if faults.counts else {}
        return JSONResponse({"data": data[::-1], **usage})

    async def models(http):
        return JSONResponse({"data": [{"id": "tiny"}]})

    routes = [Route("/v1/embeddings", embeddings, methods=["POST"]), Route("/v1/models", models)]
    with bind("127.0.0.1", 0) as listener:
        listener.listen()  # or the first request may come before the server does it
        server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def right(tiny):
    return Faults(golden("gemma3_text"), LocalModel(Location("tiny", tiny)))


ENOUGH = {"empty", "short", "capitals", "scripts", "past the window", "long"}


def judged(faults, names=ENOUGH):
    local = faults.local
    probes = [probe for probe in make_probes(local.text, local.limit, local.radius) if probe.name in names]
    with serving(faults) as url:
        return verify(local, ServerPeer(url), probes, ["int16"])


def model(faults, *, config=None, head=None):
    """The faults with another model behind them."""
    broken = faults.golden
    if config:
        described = broken.architecture
        changed = replace(described, config=replace(described.config, **config))
        broken = replace(broken, architecture=changed)
    return replace(faults, golden=replace(broken, head=head(broken.head)) if head else broken)


def without(kind):
    return lambda head: tuple(module for module in head if not isinstance(module, kind))


def cut(size):
    return lambda ids: np.concatenate([ids[: size - 1], ids[-1:]]) if len(ids) > size else ids


CAUSES = {
    "dense": lambda right: model(right, head=without(Dense)),
    "window": lambda right: model(right, config={"radius": 16}),
    "window off": lambda right: model(right, config={"radius": 1000}),
    "window halved": lambda right: model(right, config={"radius": 4}),
    "window exclusive": lambda right: model(right, config={"radius": 7}),
    "pooling": lambda right: model(
        right, head=lambda head: tuple(Pooling("cls") if isinstance(part, Pooling) else part for part in head)
    ),
    "normalisation": lambda right: model(right, head=without(Normalize)),
    "prompt": lambda right: replace(right, text=lambda text: f"title: none | text: {text}"),
    "prompt of another model": lambda right: replace(right, text=lambda text: f"passage: {text}"),
    "truncation": lambda right: replace(right, ids=cut(32)),
    "truncation at its own size": lambda right: replace(right, ids=cut(77)),
    "truncation careless": lambda right: replace(right, ids=lambda ids: ids[:64]),
    "tokenizer": lambda right: replace(right, ids=lambda ids: ids[:-1]),
    "tokenizer doubles": lambda right: replace(right, ids=lambda ids: np.concatenate([ids[:1], ids])),
    "tokenizer lower case": lambda right: replace(right, text=str.lower),
    "dtype": lambda right: replace(right, vector=lambda vector: vector.astype(np.float16)),
    "dtype of weights": lambda right: replace(right, golden=Rounded(**vars(right.golden))),
    "dtype overflow": lambda right: replace(right, vector=lambda vector: np.full_like(vector, np.nan)),
    "dimensions": lambda right: replace(right, vector=lambda vector: vector[:64] / np.linalg.norm(vector[:64])),
    "batch": lambda right: replace(right, together=lambda vectors: [v + 0.05 * vectors[-1] for v in vectors]),
}


WORDS = {
    "window": "a window of 16 tokens each way: the stored window is taken as the reach",
    "window off": "without a sliding window",
    "window halved": "halved",
    "window exclusive": "one token too small",
    "truncation": "cut to 32 tokens",
    "truncation at its own size": "cut to 77 tokens",
    "truncation careless": "the closing token cut off",
    "prompt": "'document'",
    "prompt of another model": "'passage: '",
    "dtype": "rounded to float16",
    "dtype of weights": "a lower precision",
}


@pytest.mark.parametrize("name", CAUSES)
def test_the_cause_is_named(right, name):
    found = judged(CAUSES[name](right))
    assert not found.agrees
    assert found.cause == name.split()[0], (found.cause, found.explanation)
    assert WORDS.get(name, "") in found.explanation


def test_a_right_server_agrees(right):
    found = judged(replace(right, encode=True))
    assert found.agrees
    assert found.cause is None
    assert all(row.cosine > 0.999999 and row.tokens == row.tokens_there for row in found.rows)


def test_a_causal_mask_is_found(right, monkeypatch):
    from embergem.ops.reference import Reference

    attention = Reference.attention
    monkeypatch.setattr(Reference, "attention", lambda *a, **options: attention(*a, **options | {"causal": True}))
    found = judged(replace(right, golden=replace(right.golden)))
    assert found.cause == "attention"
    assert "causal" in found.explanation


def test_two_faults_at_once_are_both_named(right):
    found = judged(replace(model(right, head=without(Dense)), ids=cut(32)))
    assert found.cause == "dense and truncation"


def test_what_no_fault_explains_is_said_to_be_unknown(right):
    found = judged(replace(right, vector=lambda vector: np.roll(vector, 1)))
    assert found.cause == "unknown"
    assert "no fault that was tried" in found.explanation


def test_another_vocabulary_shows_in_the_counts(right):
    found = judged(replace(right, ids=lambda ids: np.repeat((ids * 7) % 1000, 2)[:100]))
    assert found.cause == "tokenizer"
    assert "counts" in found.explanation


def test_a_refusal_is_a_note(right):
    found = judged(replace(right, text=lambda text: text or None, counts=False))
    assert found.agrees
    assert "empty: refused (status 400" in found.notes[0]


def test_the_command_prints_and_exits_by_what_it_found(right, tiny):
    with serving(right) as url:
        good = CliRunner().invoke(commands, ["verify", str(tiny), "--against", url])
    assert good.exit_code == 0, good.output
    assert "They agree" in good.output
    with serving(CAUSES["dense"](right)) as url:
        bad = CliRunner().invoke(commands, ["verify", str(tiny), "--against", f"{url}/v1/", "--json"])
    assert bad.exit_code == 1
    assert json.loads(bad.output)["cause"] == "dense"


LIBRARY = """
import numpy as np
from embergem import Embedder
class SentenceTransformer:
    def __init__(self, path, **options):
        assert options["local_files_only"]
        self.embedder = Embedder(path)
    def encode(self, texts, **options):
        return self.embedder.embed(texts, truncate=True)[:, ::{step}]
"""


@pytest.mark.parametrize(("step", "code"), [(1, 0), (-1, 1)])
def test_the_library_runs_in_an_interpreter_of_its_own(tiny, tmp_path, monkeypatch, step, code):
    (tmp_path / "sentence_transformers.py").write_text(LIBRARY.format(step=step))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    command = ["verify", str(tiny), "--against", "sentence-transformers", "--python", sys.executable]
    assert CliRunner().invoke(commands, command).exit_code == code


def test_a_python_without_the_library_says_what_to_do(tiny, tmp_path):
    from embergem.errors import UnsupportedOption

    result = CliRunner().invoke(commands, ["verify", str(tiny), "--python", sys.executable])
    assert isinstance(result.exception, UnsupportedOption)
    assert "--python" in str(result.exception)
