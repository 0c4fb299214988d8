"""Known faults of other engines with these models, one test for each."""

import json
import shutil
from itertools import product

import numpy as np
import pytest
from goldens import DATA, TINY, golden, pack
from safetensors.numpy import load_file, save_file

from embergem.engine import Request
from embergem.errors import UnsupportedModel, UnsupportedOption
from embergem.loader import load
from embergem.models import architecture, require_arch
from embergem.models.head import Normalize, Pooling
from embergem.options import LoadOptions
from embergem.program.build import build

GEMMA2 = {
    "model_type": "embedding_gemma2",
    "text_config": {
        "vocab_size": 262144, "hidden_size": 512, "intermediate_size": 2048, "hidden_size_per_layer_input": 512,
        "embedding_dim": 768, "num_attention_heads": 4, "head_dim": 256, "num_key_value_heads": 2,
        "num_hidden_layers": 24, "sliding_window": 512, "hidden_activation": "gelu_pytorch_tanh",
        "per_layer_config": {f"{n:02}": {"head_dim": 512, "num_key_value_heads": 1} for n in (5, 11, 17, 23)},
    },
}  # fmt: skip


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """Copy a golden to where a test may change it."""
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path / "cache"))
    return lambda name: shutil.copytree(TINY[name], tmp_path / name)


def edit(file, change):
    content = json.loads(file.read_text())
    file.write_text(json.dumps(change(content)))


def vectors(path, name):
    checkpoint = golden(name, path)
    return checkpoint.native().run(*pack(checkpoint.ids))


WRAPPERS = ("model.", "language_model.", "model.language_model.")
OWN = [(name, prefix) for name in TINY for prefix in golden(name).architecture.family.prefixes]


@pytest.mark.parametrize(("name", "prefix"), [*product(("gemma3_text", "qwen3"), WRAPPERS), *OWN])
def test_saved_again_with_a_prefix_and_with_more_tensors(copy, name, prefix):
    path = copy(name)
    stored = load_file(path / "model.safetensors")
    tensors = {prefix + tensor.removeprefix(prefix): value for tensor, value in stored.items()}
    tensors |= {
        "lm_head.weight": np.zeros((3, 3), np.float32),
        "vision_tower.weight": np.full((2, 2), np.nan, np.float32),
        "embeddings.position_ids": np.arange(4),
        "pooler.dense.weight": np.zeros((2, 2), np.float32),
    }
    save_file(tensors, path / "model.safetensors")
    assert np.array_equal(vectors(path, name), vectors(TINY[name], name))


def test_rotary_bases_in_either_spelling(copy):
    path = copy("gemma3_text")

    def old(config):
        rope = config.pop("rope_parameters")
        bases = (rope["full_attention"]["rope_theta"], rope["sliding_attention"]["rope_theta"])
        return config | dict(zip(("rope_theta", "rope_local_base_freq"), bases, strict=True))

    edit(path / "config.json", old)
    assert np.array_equal(vectors(path, "gemma3_text"), vectors(DATA / "gemma3_text", "gemma3_text"))


@pytest.mark.parametrize(("stored", "radius"), [(512, 256), (257, 128), (129, 64), (16, 8), (17, 8)])
def test_a_stored_window_is_twice_the_reach_in_the_first_gemma(stored, radius):
    config = json.loads((DATA / "gemma3_text" / "config.json").read_text()) | {"sliding_window": stored}
    assert architecture(config).config.radius == radius


def test_a_stored_window_is_the_reach_in_the_second():
    assert architecture(GEMMA2).config.radius == 512


def test_per_layer_embeddings_are_computed_one_layer_at_a_time():
    program = build(architecture(GEMMA2), [Pooling("mean"), Normalize()])
    widths = [buffer.width for buffer in program.buffers if buffer.axis == "tokens"]
    at_once = 24 * 512
    assert max(widths) < at_once / 2
    assert sum(widths) * 4 * 8192 < 300e6  # all activations of 8,192 tokens; those of all layers would be 403 MB alone


def test_truncation_and_padding_in_tokenizer_json_are_ignored(copy):
    path = copy("bert_mean")
    text = "the layers of graphene and what was said of them before anybody had seen one"
    with load(LoadOptions(model=DATA / "bert_mean")) as right:
        expected = right.embed(Request(texts=[text, "a"]))
    baked = {
        "truncation": {"direction": "Right", "max_length": 6, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 32}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "[PAD]",
        },
    }  # fmt: skip
    edit(path / "tokenizer.json", lambda tokenizer: tokenizer | baked)
    with load(LoadOptions(model=path)) as engine:
        found = engine.embed(Request(texts=[text, "a"]))
    assert found.tokens == expected.tokens > 12
    assert np.array_equal(found.vectors, expected.vectors)


def test_a_truncated_causal_row_keeps_its_closing_token():
    with load(LoadOptions(model=DATA / "qwen3")) as engine:
        short = engine.embed(Request(texts=["a"])).rows[0].ids
        cut = engine.embed(Request(texts=["graphene " * 200], truncate=True)).rows[0]
        assert cut.truncated
        assert len(cut.ids) == engine.limit
        assert cut.ids[-1] == short[-1]
        assert engine.allowed_dimensions == (64,)  # neither its files nor the catalog say that it was trained for more


def test_files_may_declare_trained_dimensions(copy):
    path = copy("qwen3")
    edit(path / "config.json", lambda config: config | {"matryoshka_dimensions": [64, 48, 32, 128, "16", 0]})
    with load(LoadOptions(model=path)) as engine:
        assert engine.allowed_dimensions == (64, 48, 32)


def test_a_bert_with_the_tokenizer_of_another_family(copy):
    """As multilingual-e5-small: positions begin at 0 in spite of the tokenizer."""
    path = copy("bert_mean")
    shutil.copy(DATA / "xlm_roberta" / "tokenizer.json", path / "tokenizer.json")
    with load(LoadOptions(model=path)) as engine:
        found = engine.embed(Request(texts=["What is graphene?"]))
    ids = found.rows[0].ids
    with load(LoadOptions(model=DATA / "xlm_roberta")) as other:
        assert np.array_equal(ids, other.embed(Request(texts=["What is graphene?"])).rows[0].ids)
    expected = golden("bert_mean").reference([ids])
    assert np.abs(found.vectors - expected).max() < 1e-6


def test_positions_of_roberta_begin_after_the_padding():
    assert golden("xlm_roberta").architecture.config.position_offset == 2
    assert golden("bert_mean").architecture.config.position_offset == 0


def test_the_text_half_of_embedding_gemma_2_is_its_family():
    config = json.loads((DATA / "embedding_gemma2" / "config.json").read_text())
    alone = config["text_config"]
    assert alone["model_type"] == "embedding_gemma2_text"
    found = [
        architecture(one, arch=arch)
        for one in (config, alone)
        for arch in ("auto", "embeddinggemma2", "embedding_gemma2_text")
    ]
    assert {kind.model_type for kind in found} == {"embedding_gemma2"}
    assert all(kind.config == found[0].config for kind in found)
    require_arch("embedding_gemma2", "embedding_gemma2_text")


@pytest.mark.parametrize(
    ("arch", "name"), [("embeddinggemma", "gemma3_text"), ("qwen3embedding", "qwen3"), ("roberta", "xlm_roberta")]
)
def test_arch_requires_a_family(arch, name):
    with load(LoadOptions(model=DATA / name, arch=arch)) as engine:
        assert engine.model_type == architecture(json.loads((DATA / name / "config.json").read_text())).model_type
    with pytest.raises(UnsupportedModel, match="leave out arch"):
        load(LoadOptions(model=DATA / "mpnet", arch=arch))
    with pytest.raises(UnsupportedOption, match="embeddinggemma"):
        load(LoadOptions(model=DATA / name, arch="no such name"))
