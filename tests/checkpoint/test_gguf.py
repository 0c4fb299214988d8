"""GGUF: blocks against the published reader, models against their goldens, and malformed files."""

import hashlib
import shutil
import struct

import ggufs
import numpy as np
import pytest
from entries import entry
from goldens import DATA, golden

from embergem import catalog
from embergem._native import Tensors
from embergem.catalog import PinnedFile
from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.read import read_checkpoint
from embergem.embedder import Embedder
from embergem.errors import CorruptCheckpoint, LoadError, UnknownModel, UnsupportedModel, UnsupportedOption
from embergem.hub import model_cache
from embergem.hub.resolve import resolve
from embergem.options import LoadOptions

BLOCKS = np.load(DATA.parent / "gguf" / "blocks.npz")  # written by scripts/gguf_blocks.py


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Writes a GGUF file beside the tokenizer of a golden, and returns its path."""
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path / "cache"))

    def write(data, name="gemma3_text"):
        shutil.copy(DATA / name / "tokenizer.json", tmp_path)
        (tmp_path / "model.gguf").write_bytes(data)
        return tmp_path / "model.gguf"

    return write


def difference(path, name, **options):
    stored = golden(name)
    with Embedder(path, **options) as embedder:
        return np.abs(embedder.embed(stored.ids) - stored.vectors).max()


@pytest.mark.parametrize("name", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"])
def test_blocks_equal_those_of_the_published_reader(tmp_path, name):
    values = BLOCKS[f"{name}.values"] if name != "F32" else np.arange(64, dtype=np.float32)
    content = BLOCKS[f"{name}.bytes"].tobytes() if name != "F32" else values.tobytes()
    rows = values.reshape(2, -1)
    (tmp_path / "a.gguf").write_bytes(ggufs.file({}, {"t": (rows.shape, ggufs.KINDS[name], content)}))
    tensors = Tensors([("", str(tmp_path / "a.gguf"))])
    assert tensors.list == [("t", list(rows.shape), name)]
    assert np.array_equal(tensors.rows("t", 0, 2), rows)
    assert np.array_equal(tensors.rows("t", 1, 2), rows[1:])


def test_embedding_gemma(model):
    assert difference(model(ggufs.of_gemma()), "gemma3_text") < 1e-6
    assert difference(model(ggufs.of_gemma(dense=("dense.0", "dense.1"), architecture="gemma3")), "gemma3_text") < 1e-6


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0"])
def test_quantised_weights_and_table(model, kind):
    stored = golden("gemma3_text")
    with Embedder(model(ggufs.of_gemma(kind))) as embedder:
        assert (embedder.embed(stored.ids) * stored.vectors).sum(axis=1).min() > 0.999
        row = embedder.embed(stored.ids[:1])
        assert np.array_equal(embedder.embed(stored.ids)[:1], row)


@pytest.mark.parametrize("name", ["bert_mean", "bert_cls"])
def test_bert(model, name):
    assert difference(model(ggufs.of_bert(name), name), name) < 1e-6


def test_a_gguf_file_or_its_directory_is_a_model(model):
    path = model(ggufs.of_gemma())
    assert resolve(LoadOptions(model=path)) == Location("model", path)
    assert difference(path.parent, "gemma3_text") < 1e-6
    with pytest.raises(UnknownModel, match=r"or a \.gguf file"):
        Embedder(path.with_name("tokenizer.json"))
    path.with_name("tokenizer.json").unlink()
    with pytest.raises(CorruptCheckpoint, match=r"Put the tokenizer\.json of the original model beside the file"):
        Embedder(path)


def test_the_tokenizer_of_a_cached_embeddinggemma_is_used_if_the_file_has_none(model, monkeypatch):
    path = model(ggufs.of_gemma())
    data = path.with_name("tokenizer.json").read_bytes()
    pin = PinnedFile("tokenizer.json", len(data), hashlib.sha256(data).hexdigest())
    known = entry("example/embeddinggemma-300m", "gemma3_text", 32, files=(pin,))
    monkeypatch.setattr(catalog, "CATALOG", (known,))
    with model_cache.locked(known.id) as scratch:
        fetched = scratch / "hub"
        fetched.mkdir()
        shutil.move(path.with_name("tokenizer.json"), fetched)
        cached = model_cache.store(fetched, model=known.id, source="hub", revision=None)
    assert resolve(LoadOptions(model=path)).tokenizer == cached.path / "tokenizer.json"
    assert difference(path, "gemma3_text") < 1e-6
    monkeypatch.setattr(catalog, "CATALOG", (entry(known.id, "gemma3_text", 32),))
    with pytest.raises(CorruptCheckpoint, match="is missing"):
        Embedder(path)


KNOWN = {
    "general.sampling.temp": 0.5, "general.base_model.0.name": "x", "general.file_type": 1,
    "quantize.imatrix.file": "x", "tokenizer.ggml.add_bos_token": False, "split.count": 1, "split.no": 0,
    "attention.causal": False, "vocab_size": 1000,
    "attention.value_length": 32, "attention.sliding_window_pattern": 6, "rope.dimension_count": 32,
    "rope.scaling.type": "none", "rope.scaling.factor": 1.0, "dense_2_feat_in": 96, "dense_2_feat_out": 256,
    "dense_3_feat_in": 256, "dense_3_feat_out": 96, "embedding_length_out": 96, "final_logit_softcapping": 30.0,
    "attn_logit_softcapping": 0.0, "vision.block_count": 2,
}  # fmt: skip
OTHER = {
    "split.count": 2, "attention.causal": True, "vocab_size": 999, "attention.value_length": 16,
    "attention.sliding_window_pattern": 2, "rope.dimension_count": 16, "rope.scaling.type": "linear",
    "rope.scaling.factor": 8.0, "rope.scaling.attn_factor": 1.0, "dense_2_feat_in": 64, "dense_2_feat_out": 64,
    "dense_3_feat_in": 64, "dense_3_feat_out": 64, "embedding_length_out": 64, "attn_logit_softcapping": 50.0,
    "attention.scale": 0.5, "attention.max_alibi_bias": 8.0, "attention.clamp_kqv": 1.0, "expert_count": 2,
    "embedding_scale": 2.0, "residual_scale": 2.0, "logit_scale": 2.0, "use_parallel_residual": True,
    "rope.freq_scale": 0.5, "attention.shared_kv_layers": 1, "no_such_setting": 1,
}  # fmt: skip


def gemma_settings(path):
    return read_checkpoint(Location("model", path)).config


def test_settings_that_change_nothing_are_accepted(model):
    plain = gemma_settings(model(ggufs.of_gemma()))
    assert gemma_settings(model(ggufs.of_gemma(**KNOWN))) == plain


@pytest.mark.parametrize("key", OTHER)
def test_settings_that_may_change_vectors_are_refused_by_name(model, key):
    with pytest.raises(UnsupportedModel, match=rf"{key} is .*(; embergem supports| does not know this setting)"):
        gemma_settings(model(ggufs.of_gemma(**{key: OTHER[key]})))


@pytest.mark.parametrize(
    "changes", [{"attention.key_length": 8}, {"attention.head_count_kv": 1}, {"rope.freq_base": 1e4}, {"vocab_size": 7}]
)
def test_settings_of_bert_are_refused_by_name(model, changes):
    with pytest.raises(UnsupportedModel, match=f"bert.{next(iter(changes))} is"):
        gemma_settings(model(ggufs.of_bert("bert_mean", **changes), "bert_mean"))


@pytest.mark.parametrize("name", ["rope_freqs.weight", "blk.0.attn_sinks.weight", "dense_4.weight"])
def test_tensors_that_no_layer_reads_are_refused_by_name(model, name):
    with pytest.raises(UnsupportedModel, match=f"the tensor {name} is not part"):
        Embedder(model(ggufs.of_gemma(more=[name])))


def test_missing_dense_layers_are_refused_unless_allowed_or_replaced(model):
    path = model(ggufs.of_gemma(dense=None))
    with pytest.raises(UnsupportedModel, match=r"--dense-from google/embeddinggemma-300m.*--allow-missing-dense"):
        Embedder(path)
    assert difference(path, "gemma3_text", dense_from=DATA / "gemma3_text") < 1e-6
    assert difference(path, "gemma3_text", allow_missing_dense=True) > 0.01
    with pytest.raises(CorruptCheckpoint, match="no dense layers to take"):
        Embedder(path, dense_from=DATA / "bert_mean")
    with pytest.raises(UnsupportedOption, match="has 2 dense layers of its own"):
        Embedder(model(ggufs.of_gemma()), dense_from=DATA / "gemma3_text")
    with pytest.raises(UnsupportedOption, match="is of a family without dense layers"):
        Embedder(model(ggufs.of_bert("bert_mean"), "bert_mean"), dense_from=DATA / "gemma3_text")


def test_a_bert_that_does_not_say_whether_it_is_causal_is_an_encoder(model):
    assert difference(model(ggufs.of_bert("bert_mean", **{"attention.causal": None}), "bert_mean"), "bert_mean") < 1e-6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ggufs.of_gemma(architecture="gemma3", pooling_type=None), "is a chat model"),
        (lambda: ggufs.of_gemma(architecture="llama"), "'llama'"),
        (lambda: ggufs.of_gemma(pooling_type=4), "pooling_type is 4"),
        (lambda: ggufs.of_bert("bert_mean", pooling_type=None), "how token vectors become one"),
        (lambda: ggufs.of_bert("bert_mean", **{"attention.causal": True}), r"attention\.causal"),
    ],
)
def test_unsupported_models_are_refused(model, make, message):
    with pytest.raises(UnsupportedModel, match=message):
        Embedder(model(make()))


VECTOR = ((8,), 0, bytes(32))
LENGTH = struct.Struct("<Q")


def nested(depth):
    return struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * depth + struct.pack("<IQ", 0, 0)


HOSTILE = {
    "empty": (b"GGUF", "ends before"),
    "version": (ggufs.file({}, {"t": VECTOR}, version=1), "version is 1"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "low byte first"),
    "tensors": (ggufs.file({}, {"t": VECTOR}, counts=(2**60, 0)), "claims 1152921504606846976 tensors"),
    "entries": (ggufs.file({}, {"t": VECTOR}, counts=(1, 2**63)), "metadata entries"),
    "more tensors": (ggufs.file({}, {"t": VECTOR}, counts=(60_000, 0)), "ends before|occurs twice|dimensions"),
    "string": (ggufs.file({"a": struct.pack("<IQ", 8, 2**63)}, {}), "ends before the 9223372036854775808 bytes"),
    "array": (ggufs.file({"a": struct.pack("<IIQ", 9, 0, 2**60)}, {}), "more than the file has bytes"),
    "wide array": (ggufs.file({"a": struct.pack("<IIQ", 9, 10, 5000) + bytes(5000)}, {}), "ends before the 40000"),
    "nested": (ggufs.file({"a": nested(100_000)}, {}), "arrays nest more than 4 deep"),
    "type": (ggufs.file({"a": struct.pack("<I", 99)}, {}), "type 99"),
    "not text": (ggufs.file({"a": struct.pack("<IQ", 8, 1) + b"\xff"}, {}), "not UTF-8"),
    "twice": (ggufs.file({}, {"t": VECTOR})[:16] + LENGTH.pack(2) + (ggufs.text("k") + ggufs.value(1)) * 2, "twice"),
    "bomb": (ggufs.file({str(n): struct.pack("<IIQ", 9, 0, 1000) + bytes(1000) for n in range(300)}, {}), "larger"),
    "alignment": (ggufs.file({"general.alignment": 3}, {"t": VECTOR}), r"general\.alignment is 3"),
    "offset": (ggufs.file({}, {"t": (*VECTOR, 2**60)}), "past the end"),
    "offset overflows": (ggufs.file({}, {"t": (*VECTOR, 2**64 - 32)}), "past the end"),
    "odd offset": (ggufs.file({}, {"t": (*VECTOR, 4)}), "not a multiple of 32"),
    "overlap": (ggufs.file({}, {"t": VECTOR, "u": ((16,), 0, bytes(64), 0)}), "overlap"),
    "dimensions": (ggufs.file({}, {"t": ((2**60, 2**60), 0, b"")}), "has the shape"),
    "many dimensions": (ggufs.file({}, {"t": ((1,) * 5, 0, bytes(32))}), "5 dimensions"),
    "large": (ggufs.file({}, {"t": ((2**40,), 8, b"")}), "past the end"),
    "nothing": (ggufs.file({}, {"t": ((0, 32), 0, b"")}), "has the shape"),
    "half a block": (ggufs.file({}, {"t": ((33,), 8, bytes(64))}), "not whole blocks of 32"),
    "cut": (ggufs.file({}, {"t": VECTOR})[:-1], "past the end"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_by_name(tmp_path, name):
    data, message = HOSTILE[name]
    (tmp_path / "bad.gguf").write_bytes(data)
    with pytest.raises(CorruptCheckpoint, match=rf"bad\.gguf is not a valid GGUF file: .*({message})"):
        Tensors([("", str(tmp_path / "bad.gguf"))])


def test_an_unknown_tensor_type_is_refused_when_the_tensor_is_read(model):
    stored = ggufs.of_gemma()
    place = stored.index(b"output_norm.weight") + len("output_norm.weight") + 4 + 8
    with pytest.raises(LoadError, match=r"norm\.weight: its element type is GGUF's number 39"):
        Embedder(model(stored[:place] + struct.pack("<I", 39) + stored[place + 4 :]))


def test_random_damage_is_refused_or_has_no_effect(model):
    whole = ggufs.of_gemma()
    head = whole.index(b"dense_3.weight")
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for place in random.integers(0, head, size=3):
            data[place] = random.integers(256)
        try:
            Tensors([("", str(model(data)))])
        except LoadError:
            refused += 1
    assert refused > 20
