"""Two revisions of one model have different vectors and names in each interface."""

import asyncio
from dataclasses import replace

import httpx
import hubcache
import huggingface_hub.constants
import numpy as np
import pytest
from hubcache import MODEL, NEW, OLD
from serving import configured
from typer.testing import CliRunner

from embergem import AsyncEmbedder, Embedder, EmbeddingModelBuilder, EmbeddingRequest, MultiModelBuilder, Runner, Which
from embergem.cli.app import app
from embergem.config import EmbeddingEntry, named_entry
from embergem.errors import UnsupportedOption
from embergem.options import LoadOptions
from embergem.sentence_transformers import SentenceTransformer

TEXTS = ["What is graphene?", "a lattice of carbon"]


@pytest.fixture(scope="module")
def hf(tmp_path_factory):
    """Make a cache of huggingface_hub with two commits: v1 and the newer main."""
    directory = tmp_path_factory.mktemp("revisions")
    first, second = hubcache.two_versions(directory)
    hubcache.put(directory / "hf", first, OLD, "v1")
    hubcache.put(directory / "hf", second, NEW, "main")
    return directory / "hf"


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def expected(hf):
    """Return the vectors and the fingerprint of each revision, computed from its snapshot directory."""
    found = {}
    for name, commit in (("v1", OLD), (None, NEW)):
        with Embedder(hf / "models--acme--tiny" / "snapshots" / commit) as embedder:
            found[name] = embedder.embed(TEXTS), embedder.fingerprint
    assert not np.array_equal(found["v1"][0], found[None][0])
    assert found["v1"][1] != found[None][1]
    return found


def awaited(hf, revision):
    async def main():
        async with await AsyncEmbedder.load(MODEL, revision=revision, hf_cache_path=hf) as embedder:
            return await embedder.embed(TEXTS)

    return asyncio.run(main())


def selector(hf, revision):
    with Runner(Which.Embedding(MODEL, hf_cache_path=str(hf), revision=revision), token_source="none") as runner:
        return np.float32(runner.send_embedding_request(EmbeddingRequest(TEXTS)))


def builder(hf, revision):
    made = EmbeddingModelBuilder(MODEL).from_hf_cache_path(hf).with_token_source("env:NOT_SET")
    if revision is not None:
        made.with_hf_revision(revision)

    async def main():
        async with await made.build() as model:
            return await model.generate_embeddings(EmbeddingRequest(TEXTS))

    return asyncio.run(main())


def shim(hf, revision):
    model = SentenceTransformer(MODEL, revision=revision, cache_folder=str(hf), token=False)
    try:
        return model.encode(TEXTS)
    finally:
        model.close()


@pytest.mark.parametrize("style", [awaited, selector, builder, shim])
def test_vectors_are_those_of_the_revision(hf, expected, style):
    for revision, (vectors, _) in expected.items():
        assert np.array_equal(style(hf, revision), vectors)


def test_an_embedder_is_named_by_its_revision(hf, expected):
    for revision, name in (("v1", f"{MODEL}@v1"), (None, MODEL)):
        with Embedder(MODEL, revision=revision, hf_cache_path=str(hf)) as embedder:
            assert (embedder.model, embedder.fingerprint) == (name, expected[revision][1])


def test_a_runner_has_both_revisions(hf, expected):
    cache = str(hf)
    with Runner(Which.Embedding(MODEL, hf_cache_path=cache, revision="v1")) as runner:
        runner.add_model(Which.Embedding(MODEL, hf_cache_path=cache, revision="main"))
        assert runner.list_models() == [f"{MODEL}@v1", f"{MODEL}@main"]
        for name, revision in ((f"{MODEL}@v1", "v1"), (f"{MODEL}@main", None), (MODEL, "v1")):
            found = runner.send_embedding_request(EmbeddingRequest(TEXTS), model_id=name)
            assert np.array_equal(np.float32(found), expected[revision][0])
        with pytest.raises(UnsupportedOption, match=f"the name '{MODEL}@v1' is taken"):
            runner.add_model(Which.Embedding(MODEL, hf_cache_path=cache, revision="v1"))


def test_the_builder_has_both_revisions(hf, expected):
    async def main():
        models = MultiModelBuilder()
        for revision in ("v1", "main"):
            models.add_model(EmbeddingModelBuilder(MODEL).from_hf_cache_path(hf).with_hf_revision(revision))
        async with await models.build() as model:
            assert model.list_models() == [f"{MODEL}@v1", f"{MODEL}@main"]
            [vector, _] = await model.generate_embeddings_with_model(EmbeddingRequest(TEXTS), f"{MODEL}@main")
            assert np.array_equal(vector, expected[None][0][0])

    asyncio.run(main())


def test_a_server_has_both_revisions(hf, expected):
    old = EmbeddingEntry(name="old", options=LoadOptions(model=MODEL, revision="v1", hf_cache_path=str(hf)))
    new = EmbeddingEntry(name="new", options=LoadOptions(model=MODEL, hf_cache_path=str(hf)))
    with configured(old, new) as (url, registry):
        registry.wait()
        for name, revision in (("old", "v1"), (f"{MODEL}@v1", "v1"), ("new", None), (MODEL, None)):
            answer = httpx.post(f"{url}/v1/embeddings", json={"input": TEXTS, "model": name}, timeout=60)
            vectors = np.float32([item["embedding"] for item in answer.json()["data"]])
            assert np.array_equal(vectors, expected[revision][0])
            assert answer.headers["x-embergem-space"] == expected[revision][1]


def test_an_argument_of_the_command_line(hf, tiny):
    options = LoadOptions(model=MODEL, revision="v1", hf_cache_path=hf)
    entry = named_entry(options)
    assert entry == EmbeddingEntry(name=f"{MODEL}@v1", options=options)
    assert named_entry(replace(options, model="minilm")).aliases
    with pytest.raises(UnsupportedOption, match="revision='v1' applies to models of the hub"):
        named_entry(replace(options, model=tiny))


def test_commands_take_a_revision(hf, expected, tmp_path, tiny):
    here = ["--revision", "v1", "--hf-cache-path", str(hf)]
    done = CliRunner().invoke(app, ["embed", "-m", MODEL, *here, "-o", str(tmp_path / "a.npy"), *TEXTS])
    assert done.exit_code == 0, done.output
    assert np.array_equal(np.load(tmp_path / "a.npy"), expected["v1"][0])
    done = CliRunner().invoke(app, ["fingerprint", MODEL, *here])
    assert done.stdout.strip() == expected["v1"][1]
    done = CliRunner().invoke(app, ["compile", MODEL, *here, "-o", str(tmp_path / "compiled")])
    assert done.exit_code == 0, done.output
    with Embedder(tmp_path / "compiled") as embedder:
        assert np.array_equal(embedder.embed(TEXTS), expected["v1"][0])
    refused = CliRunner().invoke(app, ["embed", "-m", str(tiny), "--revision", "v1", "a"])
    assert isinstance(refused.exception, UnsupportedOption)


def test_a_revision_beside_an_address_is_refused():
    for option in ({"revision": "v1"}, {"hf_cache_path": "x"}, {"token_source": "literal:hf_secret"}):
        with pytest.raises(
            UnsupportedOption, match=f"{next(iter(option))}.* applies to models that are loaded into this process"
        ) as error:
            Embedder("http://127.0.0.1:9", **option)
        assert "secret" not in error.value.message
