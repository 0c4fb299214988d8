"""Each integration with its library: queries and documents have their prompts and the vectors of the embedder."""

import asyncio
import doctest
import gc
import importlib
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from test_recipes import FOUND

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.stem for path in (ROOT / "src/embergem/integrations").glob("[a-z]*.py"))
EXAMPLES = sorted(
    path.stem for path in (ROOT / "examples/integrations").glob("*.py") if path.stem not in ("pgvector_search", *FOUND)
)
"""The other examples have tests of what they find, in test_recipes.py."""
TEXTS = ["Graphene is a layer of carbon.", "An apple is a fruit.", "Copper conducts heat."]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    result = doctest.testmod(importlib.import_module(f"embergem.integrations.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name, tiny):
    command = [sys.executable, str(ROOT / f"examples/integrations/{name}.py"), str(tiny)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("name", ["clustering", "matryoshka"])
@pytest.mark.parametrize("model", ["minilm", "tiny", "query_only"])
def test_examples_that_draw_run(name, model, request, tmp_path):
    picture = tmp_path / "picture.png"
    script, directory = ROOT / f"examples/python/{name}.py", request.getfixturevalue(model)
    command = [sys.executable, str(script), str(directory), str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
    if model == "minilm":
        shown = {"clustering": ["goal", "soup", "train"], "matryoshka": ["384 dimensions,  1536 bytes a vector: 100%"]}
        assert all(words in done.stdout for words in shown[name])


@pytest.mark.parametrize("name", MODULES)
def test_importing_embergem_loads_no_integration(name):
    code = f"import sys, embergem, embergem.embedder, embergem.integrations; sys.exit({name!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_langchain(tiny, embedder):
    from langchain_core.vectorstores import InMemoryVectorStore

    from embergem.integrations.langchain import EmbergemEmbeddings

    embeddings = EmbergemEmbeddings(embedder)
    assert embeddings.embed_documents(TEXTS) == embedder.embed_documents(TEXTS).tolist()
    assert embeddings.embed_query("x") == embedder.embed_query("x")[0].tolist()
    assert asyncio.run(embeddings.aembed_documents(TEXTS)) == embeddings.embed_documents(TEXTS)
    assert asyncio.run(embeddings.aembed_query("x")) == embeddings.embed_query("x")
    assert embeddings.embed_documents([]) == asyncio.run(embeddings.aembed_documents([])) == []
    store = InMemoryVectorStore.from_texts(TEXTS, embeddings)
    found = [document.page_content for document in store.similarity_search("carbon", k=3)]
    assert found == [ranked.text for ranked in embedder.rank("carbon", TEXTS)]


def test_llama_index(embedder):
    from llama_index.core import VectorStoreIndex
    from llama_index.core.schema import TextNode

    from embergem.integrations.llama_index import EmbergemEmbedding

    embedding = EmbergemEmbedding(embedder, embed_batch_size=2)
    assert embedding.model_name == "gemma3_text"
    assert embedding.get_query_embedding("x") == embedder.embed_query("x")[0].tolist()
    assert embedding.get_text_embedding_batch(TEXTS) == embedder.embed_documents(TEXTS).tolist()
    assert asyncio.run(embedding.aget_query_embedding("x")) == embedding.get_query_embedding("x")
    assert asyncio.run(embedding.aget_text_embedding("x")) == embedding.get_text_embedding("x")
    index = VectorStoreIndex([TextNode(text=text) for text in TEXTS], embed_model=embedding)
    found = [hit.node.get_content() for hit in index.as_retriever(similarity_top_k=3).retrieve("carbon")]
    assert found == [ranked.text for ranked in embedder.rank("carbon", TEXTS)]


def test_a_copy_of_llama_index_loads_the_model_again(tiny, embedder):
    from embergem.integrations.llama_index import EmbergemEmbedding

    first = EmbergemEmbedding(str(tiny), truncate=True, embed_batch_size=7, dtype="int16", threads=1)
    expected = first.get_text_embedding("x")
    assert expected != embedder.embed_documents("x")[0].tolist()  # the dtype is in use
    copies = (
        pickle.loads(pickle.dumps(first)),
        EmbergemEmbedding.from_dict(first.to_dict()),
        EmbergemEmbedding.from_json(first.to_json()),
    )
    for again in copies:
        assert again.get_text_embedding("x") == expected
        assert (again.model, again.model_name) == (str(tiny), "gemma3_text")
        assert (again.truncate, again.embed_batch_size) == (True, 7)
        assert again.load_options == {"dtype": "int16", "threads": 1}
    secret = EmbergemEmbedding(str(tiny), token_source="literal:hf_secret")
    assert b"hf_secret" not in pickle.dumps(secret)
    assert "hf_secret" not in secret.to_json()
    named = EmbergemEmbedding(str(tiny), token_source="env:HF_TOKEN")
    assert named.load_options == {"token_source": "env:HF_TOKEN"}
    assert pickle.loads(pickle.dumps(EmbergemEmbedding())).model == "sentence-transformers/all-MiniLM-L6-v2"


def test_llama_index_refuses_ambiguous_models(tiny, tmp_path, embedder):
    from embergem.errors import UnknownModel, UnsupportedOption
    from embergem.integrations.llama_index import EmbergemEmbedding

    given = EmbergemEmbedding(embedder)
    with pytest.raises(TypeError, match=r"made from an open Embedder \(gemma3_text\)"):
        pickle.dumps(given)
    with pytest.raises(UnsupportedOption, match="model_name='gemma3_text' is only a label"):
        EmbergemEmbedding.from_dict(given.to_dict())
    with pytest.raises(UnsupportedOption, match="dtype: this model is loaded already"):
        EmbergemEmbedding(embedder, dtype="int16")
    moved = shutil.copytree(tiny, tmp_path / "moved")
    pickled = pickle.dumps(EmbergemEmbedding(str(moved)))
    shutil.rmtree(moved)
    with pytest.raises(UnknownModel, match="moved"):
        pickle.loads(pickled)


def test_chroma(tiny, embedder, tmp_path):
    import chromadb

    from embergem.integrations.chroma import EmbergemEmbeddingFunction

    function = EmbergemEmbeddingFunction(str(tiny))
    settings = chromadb.Settings(anonymized_telemetry=False)
    client = chromadb.PersistentClient(str(tmp_path), settings)
    collection = client.create_collection("facts", embedding_function=function)
    collection.add(ids=["0", "1", "2"], documents=TEXTS)
    stored = collection.get(ids=["0", "1", "2"], include=["embeddings"])["embeddings"]
    assert np.abs(stored - embedder.embed_documents(TEXTS)).max() < 1e-6
    again = client.get_collection("facts")  # loads the model from the stored configuration
    assert again.query(query_texts=["carbon"], n_results=3)["documents"] == [
        [ranked.text for ranked in embedder.rank("carbon", TEXTS)]
    ]
    with pytest.raises(ValueError, match="vectors of dimensions=None, which cannot be compared with those of 5"):
        function.validate_config_update(function.get_config(), {**function.get_config(), "dimensions": 5})


def test_chroma_keeps_the_name_of_the_default_model(minilm, tmp_path, tiny, monkeypatch):
    import chromadb

    from embergem import catalog
    from embergem.integrations.chroma import EmbergemEmbeddingFunction

    function = EmbergemEmbeddingFunction()
    once = "sentence-transformers/all-MiniLM-L6-v2"
    assert function.get_config() == {"model": once, "dimensions": None, "truncate": False}
    client = chromadb.PersistentClient(str(tmp_path), chromadb.Settings(anonymized_telemetry=False))
    client.create_collection("facts", embedding_function=function).add(ids=["0"], documents=TEXTS[:1])
    monkeypatch.setattr(catalog, "DEFAULT", str(tiny))  # the default of a later version
    assert client.get_collection("facts").query(query_texts=["carbon"])["documents"] == [TEXTS[:1]]
    older = {**function.get_config(), "model": None}  # the configuration of an early version
    assert EmbergemEmbeddingFunction.build_from_config(older).model == once
    function.validate_config_update(older, function.get_config())
    with pytest.raises(ValueError, match=f"vectors of model='{once}', which cannot be compared with those of '{tiny}'"):
        function.validate_config_update(older, {**older, "model": str(tiny)})


def test_lancedb(tiny, embedder, tmp_path):
    import lancedb
    from lancedb.embeddings import get_registry
    from lancedb.pydantic import LanceModel, Vector

    import embergem.integrations.lancedb  # noqa: F401 - registers

    function = get_registry().get("embergem").create(model=str(tiny))

    class Fact(LanceModel):
        text: str = function.SourceField()
        vector: Vector(function.ndims()) = function.VectorField()

    table = lancedb.connect(tmp_path).create_table("facts", schema=Fact)
    table.add([{"text": text} for text in TEXTS])
    stored = np.array(table.to_arrow().column("vector").to_pylist(), dtype=np.float32)
    assert np.array_equal(stored, embedder.embed_documents(TEXTS))
    found = table.search("carbon").metric("cosine").limit(3).to_list()
    assert [row["text"] for row in found] == [ranked.text for ranked in embedder.rank("carbon", TEXTS)]


def test_lancedb_keeps_the_name_of_the_default_model(minilm, tmp_path, tiny, monkeypatch):
    import lancedb
    from lancedb.embeddings import get_registry
    from lancedb.pydantic import LanceModel, Vector

    import embergem.integrations.lancedb  # noqa: F401 - registers the function
    from embergem import catalog
    from embergem.integrations import shared_embedder

    function = get_registry().get("embergem").create()

    class Fact(LanceModel):
        text: str = function.SourceField()
        vector: Vector(function.ndims()) = function.VectorField()

    lancedb.connect(tmp_path).create_table("facts", schema=Fact).add([{"text": TEXTS[0]}])
    monkeypatch.setattr(catalog, "DEFAULT", str(tiny))  # the default of a later version
    shared_embedder.cache_clear()
    table = lancedb.connect(tmp_path).open_table("facts")
    assert [row["text"] for row in table.search("carbon").limit(1).to_list()] == TEXTS[:1]


def test_sklearn(tiny, embedder):
    from sklearn.base import clone
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.pipeline import make_pipeline

    from embergem.integrations.sklearn import EmbergemVectorizer

    vectorizer = EmbergemVectorizer(tiny)
    assert np.array_equal(vectorizer.fit_transform(TEXTS), embedder.embed(TEXTS, task="classification"))
    copy = pickle.loads(pickle.dumps(clone(vectorizer)))
    assert copy._embedder() is vectorizer._embedder()
    assert len(vectorizer.get_feature_names_out()) == 96
    texts = [f"the fruit {number} is sweet" for number in range(9)] + [f"metal {number} is hard" for number in range(9)]
    labels = [0] * 9 + [1] * 9
    pipeline = make_pipeline(vectorizer, LogisticRegression())
    assert cross_val_score(pipeline, texts, labels, cv=3).mean() > 0.9
    search = GridSearchCV(pipeline, {"embergemvectorizer__task": ["classification", None]}, cv=3).fit(texts, labels)
    assert search.best_score_ > 0.9


def test_models_evicted_from_the_cache_are_freed(tiny, tmp_path):
    from embergem.integrations import shared_embedder

    shared_embedder.cache_clear()
    before = set(threading.enumerate())
    shared_embedder(str(tiny))
    threads = [thread for thread in set(threading.enumerate()) - before if "gemma3_text" in thread.name]
    assert len(threads) == 2
    for number in range(shared_embedder.cache_parameters()["maxsize"]):
        shared_embedder(str(shutil.copytree(tiny.parent / "bert_mean", tmp_path / str(number))))
    gc.collect()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    shared_embedder.cache_clear()


def test_a_model_without_the_prompt_takes_texts_as_they_are(query_only):
    import pyarrow as pa

    from embergem import Embedder
    from embergem.errors import InvalidTask
    from embergem.integrations.arrow import embed_column
    from embergem.integrations.sklearn import EmbergemVectorizer

    with Embedder(query_only) as embedder:
        plain = embedder.embed(TEXTS)
        table = pa.table({"text": TEXTS})
        assert np.array_equal(EmbergemVectorizer(query_only).fit_transform(TEXTS), plain)
        queries = EmbergemVectorizer(query_only, task="query").fit_transform(TEXTS)
        assert np.array_equal(queries, embedder.embed_query(TEXTS))
        assert not np.array_equal(queries, plain)
        found = embed_column(embedder, table, "text", task="clustering").column("embedding")
        assert np.array_equal(np.stack(found.to_numpy()), plain)
        for call in (
            lambda: EmbergemVectorizer(query_only, task="clasification").fit_transform(TEXTS),
            lambda: embed_column(embedder, table, "text", task="clasification"),
        ):
            with pytest.raises(InvalidTask, match="clasification"):
                call()


def test_arrow(embedder):
    import duckdb
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from embergem.integrations.arrow import embed_column, to_arrow

    vectors = embedder.embed_documents(TEXTS)
    array = to_arrow(vectors)
    assert array.type == pa.list_(pa.float32(), 96)
    assert array.flatten().buffers()[1].address == vectors.ctypes.data
    for output, kind in (("float16", pa.float16()), ("int8", pa.int8()), ("binary", pa.uint8())):
        assert to_arrow(embedder.embed(TEXTS, output=output)).type.value_type == kind
    plain = pa.table({"text": TEXTS})
    for frame in (plain, pl.DataFrame({"text": TEXTS}), pd.DataFrame({"text": TEXTS}), duckdb.from_arrow(plain)):
        table = embed_column(embedder, frame, "text")
        assert np.array_equal(np.stack(table.column("embedding").to_numpy()), vectors)
    assert pl.from_arrow(table).schema["embedding"] == pl.Array(pl.Float32, 96)
    query = embedder.embed_query("carbon", output="list")[0]
    connection = duckdb.connect()
    connection.register("facts", table)
    order = "SELECT text FROM facts ORDER BY array_cosine_similarity(embedding, $1::FLOAT[96]) DESC"
    found = [text for (text,) in connection.execute(order, [query]).fetchall()]
    assert found == [ranked.text for ranked in embedder.rank("carbon", TEXTS)]
    with pytest.raises(ValueError, match="Row 1 of the column 'text' is null"):
        embed_column(embedder, pa.table({"text": ["a", None]}), "text")
    with pytest.raises(ValueError, match=r"Give an array \(n, d\)"):
        to_arrow(vectors[0])
