"""The members, signatures and functions of the library sentence-transformers, recorded from the library itself."""

import inspect
import json
import sys
import types

import numpy as np
import pytest
from goldens import DATA

import embergem.sentence_transformers as ours
from embergem.compat.arguments import Different, Ignored, Refused
from embergem.compat.sentence_transformers.members import PROPERTIES
from embergem.compat.sentence_transformers.tables import CONSTRUCTOR, MEMBERS, NAMES
from embergem.errors import IgnoredOptionWarning, InvalidType, TruncationWarning, UnsupportedOption
from embergem.sentence_transformers import SentenceTransformer, util

RECORD = json.loads((DATA.parent / "sentence_transformers_api.json").read_text())
MEMBERS_THERE = {name: member for name, member in RECORD["members"].items() if not member["torch"] or name in MEMBERS}
RESULTS = RECORD["results"]
OWN_ARGUMENTS = {"dtype", "threads", "dense_from", "allow_missing_dense", "arch", "window", "tokenizer"}


@pytest.fixture(scope="module")
def model(tiny):
    found = SentenceTransformer(tiny.parent / "bert_mean")
    yield found
    found.close()


@pytest.fixture(scope="module")
def arrays():
    """The arrays that scripts/sentence_transformers_api.py makes."""
    rng = np.random.default_rng(7)
    a, b = rng.standard_normal((5, 16)).astype(np.float32), rng.standard_normal((7, 16)).astype(np.float32)
    groups = np.repeat(rng.standard_normal((3, 16)), [6, 4, 5], axis=0) + 0.2 * rng.standard_normal((15, 16))
    return a, b, groups.astype(np.float32)


def test_the_constructor_has_every_argument_of_the_library():
    here = set(inspect.signature(SentenceTransformer).parameters) - {"options"}
    assert set(RECORD["constructor"]) <= here | set(CONSTRUCTOR)
    assert here - set(RECORD["constructor"]) == OWN_ARGUMENTS


@pytest.mark.parametrize("name", MEMBERS_THERE)
def test_every_member_is_the_same_different_ignored_or_refused(name, model):
    treatment = MEMBERS.get(name)
    defined = hasattr(SentenceTransformer, name)
    assert defined == (treatment is None or isinstance(treatment, Different))
    if isinstance(treatment, Refused) and name in PROPERTIES:
        with pytest.raises(AttributeError, match=rf"^SentenceTransformer.{name} is not supported: "):
            getattr(model, name)
    elif isinstance(treatment, Refused):
        with pytest.raises(UnsupportedOption, match=rf"^{name} is not supported: ") as raised:
            getattr(model, name)(1, option=2)
        assert treatment.reason in str(raised.value)
    elif isinstance(treatment, Ignored):
        assert getattr(model, name)() is model


def test_the_tables_have_only_members_of_the_library():
    assert set(MEMBERS) <= set(RECORD["members"])


@pytest.mark.parametrize("name", [name for name in MEMBERS_THERE if hasattr(SentenceTransformer, name)])
def test_positional_arguments_have_the_order_of_the_library(name):
    there = MEMBERS_THERE[name]["parameters"]
    member = getattr(SentenceTransformer, name)
    if there is None or name in ("encode_query", "encode_document"):  # these pass all arguments on to `encode`
        return
    here = [name for name in inspect.signature(member).parameters if name != "self"]
    common = [parameter for parameter in there if parameter != "kwargs"]
    assert here[: len(common)] == common


def test_members_of_torch_modules_are_no_attributes(model):
    names = [name for name, member in RECORD["members"].items() if member["torch"] and name not in MEMBERS]
    assert "state_dict" in names
    assert [name for name in names if hasattr(model, name)] == []
    with pytest.raises(AttributeError, match=r"no attribute 'encod'. Did you mean 'encode'\?"):
        model.encod  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_missing_give_their_reason(name):
    with pytest.raises(ImportError, match=rf"has no {name}: \w+"):
        getattr(ours, name)


@pytest.mark.parametrize(
    "name", [name for name in RESULTS if name.endswith(("_sim", "_score")) and not name.startswith("pairwise")]
)
def test_similarities_are_those_of_the_library(name, arrays):
    a, b, _ = arrays
    assert np.abs(getattr(util, name)(a, b) - RESULTS[name]).max() < 1e-4
    assert np.abs(getattr(util, f"pairwise_{name}")(a, b[:5]) - RESULTS[f"pairwise_{name}"]).max() < 1e-4
    assert getattr(util, name)(a[0].tolist(), b).shape == (1, 7)


def test_similarity_of_the_model_follows_similarity_fn_name(model, arrays):
    a, b, _ = arrays
    for name, function in [("cosine", "cos_sim"), ("dot", "dot_score"), ("euclidean", "euclidean_sim")]:
        model.similarity_fn_name = name
        assert np.abs(model.similarity(a, b) - RESULTS[function]).max() < 1e-4
        assert np.abs(model.similarity_pairwise(a, b[:5]) - RESULTS[f"pairwise_{function}"]).max() < 1e-4
    model.similarity_fn_name = util.SimilarityFunction.COSINE
    with pytest.raises(UnsupportedOption, match="similarity_fn_name='cosin' is unknown"):
        model.similarity_fn_name = "cosin"


def test_tensors_in_give_tensors_out(arrays, monkeypatch):
    a, b, _ = arrays

    class Tensor(np.ndarray):
        """Stands for torch's class, which `make test` does not install."""

        __module__ = "torch"

        def detach(self):
            return self

        cpu = float = detach

        def numpy(self):
            return np.asarray(self)

    torch = types.SimpleNamespace(from_numpy=lambda array: array.view(Tensor))
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert type(util.cos_sim(a, b)) is np.ndarray
    assert type(util.cos_sim(a.view(Tensor), b)) is Tensor
    assert type(util.dot_score([row.view(Tensor) for row in a], b)) is Tensor
    assert np.array_equal(util.cos_sim(a.view(Tensor), b), util.cos_sim(a, b))


def test_search_is_that_of_the_library(arrays):
    a, b, _ = arrays
    for chunk in (3, 500_000):
        found = util.semantic_search(a, b, top_k=3, query_chunk_size=2, corpus_chunk_size=chunk)
        assert [[hit["corpus_id"] for hit in hits] for hits in found] == [
            [index for index, _ in hits] for hits in RESULTS["semantic_search"]
        ]
        scores = [[hit["score"] for hit in hits] for hits in found]
        assert (
            np.abs(np.subtract(scores, [[score for _, score in hits] for hits in RESULTS["semantic_search"]])).max()
            < 1e-4
        )
    assert len(util.semantic_search(a, b, top_k=99)[0]) == 7


def test_pairs_and_communities_are_those_of_the_library(arrays, model):
    _, _, groups = arrays
    pairs = util.paraphrase_mining_embeddings(groups, top_k=2, max_pairs=12)
    expected = RESULTS["paraphrase_mining_embeddings"]
    assert [pair[1:] for pair in pairs] == [pair[1:] for pair in expected]
    assert np.abs(np.subtract([pair[0] for pair in pairs], [pair[0] for pair in expected])).max() < 1e-4
    communities = util.community_detection(groups, 0.75, min_community_size=4, batch_size=6)
    assert [set(group) for group in communities] == [set(group) for group in RESULTS["community_detection"]]
    best = util.paraphrase_mining(model, ["graphene", "apples", "graphene"])[0]
    assert best[1:] == [0, 2]
    assert best[0] > 0.9999


@pytest.mark.parametrize("precision", RESULTS["quantize_embeddings"])
def test_quantized_vectors_are_those_of_the_library(precision, arrays):
    _, _, groups = arrays
    found = util.quantize_embeddings(groups, precision, calibration_embeddings=np.repeat(groups, 7, axis=0))
    assert np.array_equal(found, RESULTS["quantize_embeddings"][precision])


def test_int8_from_few_vectors_warns(arrays):
    with pytest.warns(UserWarning, match="come from 7 vectors"):
        util.quantize_embeddings(arrays[1], "int8")
    with pytest.raises(UnsupportedOption, match="precision='int4' is unknown"):
        util.quantize_embeddings(arrays[1], "int4")


def test_positional_and_older_arguments(model):
    vectors = model.encode(["a", "b"])
    assert np.array_equal(model.encode(["a", "b"], None, None, 32, False), vectors)
    assert np.array_equal(model.encode(sentences=["a", "b"]), vectors)
    assert np.array_equal(model.encode([{"text": "a"}, "b"]), vectors)
    assert np.array_equal(model.encode({"text": "a"}), vectors[0])
    assert np.array_equal(model.encode_query(["x"], None, "a: "), model.encode(["a: x"]))
    with pytest.raises(InvalidType, match="is a pair") as raised:
        model.encode(["a", ("question", "answer")])
    assert raised.value.input_index == 1
    with pytest.raises(InvalidType, match="is of type dict"):
        model.encode([{"image": "cat.png"}])
    with pytest.raises(TypeError, match="encode needs inputs"):
        model.encode()


def test_pools_use_the_threads_of_this_process(model):
    pool = model.start_multi_process_pool()
    assert np.array_equal(model.encode_multi_process(["a", "b"], pool), model.encode(["a", "b"]))
    model.stop_multi_process_pool(pool)
    with pytest.warns(IgnoredOptionWarning, match="pool="):
        model.encode("a", pool=pool)


def test_max_seq_length_can_be_lowered(model):
    text = "graphene is a carbon lattice of one layer"
    whole = model.encode(text)
    ids = model.tokenizer.encode(text)
    model.max_seq_length = 6
    try:
        with pytest.warns(TruncationWarning, match=r"1 inputs were cut to 6 tokens: indices \[1\]"):
            cut = model.encode(["a", text])
        assert np.array_equal(cut[1], model.embedder.embed([[*ids[:5], ids[-1]]])[0])
        assert np.array_equal(cut[0], model.embedder.embed("a")[0])
        assert model.tokenize(["a", text])["input_ids"].shape == (2, 6)
        assert model.preprocess(["a"], "b ")["attention_mask"].tolist() == [[1] * len(model.tokenizer.encode("b a"))]
        with pytest.raises(UnsupportedOption, match="max_seq_length=2 leaves no room"):
            model.max_seq_length = 2
    finally:
        model.max_seq_length = model.embedder.limit
    assert np.array_equal(model.encode(text), whole)
    with pytest.raises(UnsupportedOption, match="max_seq_length=100000 is not possible: the limit of"):
        model.max_seq_length = 100_000


def test_the_tokenizer_has_the_usual_methods(tiny):
    model = SentenceTransformer(tiny)
    tokenizer = model.tokenizer
    ids = tokenizer.encode("graphene")
    assert tokenizer("graphene") == {"input_ids": ids, "attention_mask": [1] * len(ids)}
    assert tokenizer(["graphene"])["input_ids"] == [ids]
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == "graphene"
    assert tokenizer.model_max_length == model.max_seq_length == 128
    model.close()


def test_moving_the_model_warns_and_returns_it(model, recwarn):
    assert model.eval().cpu().to("cpu") is model
    assert recwarn.list == []
    with pytest.warns(IgnoredOptionWarning, match=r"to\('cuda',\) is ignored: embergem computes on the CPU") as caught:
        assert model.to("cuda") is model
    assert caught[0].filename == __file__


def test_context_managers_evaluators_and_facts(model):
    with model.truncate_sentence_embeddings(16):
        assert model.encode("a").shape == (16,)
        assert model.get_embedding_dimension() == 16
    assert model.encode("a").shape == (64,)
    assert model.evaluate(lambda model, path: {"dimensions": model.get_embedding_dimension(), "path": path}, "x") == {
        "dimensions": 64,
        "path": "x",
    }
    assert (model.modalities, model.supports("image"), model.get_backend()) == (["text"], False, "embergem")
    assert model.get_model_kwargs() == []
    with pytest.raises(UnsupportedOption, match=r"set_pooling_include_prompt\(True\) is not supported"):
        model.set_pooling_include_prompt(True)


def test_load_is_the_constructor(tiny, model):
    loaded = SentenceTransformer.load(str(tiny.parent / "bert_mean"))
    assert np.array_equal(loaded.encode("a"), model.encode("a"))
    loaded.close()
