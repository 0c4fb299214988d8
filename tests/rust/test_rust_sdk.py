"""The Rust crate compared with Python: equal bits, models and errors."""

import json
import os
import shutil
import subprocess

import numpy as np
import pytest
from fakehub import COMMIT, FakeHub
from goldens import DATA, copy_model
from test_rust_programs import GOLDENS

from embergem import Embedder
from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.read import read_checkpoint
from embergem.errors import EmbergemError
from embergem.export.compiler import compile_model
from embergem.models import architecture
from embergem.options import LoadOptions
from embergem.program.build import build

TEXTS = ["What is graphene?", "", "a", "iron and carbon " * 7, "Ünïcödé ✓ 漢字"]


def bits(vectors):
    return np.asarray(vectors, dtype=np.float32).view(np.uint32).tolist()


@pytest.mark.parametrize("name", GOLDENS)
def test_every_family_has_the_bits_of_python(pipe, name):
    ids = [row for row in json.loads((DATA / name / "inputs.json").read_text())["ids"] if row]
    answers = pipe(DATA / name, {"ids": ids}, {"texts": TEXTS})
    with Embedder(DATA / name) as embedder:
        assert bits(answers[0]["vectors"]) == bits(embedder.embed(ids))
        assert bits(answers[1]["vectors"]) == bits(embedder.embed(TEXTS))


@pytest.mark.parametrize("dtype", ["bfloat16", "int16", "int8"])
def test_every_dtype_has_the_bits_of_python(pipe, dtype):
    [answer] = pipe(DATA / "gemma3_text", {"texts": TEXTS}, dtype=dtype)
    with Embedder(DATA / "gemma3_text", dtype=dtype) as embedder:
        assert bits(answer["vectors"]) == bits(embedder.embed(TEXTS))


def test_packed_weights_are_kept_for_the_next_start(pipe, tmp_path):
    cache = tmp_path / "cache"
    there = {"EMBERGEM_CACHE": str(cache), "EMBERGEM_PACKED_LIMIT": "1GB"}
    model = shutil.copytree(DATA / "gemma3_text", tmp_path / "model")
    [first] = pipe(model, {"texts": TEXTS}, **there)
    [packed], [scanned] = (cache / "packed").iterdir(), (cache / "scanned").iterdir()
    made = packed.stat().st_ino, scanned.stat().st_ino
    [second] = pipe(model, {"texts": TEXTS}, **there)
    assert bits(first["vectors"]) == bits(second["vectors"])
    assert (packed.stat().st_ino, scanned.stat().st_ino) == made
    shutil.rmtree(cache)
    pipe(model, {"texts": TEXTS}, **there | {"EMBERGEM_PACKED_LIMIT": "0"})
    assert not (cache / "packed").exists()


def test_prompts_titles_cuts_and_refusals_are_those_of_python(pipe):
    long = "carbon " * 500
    answers = pipe(
        DATA / "gemma3_text",
        {"texts": TEXTS, "task": "query"},
        {"texts": TEXTS[:2], "titles": ["Graphene", None], "task": "document"},
        {"texts": ["a", long], "truncate": True},
        {"texts": ["a", long]},
        {"texts": ["a"], "task": "nonsense"},
        {"ids": [[10**6]]},
    )
    with Embedder(DATA / "gemma3_text") as embedder:
        assert bits(answers[0]["vectors"]) == bits(embedder.embed(TEXTS, task="query"))
        documents = embedder.embed(TEXTS[:2], task="document", title=["Graphene", None])
        assert bits(answers[1]["vectors"]) == bits(documents)
        with pytest.warns(UserWarning, match="cut to the limit"):
            assert bits(answers[2]["vectors"]) == bits(embedder.embed(["a", long], truncate=True))
        assert answers[2]["truncated"] == [1]
        for answer, call in (
            (answers[3], lambda: embedder.embed(["a", long])),
            (answers[4], lambda: embedder.embed(["a"], task="nonsense")),
            (answers[5], lambda: embedder.embed([[10**6]])),
        ):
            with pytest.raises(EmbergemError) as refused:
                call()
            assert answer["error"] == str(refused.value)


def test_smaller_vectors_have_the_bits_of_python(pipe, tmp_path):
    directory = copy_model("qwen3", tmp_path / "qwen3")
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"matryoshka_dimensions": [33]}))
    [answer] = pipe(directory, {"texts": TEXTS, "dimensions": 33})
    with Embedder(directory) as embedder:
        assert bits(answer["vectors"]) == bits(embedder.embed(TEXTS, dimensions=33))


def test_the_client_returns_the_bits_of_the_server(pipe, url, embedder):
    served, refused = pipe(url, {"texts": TEXTS, "ids": [[2, 9, 1]]}, {"texts": ["a"], "dimensions": 7})
    assert bits(served["vectors"]) == bits([*embedder.embed([[2, 9, 1]]), *embedder.embed(TEXTS)])
    assert "Choose one of: 96" in refused["error"]


def test_both_find_the_same_default_model(pipe, minilm):
    [answer] = pipe("minilm", {"texts": TEXTS})
    with Embedder() as embedder:
        assert bits(answer["vectors"]) == bits(embedder.embed(TEXTS))


@pytest.mark.parametrize("name", ["gemma3_text", "qwen3"])  # the second has matrices that are stored transformed
def test_compiled_integer_weights_have_the_bits_of_python(pipe, tmp_path, name):
    compile_model(LoadOptions(model=DATA / name), tmp_path / "small", "int8")
    for dtype in ("float32", "int8"):
        [answer] = pipe(tmp_path / "small", {"texts": TEXTS}, dtype=dtype)
        with Embedder(tmp_path / "small", dtype=dtype) as embedder:
            assert bits(answer["vectors"]) == bits(embedder.embed(TEXTS))


def test_a_compiled_directory_needs_no_known_config(pipe, tmp_path):
    golden, directory = DATA / "gemma3_text", tmp_path / "compiled"
    shutil.copytree(golden, directory)
    checkpoint = read_checkpoint(Location("gemma3_text", golden))
    (directory / "program.json").write_text(build(architecture(checkpoint.config), checkpoint.head).to_json())
    (directory / "config.json").unlink()
    (directory / "modules.json").unlink()
    weights = [
        (prefix, path.relative_to(golden).as_posix(), path.stat().st_size) for prefix, path in checkpoint.weights
    ]
    with Embedder(golden) as embedder:
        made, expected = embedder.embed([[2, 9, 1], [2, 1]]), embedder.embed(TEXTS, task="query")
        fingerprint = embedder.fingerprint
    manifest = {
        "format": "embergem-model/1",
        "id": "gemma3_text",
        "model_type": "gemma3_text",
        "program": "program.json",
        "weights": [{"prefix": prefix, "file": file, "size": size, "sha256": ""} for prefix, file, size in weights],
        "tokenizer": "tokenizer.json",
        "text": {
            "limit": 160,
            "vocab_size": 1000,
            "prompts": None,
            "builtin_prompts": "embeddinggemma",
            "bare": False,
        },
        "vectors": {"dimensions": 96, "trained_dimensions": [], "norm_before_cut": False},
        "dtype": "stored",
        "fingerprint": fingerprint,
        "golden": {"ids": [[2, 9, 1], [2, 1]], "vectors": made.tolist()},
    }

    def answer(**changes):
        (directory / "compiled.json").write_text(json.dumps(manifest | changes))
        [only] = pipe(directory, {"texts": TEXTS, "task": "query"})
        return only

    assert bits(answer()["vectors"]) == bits(expected)
    assert "outside" in answer(tokenizer="../tokenizer.json")["error"]
    assert "Compile the model again" in answer(format="embergem-model/9")["error"]
    assert "unknown field" in answer(more=1)["error"]
    assert "before a correction of mpnet models: a padding token" in answer(model_type="mpnet")["error"]
    assert "correction" not in answer(model_type="mpnet", corrections=1).get("error", "")
    assert "64 dimensions" in answer(vectors=manifest["vectors"] | {"dimensions": 64})["error"]
    other = {"ids": [[2, 9, 1], [2, 1]], "vectors": made[::-1].tolist()}
    assert "least cosine" in answer(golden=other)["error"]
    assert "least cosine" in answer(golden={"ids": [], "vectors": []})["error"]
    assert "changed since it was compiled" in answer(fingerprint="0" * 64)["error"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 3}, "num_hidden_layers is 3 and not"),
        ({"model_type": "no such type"}, "embergem compile"),
        ({"is_decoder": True}, "is_decoder is true and not false"),
        ({"layer_norm_eps": None}, None),
    ],
)
def test_a_config_without_a_program_is_refused_by_name(pipe, tmp_path, changes, message):
    directory = tmp_path / "model"
    shutil.copytree(DATA / "bert_mean", directory)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | changes))
    [answer] = pipe(directory, {"texts": ["a"]})
    assert message in answer["error"] if message else "vectors" in answer


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("modules.json", None, "has no modules.json"),
        ("modules.json", "[]", "should hold a list of modules"),
        ("modules.json", '[{"type": "custom.Transformer", "path": ""}]', "never runs code"),
        ("modules.json", '[{"type": "sentence_transformers.models.Transformer", "path": "../x"}]', "leaves the"),
        ("1_Pooling/config.json", '{"pooling_mode": "weightedmean", "embedding_dimension": 1}', "weightedmean"),
        ("tokenizer.json", None, "tokenizer.json is missing"),
        ("model.safetensors", None, "no weights"),
        ("model.safetensors", "x", "safetensors"),
    ],
)
def test_a_damaged_checkpoint_is_refused_with_the_file(pipe, tmp_path, file, content, message):
    directory = tmp_path / "model"
    shutil.copytree(DATA / "bert_mean", directory)
    (directory / file).unlink()
    if content is not None:
        (directory / file).write_text(content)
    [answer] = pipe(directory)
    assert message in answer["error"]


def test_only_files_that_modules_json_names_are_downloaded(pipe, tmp_path):
    paths = [path for path in (DATA / "bert_mean").rglob("*") if path.is_file()]
    files = {path.relative_to(DATA / "bert_mean").as_posix(): path.read_bytes() for path in paths}
    hub = FakeHub()
    try:
        hub.repos["org/tiny"] = {**files, "pytorch_model.bin": b"never read", "run.py": b"never run"}
        there = {
            "HF_ENDPOINT": hub.url,
            "HF_HUB_OFFLINE": "0",
            "HF_TOKEN": "",
            "EMBERGEM_CACHE": str(tmp_path / "none"),
        }
        [answer] = pipe("org/tiny", {"texts": TEXTS}, **there)
        with Embedder(DATA / "bert_mean") as embedder:
            assert bits(answer["vectors"]) == bits(embedder.embed(TEXTS))
        asked = {path.partition(f"/{COMMIT}/")[2] or path.partition("/main/")[2] for _, path, _ in hub.requests}
        assert not asked & {"pytorch_model.bin", "run.py"}
        assert "model.safetensors" in asked
        assert not [headers for _, _, headers in hub.requests if "authorization" in map(str.lower, headers)]
        before = len(hub.requests)
        assert pipe("org/tiny", {"texts": TEXTS}, **there) == [answer]
        assert len(hub.requests) == before

        [absent] = pipe("org/absent", **there)
        assert "no model" in absent["error"]
        hub.gated.add("google/embeddinggemma-300m")
        hub.repos["google/embeddinggemma-300m"] = files
        [gated] = pipe("embeddinggemma", **there)
        assert "HF_TOKEN" in gated["error"]
        assert "unsloth/embeddinggemma-300m" in gated["error"]
    finally:
        hub.close()


def snapshot(tmp_path, model, files):
    """Put a model into the hub library's cache, as other programs do."""
    home = tmp_path / "hf" / "hub" / f"models--{model.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    return shutil.copytree(files, home / "snapshots" / COMMIT)


def test_other_bytes_than_the_catalog_pins_are_refused_from_the_hubs_cache_too(pipe, tmp_path):
    kept = snapshot(tmp_path, "google/embeddinggemma-300m", DATA / "gemma3_text")
    [answer] = pipe("embeddinggemma", EMBERGEM_CACHE=str(tmp_path / "none"))
    assert "has sha256" in answer["error"]
    assert str(kept) in answer["error"]
    assert (kept / "model.safetensors").exists()
    [answer] = pipe(kept)
    assert "failed its self-check: config: vectors have 96 numbers" in answer["error"]
    [answer] = pipe(shutil.copytree(kept, tmp_path / "fine-tune"), {"texts": ["a"]})
    assert "vectors" in answer


def test_files_of_the_hubs_cache_are_hashed_once(pipe, tmp_path, minilm):
    kept = snapshot(tmp_path, "sentence-transformers/all-MiniLM-L6-v2", minilm)
    there = {"EMBERGEM_CACHE": str(tmp_path / "cache")}
    first = pipe("minilm", {"texts": TEXTS}, **there)
    notes = {note: note.stat().st_ino for note in (tmp_path / "cache" / "pinned").iterdir()}
    assert len(notes) == 8
    assert pipe("minilm", {"texts": TEXTS}, **there) == first
    assert {note: note.stat().st_ino for note in (tmp_path / "cache" / "pinned").iterdir()} == notes
    with (kept / "tokenizer.json").open("a") as file:
        file.write(" ")
    [refused] = pipe("minilm", {"texts": TEXTS}, **there)
    assert "tokenizer.json of sentence-transformers/all-MiniLM-L6-v2 has sha256" in refused["error"]


def test_a_tilde_in_the_cache_directory_is_the_home(pipe, tmp_path):
    pipe(DATA / "bert_mean", {"texts": ["a"]}, HOME=str(tmp_path), EMBERGEM_CACHE="~/there")
    assert (tmp_path / "there" / "packed").is_dir()


@pytest.mark.parametrize(
    ("name", "models", "output"),
    [
        ("embedding_gemma", ["gemma3_text"], "Returned 1 vectors"),
        ("batching", ["bert_mean"], "the same alone, batched and from many tasks"),
        ("tasks", ["gemma3_text"], "document 2:"),
        ("multi_model", ["bert_mean", "gemma3_text"], "gemma3_text: unloaded"),
    ],
)
def test_examples_run(examples, name, models, output):
    command = [os.path.join(examples, name), *(str(DATA / model) for model in models)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert output in done.stdout, done.stderr


def test_the_client_example_runs(examples, url):
    command = [os.path.join(examples, "client"), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "Returned 2 vectors of 96 numbers" in done.stdout, done.stderr
