"""Embedding servers with one fault each. The NumPy specification computes the vectors of these servers."""

import base64
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import uvicorn
from goldens import Golden, pack
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from embergem.diagnostics.verify import verify
from embergem.diagnostics.verify.local import LocalModel
from embergem.diagnostics.verify.peers import ServerPeer
from embergem.diagnostics.verify.probes import make_probes
from embergem.ops import WeightLookup
from embergem.ops.reference import Batch, Reference
from embergem.server.run import bind


def specified(model, ids, known={}):  # noqa: B006 - many servers answer from the same model
    """Return the vector of a row by the specification. Vectors are cached."""
    found = known.get((id(model), ids))
    if found is None:
        found = known[id(model), ids] = (model.reference([ids])[0], model)  # holding the model keeps its id unique
    return found[0]


@dataclass(frozen=True)
class Faults:
    """The faults of a server. Without arguments it is correct."""

    golden: Golden
    local: LocalModel
    rows: object = staticmethod(LocalModel.rows)
    text: object = staticmethod(lambda text: text)
    ids: object = staticmethod(lambda ids: ids)
    vector: object = staticmethod(lambda vector: vector)
    together: object = staticmethod(lambda vectors: vectors)
    counts: bool = True
    encode: bool = False

    def embed(self, texts):
        rows = [self.ids(row) for row in self.rows(self.local, [self.text(text) for text in texts])]
        vectors = [self.vector(specified(self.golden, tuple(row.tolist()))) for row in rows]
        return rows, (self.together(vectors) if len(vectors) > 1 else vectors)


class Rounded(Golden):
    """A golden whose weights are rounded to bfloat16."""

    def weights(self):
        exact = super().weights().lookup

        def lookup(name, shape):
            bits = exact(name, shape).astype(np.float32).view(np.uint32)
            return ((bits + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32)

        return WeightLookup(lookup)


@contextmanager
def serving(faults):
    """Run a server with these faults and yield its address."""

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
        listener.listen()  # so that a request before the server thread starts is accepted
        server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


ENOUGH = {"empty", "short", "capitals", "scripts", "past the window", "long"}
"""Probes that show most faults."""


def verdict_on(faults, names=ENOUGH):
    """Compare the local model with a server that has these faults."""
    local = faults.local
    probes = [probe for probe in make_probes(local.text, local.limit, local.radius) if probe.name in names]
    with serving(faults) as url:
        return verify(local, ServerPeer(url), probes, ["int16"])


@dataclass(frozen=True)
class Altered(Golden):
    """A golden that computes with other operations than `Reference`."""

    ops: type[Reference] = Reference

    def reference(self, rows):
        return self.architecture.vectors(self.head, self.ops(), self.weights(), Batch(*pack(rows)))


def model(faults, *, config=None, head=None, ops=None):
    """Return the faults with a changed config, head, or set of operations."""
    broken = Altered(**vars(faults.golden), ops=ops) if ops else faults.golden
    if config:
        described = broken.architecture
        changed = replace(described, config=replace(described.config, **config))
        broken = replace(broken, architecture=changed)
    return replace(faults, golden=replace(broken, head=head(broken.head)) if head else broken)


def without(kind):
    """Return a function that removes the modules of a kind from a head."""
    return lambda head: tuple(module for module in head if not isinstance(module, kind))


def cut(size):
    """Return a function that cuts rows to a size and keeps the closing token."""
    return lambda ids: np.concatenate([ids[: size - 1], ids[-1:]]) if len(ids) > size else ids
