"""`compile` and `convert`: their output loads and gives the same vectors, and a damaged output is refused."""

import json
import shutil

import ggufs
import numpy as np
import pytest
from goldens import DATA, golden
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from embergem import Embedder
from embergem._native import FileStates, Tensors
from embergem.checkpoint.read import read_checkpoint
from embergem.checkpoint.writer import OutputTensor, quantised, transformed, write_safetensors
from embergem.cli.app import app
from embergem.engine import Request
from embergem.engine.calibration import cosines
from embergem.engine.load import fingerprint_of
from embergem.engine.prepare import prepare
from embergem.errors import CorruptCheckpoint, InvalidRequest, LoadError, NotReady, UnsupportedModel, UnsupportedOption
from embergem.export.compiler import compile_model, exponents_of
from embergem.export.gguf_converter import convert_gguf
from embergem.hub.resolve import resolve
from embergem.loader import load
from embergem.models.corrections import corrections
from embergem.ops import int8
from embergem.options import LoadOptions

FAMILIES = ["gemma3_text", "embedding_gemma2", "bert_cls", "nomic_bert", "qwen3", "static"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def compiled(tmp_path):
    compile_model(LoadOptions(model=DATA / "gemma3_text"), tmp_path / "compiled")
    return tmp_path / "compiled"


def space_of(path):
    return fingerprint_of(resolve(LoadOptions(model=path)))


def embed(path, name):
    with load(LoadOptions(model=path, max_batch_tokens=4096)) as engine:  # skips measuring the budget
        ids = [ids for ids in golden(name).ids if ids]
        return engine.embed(Request(ids=ids)).vectors, engine.limit, engine.tasks


@pytest.mark.parametrize("name", FAMILIES)
def test_a_compiled_model_gives_the_same_bits(tmp_path, name):
    compile_model(LoadOptions(model=DATA / name), tmp_path / "compiled")
    with_config, without = embed(DATA / name, name), embed(tmp_path / "compiled", name)
    assert np.array_equal(with_config[0], without[0])
    assert with_config[1:] == without[1:]
    assert space_of(DATA / name) == fingerprint_of(resolve(LoadOptions(model=tmp_path / "compiled")))
    manifest = json.loads((tmp_path / "compiled" / "compiled.json").read_text())
    assert (manifest["format"], manifest["dtype"]) == ("embergem-model/1", "stored")
    assert not (tmp_path / "compiled" / "config.json").exists()


def test_matrices_as_bfloat16(tmp_path):
    done = CliRunner().invoke(
        app, ["compile", str(DATA / "gemma3_text"), "-o", str(tmp_path / "half"), "--dtype", "bfloat16"]
    )
    assert done.exit_code == 0, done.output
    assert "gemma3_text, 96 dimensions" in done.output
    found = embed(tmp_path / "half", "gemma3_text")[0]
    stored = golden("gemma3_text").vectors
    assert 1e-6 < np.abs(found - stored).max() < 0.02
    assert (tmp_path / "half" / "model.safetensors").stat().st_size < 0.6 * sum(
        file.stat().st_size for file in (DATA / "gemma3_text").rglob("model.safetensors")
    )


@pytest.mark.parametrize(("dtype", "kind", "share", "least"), [("int16", "I16", 0.6, 1e-8), ("int8", "I8", 0.4, 1e-3)])
def test_matrices_as_integers(tmp_path, dtype, kind, share, least):
    written = compile_model(LoadOptions(model=DATA / "gemma3_text"), tmp_path / "small", dtype)
    assert written.manifest.dtype == dtype
    stored = golden("gemma3_text").vectors
    found = embed(tmp_path / "small", "gemma3_text")[0]
    assert 0 < 1 - cosines(found, stored).min() < least
    assert written.cosine is not None
    assert 0 < 1 - written.cosine < least
    file = tmp_path / "small" / "model.safetensors"
    originals = [path.stat().st_size for path in (DATA / "gemma3_text").rglob("model.safetensors")]
    assert file.stat().st_size < share * sum(originals)
    with safe_open(file, "numpy") as tensors:
        table, scales = tensors.get_slice("embed_tokens.weight"), tensors.get_tensor("embed_tokens.weight.scales")
        assert table.get_dtype() == kind
        assert np.all(scales > 0)
    assert space_of(tmp_path / "small") != fingerprint_of(resolve(LoadOptions(model=DATA / "gemma3_text")))
    with Embedder(tmp_path / "small", dtype=dtype) as embedder:  # the dtype is chosen at load, as for every model
        assert embedder.dtype == dtype


@pytest.mark.parametrize("dtype", ["int16", "int8"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 31), (2, 32), (5, 33), (4, 100)])
def test_integers_differ_by_half_a_unit_at_most(tmp_path, dtype, shape):
    values = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    values[0] = 0
    matrix = OutputTensor("x", shape, {"int16": "I16", "int8": "I8"}[dtype], lambda: iter(np.split(values, shape[0])))
    write_safetensors(tmp_path / "x.safetensors", quantised(matrix))
    with safe_open(tmp_path / "x.safetensors", "numpy") as file:
        units, scales = file.get_tensor("x"), file.get_tensor("x.scales")
    width = 32 if dtype == "int8" else shape[1]
    assert scales.shape == (shape[0], -(-shape[1] // width))
    wide = np.repeat(scales, width, axis=1)[:, : shape[1]]
    assert np.all(np.abs(units * wide - values) <= 0.501 * wide)
    read = Tensors([("", str(tmp_path / "x.safetensors"))]).rows("x", 0, shape[0])
    assert np.array_equal(read, units.astype(np.float32) * wide)


@pytest.mark.parametrize("shape", [(1, 128), (3, 256), (5, 640)])
def test_transformed_integers_are_those_of_the_values_that_are_read(tmp_path, shape):
    random = np.random.default_rng(2)
    values = random.normal(size=shape).astype(np.float32)
    values[0] = 0
    exponents = random.integers(-20, 21, shape[1]).astype(np.int8)
    matrix = OutputTensor("x", shape, "I8", lambda: iter(np.split(values, shape[0])))
    write_safetensors(tmp_path / "x.safetensors", transformed(matrix, exponents))
    with safe_open(tmp_path / "x.safetensors", "numpy") as file:
        units, scales = file.get_tensor("x"), file.get_tensor("x.scales")
        assert np.array_equal(file.get_tensor("x.exponents"), exponents)
    assert units.shape == shape
    assert scales.shape == (shape[0], shape[1] // 128)
    read = Tensors([("", str(tmp_path / "x.safetensors"))]).rows("x", 0, shape[0])
    factors = 1 / int8.row_factors(exponents)
    # An integer is half a unit from its value, and the transform multiplies the square of a group by 128.
    errors = np.square((read - values) * factors).reshape(shape[0], -1, 128)
    assert np.all(errors.sum(axis=2) <= 128 * 0.25 * 128 * np.square(scales) * 1.001)
    again, scales_again = int8.quantise(read * factors)
    assert np.array_equal(again.reshape(units.shape), units)
    assert np.allclose(scales_again / 128, scales, rtol=1e-5, atol=1e-30)


def tensors_in(path):
    return load_file(path / "model.safetensors")


@pytest.mark.parametrize(
    ("name", "matrices"), [("qwen3", 4), ("gemma3_text_causal", 4), ("bert_mean", 0), ("static", 0)]
)
def test_int8_directories_have_the_integers_that_the_kernels_multiply(tmp_path, name, matrices):
    written = compile_model(LoadOptions(model=DATA / name), tmp_path / "small", "int8")
    tensors = tensors_in(tmp_path / "small")
    exponents = {tensor: values for tensor, values in tensors.items() if tensor.endswith(".exponents")}
    assert len(exponents) == matrices  # those of 128 columns, a whole group
    assert written.manifest.format == ("embergem-model/2" if matrices else "embergem-model/1")
    assert all(np.abs(values).max() <= 20 for values in exponents.values())
    # A load in int8 takes the exponents of the directory, and compiles to the same integers.
    compile_model(LoadOptions(model=tmp_path / "small"), tmp_path / "again", "int8")
    for tensor, values in tensors_in(tmp_path / "again").items():
        same = np.array_equal if values.dtype == np.int8 else np.allclose
        assert same(values, tensors[tensor]), tensor


@pytest.mark.parametrize("scales", [None, np.ones((4, 1), np.float32), np.ones((4, 3), np.float16)])
def test_integers_need_scales_that_fit(tmp_path, scales):
    tensors = {"x": np.ones((4, 90), np.int8)} | ({} if scales is None else {"x.scales": scales})
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(LoadError, match="I8 without a tensor of matching scales"):
        Tensors([("", str(tmp_path / "x.safetensors"))]).rows("x", 0, 1)


@pytest.mark.parametrize(("name", "matrices"), [("bert_mean", 24), ("gemma3_text", 49), ("albert", 0), ("static", 0)])
def test_only_matrices_of_products_with_the_same_exponents_have_some(monkeypatch, name, matrices):
    monkeypatch.setattr("embergem.export.compiler.GROUP", 32)
    location = resolve(LoadOptions(model=DATA / name))
    checkpoint = read_checkpoint(location, LoadOptions(model=DATA / name))
    program = prepare(checkpoint, location.id, LoadOptions(model=DATA / name)).program
    found = exponents_of(checkpoint, program)
    assert len(found) == matrices  # the layers of ALBERT multiply one set of matrices with different activations
    assert not any("embed" in tensor or "Dense" in tensor for tensor in found)


@pytest.mark.parametrize(
    "exponents",
    [
        np.zeros(255, np.int8),
        np.zeros(256, np.int16),
        np.zeros((256, 1), np.int8),
        np.full(256, 21, np.int8),
        np.full(256, -128, np.int8),
    ],
    ids=["columns", "type", "shape", "large", "least"],
)
def test_exponents_that_do_not_fit_are_refused(tmp_path, exponents):
    tensors = {"x": np.ones((4, 256), np.int8), "x.scales": np.ones((4, 2), np.float32)}
    save_file(tensors | {"x.exponents": np.zeros(256, np.int8)}, tmp_path / "x.safetensors")
    assert Tensors([("", str(tmp_path / "x.safetensors"))]).rows("x", 0, 1).shape == (1, 256)
    save_file(tensors | {"x.exponents": exponents}, tmp_path / "x.safetensors")
    with pytest.raises(LoadError, match="I8 with exponents"):
        Tensors([("", str(tmp_path / "x.safetensors"))]).rows("x", 0, 1)


def test_int8_directories_of_earlier_versions_load(tmp_path, monkeypatch):
    compile_model(LoadOptions(model=DATA / "qwen3"), tmp_path / "now", "int8")
    monkeypatch.setattr("embergem.export.compiler.exponents_of", lambda checkpoint, program: {})
    earlier = compile_model(LoadOptions(model=DATA / "qwen3"), tmp_path / "earlier", "int8")
    assert earlier.manifest.format == "embergem-model/1"
    assert not any(tensor.endswith(".exponents") for tensor in tensors_in(tmp_path / "earlier"))
    now, found = embed(tmp_path / "now", "qwen3")[0], embed(tmp_path / "earlier", "qwen3")[0]
    assert not np.array_equal(found, now)
    for vectors in (now, found):
        assert cosines(vectors, golden("qwen3").vectors).min() > 0.999
    with Embedder(tmp_path / "earlier", dtype="int8") as embedder:
        assert embedder.dtype == "int8"


@pytest.mark.parametrize("name", ["static_int8", "static_quantised", "static_embedding"])
def test_static_tables_are_compiled_as_they_are(tmp_path, name):
    compile_model(LoadOptions(model=DATA / name), tmp_path / "compiled")
    text = "a carbon lattice 文"
    with Embedder(tmp_path / "compiled") as compiled, Embedder(DATA / name) as original:
        assert np.array_equal(compiled.embed(text), original.embed(text))
        assert compiled.fingerprint == original.fingerprint
    if name != "static_embedding":
        with pytest.raises(UnsupportedOption, match="already small"):
            compile_model(LoadOptions(model=DATA / name), tmp_path / "rounded", "int8")


def test_a_model_that_fails_its_self_check_is_not_compiled(tmp_path):
    shutil.copytree(DATA / "gemma3_text", tmp_path / "model")
    modules = json.loads((tmp_path / "model" / "modules.json").read_text())
    bare = [module for module in modules if not module["type"].endswith("Dense")]
    (tmp_path / "model" / "modules.json").write_text(json.dumps(bare))
    with pytest.raises(NotReady, match="dense"):
        compile_model(LoadOptions(model=tmp_path / "model"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_may_be_compiled_into_its_own_directory(tmp_path):
    shutil.copytree(DATA / "bert_mean", tmp_path / "model")
    compile_model(LoadOptions(model=tmp_path / "model"), tmp_path / "model")
    (tmp_path / "model" / "config.json").unlink()
    assert np.array_equal(embed(tmp_path / "model", "bert_mean")[0], embed(DATA / "bert_mean", "bert_mean")[0])


@pytest.mark.parametrize("dtype", ["float16", "q4_0"])
def test_an_unsupported_dtype_writes_nothing(tmp_path, dtype):
    with pytest.raises(UnsupportedOption, match=f"as dtype='{dtype}'.*float32, bfloat16, int16, int8"):
        compile_model(LoadOptions(model=DATA / "static"), tmp_path / "out", dtype)
    assert not (tmp_path / "out").exists()


def test_a_directory_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InvalidRequest, match="is not empty"):
        compile_model(LoadOptions(model=DATA / "static"), tmp_path)
    shutil.copytree(DATA / "static", tmp_path / "model")
    with pytest.raises(InvalidRequest, match="is the directory of the original weights"):
        compile_model(LoadOptions(model=tmp_path / "model"), tmp_path / "model", "bfloat16")
    with pytest.raises(InvalidRequest, match="is a file"):
        compile_model(LoadOptions(model=DATA / "static"), tmp_path / "mine.txt")


def other_weights(root):
    tensors = dict(load_file(root / "model.safetensors"))
    tensors["norm.weight"] = tensors["norm.weight"] + np.linspace(0, 3, 96, dtype=np.float32)
    (root / "model.safetensors").unlink()  # the file is a link to the golden's own
    save_file(tensors, root / "model.safetensors")


def edit(**fields):
    def change(root):
        manifest = json.loads((root / "compiled.json").read_text())
        (root / "compiled.json").write_text(json.dumps(manifest | fields))

    return change


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (other_weights, CorruptCheckpoint, "bytes instead of|fingerprint"),
        (edit(format="embergem-model/9"), UnsupportedModel, "'embergem-model/9'"),
        (edit(extra=1), CorruptCheckpoint, "extra"),
        (edit(model_type="mpnet", corrections=0), UnsupportedModel, "before a correction of mpnet models: a padding"),
        (edit(tokenizer="../tokenizer.json"), CorruptCheckpoint, "lies outside"),
        (edit(program="/etc/passwd"), CorruptCheckpoint, "lies outside"),
        (edit(program="elsewhere/program.json"), CorruptCheckpoint, "lies outside"),
        (edit(program="inside/../program.json"), CorruptCheckpoint, "lies outside"),
        (edit(text={"limit": 2**31}), CorruptCheckpoint, "limit"),
        (edit(golden={"ids": [], "vectors": []}), CorruptCheckpoint, "length >= 1"),
        (edit(golden={"ids": [[1], [2]], "vectors": [[1.0] * 96]}), CorruptCheckpoint, "least cosine -1"),
        (edit(golden={"ids": [[1]], "vectors": [[1.0] * 95]}), CorruptCheckpoint, "least cosine -1"),
        (edit(weights=[]), LoadError, "does not contain it"),
        (lambda root: (root / "tokenizer.json").unlink(), CorruptCheckpoint, "is missing"),
        (lambda root: (root / "program.json").write_text("{}"), CorruptCheckpoint, "program"),
        (lambda root: (root / "program.json").write_text("[" * 100_000), CorruptCheckpoint, "program"),
        (lambda root: (root / "compiled.json").write_text('{"format"'), CorruptCheckpoint, "not valid JSON"),
    ],
)
def test_damaged_directories_are_refused(compiled, damage, error, words):
    (compiled / "elsewhere").symlink_to(compiled.parent)
    (compiled.parent / "program.json").write_text("{}")
    (compiled / "inside").mkdir()
    damage(compiled)
    with pytest.raises(error, match=words):
        Embedder(compiled)


def test_a_directory_from_before_a_correction_of_another_family_loads(compiled):
    manifest = json.loads((compiled / "compiled.json").read_text())
    assert manifest.pop("corrections") == len(corrections())
    (compiled / "compiled.json").write_text(json.dumps(manifest))
    Embedder(compiled).close()


def test_an_explicit_tokenizer_is_not_checked_against_the_manifest(compiled, tmp_path):
    own = json.loads((compiled / "tokenizer.json").read_text())
    own["post_processor"] = None
    (tmp_path / "own.json").write_text(json.dumps(own))
    with load(LoadOptions(model=compiled, tokenizer=tmp_path / "own.json", max_batch_tokens=4096)) as engine:
        assert engine.fingerprint != space_of(compiled)


def test_vectors_that_differ_are_refused(compiled):
    manifest = json.loads((compiled / "compiled.json").read_text())
    manifest["golden"]["vectors"][2] = manifest["golden"]["vectors"][1]
    (compiled / "compiled.json").write_text(json.dumps(manifest))
    with pytest.raises(CorruptCheckpoint, match="least cosine"):
        Embedder(compiled)


@pytest.mark.parametrize("name", ["gemma3_text", "bert_cls"])
def test_gguf_to_safetensors(tmp_path, name):
    shutil.copy(DATA / name / "tokenizer.json", tmp_path)
    (tmp_path / "model.gguf").write_bytes(ggufs.of_gemma() if name == "gemma3_text" else ggufs.of_bert(name))
    done = CliRunner().invoke(app, ["convert", str(tmp_path / "model.gguf"), "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert np.abs(embed(tmp_path / "out", name)[0] - golden(name).vectors).max() < 1e-6
    with pytest.raises(InvalidRequest, match="is not empty"):
        convert_gguf(LoadOptions(model=tmp_path / "model.gguf"), tmp_path / "out")
    with pytest.raises(UnsupportedOption, match=r"dtype='int8'.*float32, bfloat16"):
        convert_gguf(LoadOptions(model=tmp_path / "model.gguf"), tmp_path / "again", "int8")
    with pytest.raises(UnsupportedModel, match="not a GGUF file"):
        convert_gguf(LoadOptions(model=tmp_path / "out"), tmp_path / "again")


def test_a_gguf_file_is_compiled_directly(tmp_path):
    shutil.copy(DATA / "gemma3_text" / "tokenizer.json", tmp_path)
    (tmp_path / "model.gguf").write_bytes(ggufs.of_gemma("Q8_0", dense=None))
    options = LoadOptions(model=tmp_path / "model.gguf", dense_from=DATA / "gemma3_text")
    manifest = compile_model(options, tmp_path / "out").manifest
    assert [entry.file for entry in manifest.weights] == [
        "model.gguf", "2_Dense/model.safetensors", "3_Dense/model.safetensors",
    ]  # fmt: skip
    with Embedder(tmp_path / "model.gguf", dense_from=DATA / "gemma3_text") as embedder:
        assert np.array_equal(embedder.embed("a"), Embedder(tmp_path / "out").embed("a"))


def test_compiled_files_share_nothing_with_the_original(tmp_path):
    directory = shutil.copytree(DATA / "bert_mean", tmp_path / "model")
    with Embedder(directory) as embedder:
        before = embedder.embed("What is graphene?")
    files = [directory / "model.safetensors", directory / "tokenizer.json"]
    states = FileStates(files)
    compile_model(LoadOptions(model=directory), tmp_path / "compiled")
    states.require_unchanged()  # another process may be loading the original
    with (directory / "model.safetensors").open("r+b") as file:
        file.truncate(10)
    with Embedder(tmp_path / "compiled") as embedder:
        assert np.array_equal(embedder.embed("What is graphene?"), before)
