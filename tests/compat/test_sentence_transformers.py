"""The `SentenceTransformer` class: its vectors, rules and names are those of the library."""

import sys
import types
import warnings

import numpy as np
import pytest
from goldens import golden

from embergem import TruncationWarning
from embergem.errors import IgnoredOptionWarning, InvalidTask, UnsupportedOption
from embergem.sentence_transformers import SentenceTransformer


@pytest.fixture(scope="module")
def model(tiny):
    return SentenceTransformer(str(tiny))


@pytest.mark.parametrize("name", ["gemma3_text", "bert_mean", "modernbert", "qwen3"])
def test_arrays_are_those_of_the_library(tiny, name):
    checkpoint = golden(name)
    ours = SentenceTransformer(tiny.parent / name)
    with pytest.warns(TruncationWarning):
        vectors = ours.encode(checkpoint.texts)
    expected = checkpoint.vectors[: len(checkpoint.texts)]
    assert np.abs(vectors - expected).max() < 1e-5
    assert np.abs(ours.encode(checkpoint.texts[2]) - expected[2]).max() < 1e-5
    ours.close()


def test_shapes(model):
    assert model.encode("a").shape == (96,)
    assert model.encode(["a"]).shape == (1, 96)
    assert model.encode([]).shape == (0, 96)
    assert model.encode(np.array(["a", "b"])).shape == (2, 96)
    assert model.get_sentence_embedding_dimension() == model.get_embedding_dimension() == 96
    assert model.max_seq_length == model.get_max_seq_length() == 128
    assert model.device == "cpu"
    assert model.tokens(["", "a"])[0] == 2


def test_truncated_vectors_are_not_normalised(tiny, model):
    whole = model.encode(["a", "graphene"])
    cut = model.encode(["a", "graphene"], truncate_dim=32)
    assert np.array_equal(cut, whole[:, :32])
    assert (np.linalg.norm(cut, axis=1) < 0.99).all()
    unit = model.encode(["a", "graphene"], truncate_dim=32, normalize_embeddings=True)
    assert np.allclose(np.linalg.norm(unit, axis=1), 1)
    assert np.allclose(model.similarity(unit, unit), model.similarity(cut, cut), atol=1e-6)
    short = SentenceTransformer(tiny, truncate_dim=32)
    assert np.array_equal(short.encode(["a", "graphene"]), cut)
    assert short.get_sentence_embedding_dimension() == 32


def test_prompts(tiny, model):
    prompts = {"query": "task: search result | query: ", "document": "title: none | text: "}
    given = SentenceTransformer(tiny, prompts=prompts)
    plain = model.encode("task: search result | query: x")
    assert np.array_equal(given.encode_query("x"), plain)
    assert np.array_equal(given.encode("x", prompt_name="query"), plain)
    assert np.array_equal(given.encode_document("x"), model.encode("title: none | text: x"))
    assert np.array_equal(model.encode("x", prompt="task: search result | query: "), plain)
    assert np.array_equal(model.encode_query("x", prompt="other: "), model.encode("other: x"))
    assert np.array_equal(model.encode("x", prompt_name="clustering"), model.encode("task: clustering | query: x"))
    with pytest.raises(InvalidTask, match=r"no prompt named 'sing'.*clustering"):
        model.encode("x", prompt_name="sing")
    own = SentenceTransformer(tiny.parent / "bert_mean", prompts={"passage": "p: "}, default_prompt_name="passage")
    assert np.array_equal(own.encode("x"), own.encode_query("x", prompt_name="passage"))
    for method in (own.encode_query, own.encode_document):  # as in the library, neither method uses the default prompt
        assert np.array_equal(method("x"), own.encode("x", prompt=""))
    assert not np.array_equal(own.encode("x"), own.encode("x", prompt=""))
    with pytest.raises(InvalidTask, match="'nonsense'"):
        SentenceTransformer(tiny, default_prompt_name="nonsense")


def test_only_declared_prompts_are_added(tiny, query_only):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = SentenceTransformer(tiny)
        plain = [model.encode("x").tolist()] * 2
        assert [model.encode_query("x").tolist(), model.encode("x", prompt_name="query").tolist()] == plain
        assert [model.encode_document("x").tolist() for _ in range(2)] == plain
    assert [warning.filename for warning in caught] == [__file__] * 2
    for warning, words in zip(caught, ("task: search result | query: ", "title: none | text: "), strict=True):
        assert f"{words}'}})" in str(warning.message)
    silent = SentenceTransformer(tiny, prompts={"query": "", "document": ""})
    assert [silent.encode_query("x").tolist(), silent.encode_document("x").tolist()] == plain
    declared = SentenceTransformer(query_only)  # embergem has no document prompt for it either
    assert np.array_equal(declared.encode_query("x"), declared.encode("query: x"))
    assert np.array_equal(declared.encode_document("x"), declared.encode("x"))


def test_binary_precisions(model):
    vectors = model.encode(["a", "b"])
    bits = model.encode(["a", "b"], precision="ubinary")
    assert np.array_equal(np.unpackbits(bits, axis=1), vectors > 0)
    signed = model.encode(["a", "b"], precision="binary")
    assert signed.dtype == np.int8
    assert np.array_equal(signed.astype(int) + 128, bits)


def test_tensors_if_torch_is_installed(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UnsupportedOption, match="torch, which is not installed"):
        model.encode("a", convert_to_tensor=True)
    fake = types.SimpleNamespace(from_numpy=lambda array: array.view(np.matrix))
    monkeypatch.setitem(sys.modules, "torch", fake)
    assert isinstance(model.encode(["a"], convert_to_tensor=True), np.matrix)
    assert len(model.encode(["a", "b"], convert_to_numpy=False)) == 2


def test_similarity(model):
    first, second = model.encode(["a", "b"]), model.encode(["c", "d"])
    whole = model.similarity(first, second)
    assert np.allclose(model.similarity_pairwise(first, second), np.diag(whole), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trust_remote_code": True}, "never runs code"),
        ({"revision": "main"}, "models of the hub"),
        ({"cache_folder": "x"}, "models of the hub"),
        ({"similarity_fn_name": "cosin"}, "cosine, dot, euclidean, manhattan"),
    ],
)
def test_unsupported_arguments_are_refused(tiny, options, words):
    with pytest.raises(UnsupportedOption, match=words):
        SentenceTransformer(tiny, **options)


def test_arguments_without_meaning_warn(tiny, model):
    with pytest.warns(IgnoredOptionWarning, match="backend='onnx'") as caught:
        SentenceTransformer(tiny, backend="onnx")
    assert caught[0].filename == __file__
    with pytest.warns(IgnoredOptionWarning, match=r"encode\(batch_size=8\) is ignored") as caught:
        model.encode("a", batch_size=8)
    assert caught[0].filename == __file__
    with pytest.warns(IgnoredOptionWarning, match="device='cuda'"):
        SentenceTransformer(tiny, device="cuda")
    for call in ({"precision": "int8"}, {"output_value": "token_embeddings"}, {"truncate_dim": -1}):
        with pytest.raises(UnsupportedOption):
            model.encode("a", **call)
    with pytest.raises(TypeError, match="no option 'modle'"):
        SentenceTransformer(tiny, modle="x")


def test_a_model_of_a_server_can_be_used(url, model):
    remote = SentenceTransformer(url)
    assert np.array_equal(remote.encode_query(["a"]), model.encode(["task: search result | query: a"]))
    remote.close()
