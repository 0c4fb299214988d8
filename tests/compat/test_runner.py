"""The selector-style API: names, defaults and exception types of the interface it follows."""

import gc
import inspect
import warnings
import weakref

import numpy as np
import pytest

from embergem import EmbeddingArchitecture, EmbeddingModelBuilder, EmbeddingRequest, ModelDType, Runner, Which
from embergem.errors import IgnoredOptionWarning, TruncationWarning, UnsupportedOption


@pytest.fixture(scope="module")
def which(tiny):
    return Which.Embedding(model_id=str(tiny), arch=EmbeddingArchitecture.EmbeddingGemma)


@pytest.fixture(scope="module")
def runner(which):
    return Runner(which=which)


def test_vectors_are_those_of_the_embedder(runner, embedder):
    texts = ["What is graphene?", "a"]
    vectors = runner.send_embedding_request(EmbeddingRequest(input=texts, truncate_sequence=True))
    assert isinstance(vectors, list)
    assert isinstance(vectors[0][0], float)
    assert np.array_equal(np.array(vectors, dtype=np.float32), embedder.embed(texts))


def test_truncation_is_reported(runner, embedder):
    request = EmbeddingRequest(["short", "graphene " * 300], truncate_sequence=True)
    with pytest.warns(TruncationWarning, match="1 of 2 inputs.*limit of 128 tokens: indices 1 of") as caught:
        vectors = runner.send_embedding_request(request)
    assert caught[0].filename == __file__
    with pytest.warns(TruncationWarning):
        assert np.array_equal(np.float32(vectors), embedder.embed(["short", "graphene " * 300], truncate=True))


def test_the_four_forms_of_input(runner):
    for value, count in (("a", 1), (["a", "b"], 2), ([5, 6], 1), ([[5], [6, 7]], 2)):
        assert len(runner.send_embedding_request(EmbeddingRequest(value))) == count


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ([], ValueError),
        ([[]], ValueError),
        ([[5], []], ValueError),
        ([-1], ValueError),
        ([2**32], ValueError),
        (5, TypeError),
        (None, TypeError),
        (["a", 5], TypeError),
        ([[5], "a"], TypeError),
        ([1.5], TypeError),
        ([True], TypeError),
        (("a",), TypeError),
    ],
)
def test_bad_inputs_are_refused_when_the_request_is_made(value, error):
    with pytest.raises(error):
        EmbeddingRequest(input=value)


def test_bad_requests(runner):
    for request in (EmbeddingRequest(input=[5000]), EmbeddingRequest(input="graphene " * 500)):
        with pytest.raises(ValueError, match=r"5000|at most 128"):
            runner.send_embedding_request(request)
    with pytest.raises(ValueError, match="'other' is not served here"):
        runner.send_embedding_request(EmbeddingRequest("a"), model_id="other")
    with pytest.raises(TypeError):
        runner.send_embedding_request("a")
    assert len(runner.send_embedding_request(EmbeddingRequest("a"), model_id="default")) == 1


def test_defaults_and_positions_of_the_interface():
    names = list(inspect.signature(Runner).parameters)
    assert names[:5] == ["which", "max_seqs", "no_kv_cache", "prefix_cache_n", "token_source"]
    assert len(names) == 27
    assert inspect.signature(EmbeddingRequest).parameters["truncate_sequence"].default is False
    assert Which.Embedding("x").dtype is ModelDType.Auto
    assert {dtype.name for dtype in ModelDType} == {"Auto", "F32", "BF16", "F16", "I16", "I8"}
    fields = list(inspect.signature(Which.Embedding).parameters)
    interface = ["model_id", "arch", "tokenizer_json", "topology", "write_uqff", "from_uqff", "dtype", "hf_cache_path"]
    assert fields[:10] == [*interface, "imatrix", "calibration_file"]


def test_settings_without_meaning_warn(which):
    with pytest.warns(IgnoredOptionWarning, match=r"max_seqs=32") as caught:
        Runner(which, 32)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Runner(which, max_seqs=16, seed=None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"in_situ_quant": "Q4K"}, r"in_situ_quant.*Which\.Embedding\(dtype="),
        ({"num_device_layers": ["1:10"]}, "num_device_layers"),
        ({"token_source": "file:X"}, "path:FILE"),
        ({"enable_search": True}, "enable_search"),
    ],
)
def test_unsupported_settings_are_refused(which, options, words):
    with pytest.raises(ValueError, match=words):
        Runner(which, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"topology": "t.yml"},
        {"write_uqff": "x"},
        {"from_uqff": ["x"]},
        {"hf_cache_path": "x"},
        {"imatrix": "x"},
        {"calibration_file": "x"},
        {"dtype": ModelDType.F16},
        {"dtype": "float17"},
        {"arch": EmbeddingArchitecture.Qwen3Embedding},
    ],
)
def test_unsupported_selectors_are_refused(tiny, options):
    with pytest.raises(ValueError, match=next(iter(options)) + "|leave out arch"):
        Runner(Which.Embedding(str(tiny), **options))


def test_values_of_wrong_types_are_refused():
    with pytest.raises(TypeError):
        Runner("google/embeddinggemma-300m")
    with pytest.raises(TypeError):
        Runner(Which.Embedding("x"), no_such_argument=1)
    with pytest.raises(ValueError, match="No model is called"):
        Runner(Which.Embedding("nonsense"))


def test_models_are_listed_unloaded_and_removed(which, tiny):
    with Runner(which) as runner:
        first = str(tiny)
        assert runner.list_models() == [first]
        assert runner.get_default_model_id() == first
        assert runner.max_sequence_length() == 128
        runner.add_model(Which.Embedding(str(tiny.parent / "bert_mean")), alias="bert")
        assert runner.list_models_with_status() == [(first, "loaded"), ("bert", "loaded")]
        [vector] = runner.send_embedding_request(EmbeddingRequest("a"), model_id="bert")
        assert len(vector) == 64
        runner.unload_model("bert")
        assert not runner.is_model_loaded("bert")
        assert runner.list_unloaded_models() == ["bert"]
        assert runner.get_model_status("bert") == "unloaded"
        assert runner.send_embedding_request(EmbeddingRequest("a"), model_id="bert") == [vector]  # loads it again
        runner.reload_model("bert")
        assert runner.get_model_status("bert") == "loaded"
        assert runner.send_embedding_request(EmbeddingRequest("a"), model_id=str(tiny.parent / "bert_mean")) == [vector]
        runner.set_default_model_id("bert")
        assert runner.send_embedding_request(EmbeddingRequest("a")) == [vector]
        runner.remove_model(first)
        assert runner.list_models() == ["bert"]
        assert runner.get_model_status(first) is None
        for call in (runner.remove_model, runner.send_re_isq):
            with pytest.raises(ValueError, match="bert"):
                call("bert")
        for call in (runner.remove_model, runner.unload_model, runner.is_model_loaded, runner.set_default_model_id):
            with pytest.raises(ValueError, match="'nonsense' is not served here"):
                call("nonsense")
        with pytest.raises(ValueError, match="taken"):
            runner.add_model(Which.Embedding(str(tiny)), alias="bert")


def test_one_model_can_be_added_twice(which, tiny, embedder, monkeypatch):
    with Runner(which) as runner:
        first = str(tiny)
        runner.add_model(Which.Embedding(first, dtype=ModelDType.BF16), alias="bf16")
        assert runner.list_models() == [first, "bf16"]
        exact, coarse = (runner.send_embedding_request(EmbeddingRequest("a"), name) for name in (first, "bf16"))
        assert np.array_equal(np.float32(exact), embedder.embed("a"))
        assert exact != coarse
        assert runner.send_embedding_request(EmbeddingRequest("a"), "gemma3_text") == exact
        loads = []
        monkeypatch.setattr("embergem.compat.mistralrs.runner.load", loads.append)
        for name, alias in ((first, None), (first, "bf16"), ("gemma3_text", None), (first, "default")):
            with pytest.raises(UnsupportedOption, match=f"the name '{alias or name}' is taken.*another alias"):
                runner.add_model(Which.Embedding(name), alias=alias)
        assert loads == []


def test_an_unloaded_model_frees_its_memory(which):
    with Runner(which) as runner:
        with runner._use(None) as engine:
            seen = weakref.ref(engine)
        del engine
        runner.unload_model("default")
        gc.collect()
        assert seen() is None
        assert len(runner.send_embedding_request(EmbeddingRequest("a"))) == 1


def test_texts_become_ids_and_back(runner, embedder):
    ids = runner.tokenize_text("What is graphene?", True)
    [vector] = runner.send_embedding_request(EmbeddingRequest(ids))
    assert np.array_equal(np.float32(vector), embedder.embed("What is graphene?")[0])
    assert runner.tokenize_text("What is graphene?", False) == ids[1:-1]
    assert runner.detokenize_text(ids, True) == runner.detokenize_text(ids[1:-1], False)
    with pytest.raises(ValueError, match="chat models"):
        runner.tokenize_text("a", True, enable_thinking=True)
    with pytest.raises(ValueError, match="99999"):
        runner.detokenize_text([99999], True, model_id="default")


@pytest.mark.parametrize(("arch", "words"), [("gemma", "Did you mean 'EmbeddingGemma'"), ("gemma3_text", "Give Embed")])
def test_an_architecture_that_is_no_member_is_refused(tiny, arch, words):
    for make in (
        lambda: Runner(which=Which.Embedding(str(tiny), arch=arch)),
        lambda: EmbeddingModelBuilder(str(tiny)).with_loader_type(arch),
    ):
        with pytest.raises(TypeError, match=f"^arch='{arch}' is no EmbeddingArchitecture.*{words}") as caught:
            make()
        assert isinstance(caught.value, ValueError)
