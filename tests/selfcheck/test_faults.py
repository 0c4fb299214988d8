"""Every probe finds its fault: a test breaks a model in one way, and the probe fails or warns."""

import json
import shutil
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from entries import entry, tiny_gemma
from goldens import edit
from safetensors.numpy import load_file, save_file

from embergem import catalog
from embergem.catalog import Golden, PinnedFile
from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.files import sha256
from embergem.engine import Request
from embergem.errors import NotReady, UnsupportedOption
from embergem.loader import load
from embergem.options import LoadOptions
from embergem.selfcheck import check
from embergem.selfcheck.check import MODEL_PROBES, VECTOR_PROBES, WHOLE_PROBES

pytestmark = pytest.mark.usefixtures("own_catalog")

KNOWN = tiny_gemma(
    shape={"hidden_size": 96, "head_dim": 32},
    config={"radius": 8, "theta_full": 1e6, "theta_sliding": 1e4},
)


@pytest.fixture
def in_catalog():
    return (KNOWN,)


@pytest.fixture
def model(tiny, tmp_path):
    """A copy of the tiny EmbeddingGemma that a test may break."""
    return shutil.copytree(tiny, tmp_path / "model")


def reweigh(file, **changes):
    """Replace tensors by the results of functions."""
    tensors = load_file(file)
    save_file({name: changes[name](value) if name in changes else value for name, value in tensors.items()}, file)


def report(path, name="fine-tune", **options):
    with load(LoadOptions(model=path, **options), location=Location(name, path)) as engine:
        return engine.report


def failed(found):
    return [finding.name for finding in found.failures]


def warned(found):
    return [finding.name for finding in found.warnings]


def check_context(path, monkeypatch):
    """Return the context that the engine passes to the check."""
    observed = []
    monkeypatch.setattr("embergem.engine.load.self_check", lambda context: observed.append(context) or check(context))
    load(LoadOptions(model=path), location=Location("fine-tune", path)).close()
    return observed[0]


def test_a_correct_model_passes_every_probe_and_is_checked_whole_once(model):
    first, second = report(model), report(model)
    assert not failed(first) + warned(first) + failed(second) + warned(second)
    names = {probe.__name__ for probe in (*MODEL_PROBES, *VECTOR_PROBES, *WHOLE_PROBES)} | {"finite"}
    assert first.whole
    assert {finding.name for finding in first.findings} == names
    assert not second.whole
    assert "same_bits" in {finding.name for finding in second.findings}
    assert report(model, dtype="int16").whole


def test_weights_that_overflow_fail_finite(model):
    reweigh(model / "model.safetensors", **{"norm.weight": lambda w: np.full_like(w, 3e38)})
    found = report(model)
    assert failed(found) == ["finite"]
    assert "float16" in str(found.failures[0])


def test_weights_of_zeros_fail_norms(model):
    reweigh(model / "model.safetensors", **{"norm.weight": lambda w: np.full_like(w, -1)})
    assert "norms" in failed(report(model))


def test_a_kernel_that_mixes_rows_fails_batch_invariance(model, monkeypatch):
    sound = check_context(model, monkeypatch)

    def leaky(ids, cu_seqlens):
        vectors = sound.run(ids, cu_seqlens)
        return vectors + np.float32(1e-7) * vectors.mean(axis=0) if len(vectors) > 1 else vectors

    assert failed(check(replace(sound, run=leaky, variant=("leaky",)))) == ["batch_invariance"]


def test_a_table_of_equal_rows_fails_distinct(model):
    reweigh(model / "model.safetensors", **{"embed_tokens.weight": lambda w: np.repeat(w[:1], len(w), axis=0)})
    assert failed(report(model)) == ["distinct"]


def test_other_bits_than_at_the_first_load_fail_same_bits(model, monkeypatch):
    sound = check_context(model, monkeypatch)

    def damaged(ids, cu_seqlens):
        return sound.run(ids, cu_seqlens) * np.float32(1 + 2**-22)

    assert not failed(check(sound))
    assert failed(check(replace(sound, run=damaged))) == ["same_bits"]


@pytest.mark.parametrize(("cosine", "status"), [(0.9, "error"), (0.999, "warn"), (0.99995, "ok")])
def test_a_dtype_far_from_float32_fails_exactness(model, monkeypatch, cosine, status):
    found = check(replace(check_context(model, monkeypatch), dtype="int8", cosine=cosine, variant=("int8",)))
    [finding] = [finding for finding in found.findings if finding.name == "exactness"]
    assert finding.status == status
    assert "int8" in finding.message


@pytest.mark.parametrize("tokens", [("<bos>",), ()])
@pytest.mark.parametrize("known", [True, False])
def test_lost_special_tokens_fail_special_tokens(model, monkeypatch, tokens, known):
    if not known:
        monkeypatch.setattr(catalog, "CATALOG", ())
    file = model / "tokenizer.json"
    processor = json.loads(file.read_text())["post_processor"]
    parts = [part for part in processor["single"] if part.get("SpecialToken", {}).get("id") in (None, *tokens)]
    edit(file, post_processor=processor | {"single": parts})
    found = report(model)
    assert failed(found)[0] == "special_tokens"
    assert "post_processor" in str(found.failures[0])


def test_truncation_without_the_closing_token_fails_truncation(model, monkeypatch):
    sound = check_context(model, monkeypatch)

    class Careless:
        tasks = sound.text.tasks
        tokenize = staticmethod(sound.text.tokenize)

        def prepare(self, texts, *, task=None, truncate=False):
            rows = sound.text.prepare(texts, task=task, truncate=truncate)
            return [
                (np.append(ids[:-1], np.uint32(7)), length) if length > len(ids) else (ids, length)
                for ids, length in rows
            ]

    assert failed(check(replace(sound, text=Careless(), variant=("careless",)))) == ["truncation"]


def test_prompts_of_another_model_warn(model):
    edit(model / "config_sentence_transformers.json", prompts={"query": "query: ", "document": "passage: "})
    found = report(model)
    assert warned(found) == ["prompts"]
    assert "document, query" in str(found.warnings[0]) or "query, document" in str(found.warnings[0])


def test_every_probe_runs_for_the_text_half_of_embedding_gemma_2(tiny, tmp_path):
    model = shutil.copytree(tiny.parent / "embedding_gemma2", tmp_path / "text")
    (model / "config.json").write_text(json.dumps(json.loads((model / "config.json").read_text())["text_config"]))
    assert not failed(report(model))
    processor = json.loads((model / "tokenizer.json").read_text())["post_processor"]
    parts = [part for part in processor["single"] if part.get("SpecialToken", {}).get("id") != "<eos>"]
    edit(model / "tokenizer.json", post_processor=processor | {"single": parts})
    assert "special_tokens" in failed(report(model))


def test_a_shorter_limit_warns(model):
    edit(model / "sentence_bert_config.json", max_seq_length=32)
    found = report(model)
    assert warned(found) == ["limit"]
    assert "max_seq_length" in str(found.warnings[0])


def test_a_halved_window_warns_and_names_the_window_option(model, tiny):
    edit(model / "config.json", sliding_window=9)
    found = report(model)
    assert warned(found) == ["config"]
    assert "--window 16" in str(found.warnings[0])
    request = Request(ids=[list(range(5, 105))])
    options = LoadOptions(model=model)
    with load(options) as halved, load(replace(options, window=16)) as mended:
        assert not mended.report.warnings
        with load(LoadOptions(model=tiny)) as right:
            assert np.array_equal(mended.embed(request).vectors, right.embed(request).vectors)
            assert not np.array_equal(halved.embed(request).vectors, right.embed(request).vectors)


def test_other_values_of_the_config_warn(model):
    rope = json.loads((model / "config.json").read_text())["rope_parameters"]
    rope["full_attention"]["rope_theta"] = 1e5
    edit(model / "config.json", rope_parameters=rope)
    found = report(model)
    assert warned(found) == ["config"]
    assert "theta_full is 100000.0 instead of 1000000.0" in str(found.warnings[0])


def test_vectors_of_another_size_than_in_the_catalog_fail_or_warn(model, monkeypatch, tmp_path):
    monkeypatch.setattr(catalog, "CATALOG", (msgspec.structs.replace(KNOWN, dimensions=64, config={}),))
    snapshot = shutil.copytree(model, tmp_path / "models--example--gemma" / "snapshots" / "0123abcd")
    found = report(snapshot)
    assert failed(found) == ["config"]
    assert "vectors have 96 numbers, and those of example/gemma have 64" in str(found.failures[0])
    assert warned(report(model, name="example/gemma")) == ["config"]
    assert not failed(report(model)) + warned(report(model))


@pytest.mark.parametrize(("size", "allowed"), [(96, (96, 48, 32)), (64, (64, 16))])
def test_trained_sizes_of_the_catalog_hold_for_vectors_of_its_size_only(model, monkeypatch, size, allowed):
    entry = msgspec.structs.replace(KNOWN, smaller_dimensions=(48, 32), config={}, limit=128)
    monkeypatch.setattr(catalog, "CATALOG", (entry,))
    edit(model / "config.json", matryoshka_dimensions=[64, 16])
    edit(model / "3_Dense" / "config.json", out_features=size)
    reweigh(model / "3_Dense" / "model.safetensors", **{"linear.weight": lambda w: w[:size]})
    with load(LoadOptions(model=model)) as engine:
        assert engine.allowed_dimensions == allowed


def test_a_window_is_refused_for_a_family_without_one(tiny):
    with pytest.raises(UnsupportedOption, match="no sliding window"):
        report(tiny.parent / "bert_mean", window=16)
    with pytest.raises(UnsupportedOption, match="no neighbour"):
        report(tiny, window=1)


@pytest.mark.parametrize("known", [True, False])
def test_missing_dense_layers_fail_and_the_engine_refuses(model, tiny, monkeypatch, known):
    if not known:  # the published number depends on the model; otherwise it is that of the family
        monkeypatch.setattr(catalog, "CATALOG", (entry("example/large", "gemma3_text", 768, dense=2),))
    chain = json.loads((model / "modules.json").read_text())
    kept = [module for module in chain if not module["type"].endswith("Dense")]
    (model / "modules.json").write_text(json.dumps(kept))
    with load(LoadOptions(model=model)) as engine:
        assert not engine.ready
        assert failed(engine.report) == ["dense_layers"]
        with pytest.raises(NotReady, match="dense_layers: the head has 0 dense layers") as raised:
            engine.embed(Request(texts=["a"]))
        assert raised.value.status == 503
    assert report(model).whole  # a failed check is not stored
    with (
        load(LoadOptions(model=model, dense_from=tiny)) as engine,
        load(LoadOptions(model=tiny)) as whole,
    ):
        assert not failed(engine.report) + warned(engine.report)
        assert engine.fingerprint == whole.fingerprint
    with load(LoadOptions(model=model, allow_missing_dense=True)) as engine:
        assert warned(engine.report) == ["dense_layers"]
        assert engine.embed(Request(texts=["a"])).vectors.shape == (1, 96)


def test_a_head_without_normalise_warns(model):
    chain = json.loads((model / "modules.json").read_text())
    (model / "modules.json").write_text(json.dumps([part for part in chain if not part["type"].endswith("Normalize")]))
    assert warned(report(model)) == ["norms"]


@pytest.fixture
def published(model, monkeypatch):
    """Publish the similarities of the model in a catalog entry, and with `pin` the hashes of its weights."""
    texts = ("What is graphene?", "a carbon lattice")
    with load(LoadOptions(model=model)) as engine:
        a, b = engine.embed(Request(texts=texts)).vectors
    golden = Golden((texts[0],), (texts[1],), ((float(a @ b),),), tolerance=1e-4, source="this test")

    def publish(pin=()):
        pins = [model / path for path in pin]
        files = [PinnedFile(path, file.stat().st_size, sha256(file)) for path, file in zip(pin, pins, strict=True)]
        monkeypatch.setattr(catalog, "CATALOG", (msgspec.structs.replace(KNOWN, golden=golden, files=tuple(files)),))

    return publish


def other(model):
    """Change the weights a little."""
    reweigh(model / "model.safetensors", **{"layers.0.self_attn.q_norm.weight": lambda w: w + 3})
    return model


def test_other_weights_from_the_hub_fail_golden(model, published, tmp_path):
    published()
    snapshot = tmp_path / "models--example--gemma" / "snapshots" / "0123abcd"
    shutil.copytree(model, snapshot)
    assert not failed(report(snapshot)) + warned(report(snapshot))
    found = report(other(snapshot))
    assert failed(found) == ["golden"]
    assert "embergem models pull example/gemma" in str(found.failures[0])


def test_a_fine_tune_with_the_name_of_its_original_warns(model, published):
    published()
    found = report(other(model), name="example/gemma")
    assert not failed(found)
    assert warned(found) == ["golden"]
    assert "a name other than example/gemma" in str(found.warnings[0])
    assert not warned(report(model))  # a model with its own name is not compared


def test_the_pinned_bytes_with_other_similarities_fail_golden(model, published):
    other(model)
    published(pin=("model.safetensors", "2_Dense/model.safetensors"))
    assert failed(report(model, name="example/gemma")) == ["golden"]


def test_similarities_are_not_compared_without_dense_layers(model, published, tmp_path):
    published()
    snapshot = shutil.copytree(model, tmp_path / "models--example--gemma" / "snapshots" / "0123abcd")
    chain = json.loads((snapshot / "modules.json").read_text())
    (snapshot / "modules.json").write_text(json.dumps([part for part in chain if not part["type"].endswith("Dense")]))
    with load(
        LoadOptions(model=snapshot, allow_missing_dense=True), location=Location("example/gemma", snapshot)
    ) as engine:
        assert engine.ready
        assert warned(engine.report) == ["dense_layers"]
