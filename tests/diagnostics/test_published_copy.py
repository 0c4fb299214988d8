"""`embergem models verify NAME`: a copy is the published model only if everything that was published agrees."""

import json
import shutil

import msgspec
import numpy as np
import pytest
from entries import tiny_gemma
from goldens import copy_model, edit
from huggingface_hub import constants
from isolation import ASSETS
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from embergem import catalog
from embergem.catalog import Golden, Parity, PinnedFile
from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.files import sha256
from embergem.checkpoint.packed import VARIABLE
from embergem.cli.app import app as commands
from embergem.diagnostics.published_copy import verify_copy
from embergem.hub import model_cache

NAME = "example/gemma"
TEXTS = ("", "What is graphene?", "Ünïcödé, 東京 and 🦆!")
PINNED = ("model.safetensors", "2_Dense/model.safetensors", "3_Dense/model.safetensors", "tokenizer.json")


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the tiny EmbeddingGemma that a test may change, and an empty cache."""
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return copy_model("gemma3_text", tmp_path / "copy")


@pytest.fixture
def known(copy, embedder, monkeypatch):
    """Sets the catalog to one entry, which publishes what the unchanged copy computes; fields can be replaced."""
    vectors = embedder.embed(TEXTS, task="document")
    [query] = embedder.embed([TEXTS[1]], task="query")
    similarities = tuple(round(float(value), 4) for value in vectors[1:] @ query)
    published = tiny_gemma(
        NAME,
        files=tuple(PinnedFile(path, (copy / path).stat().st_size, sha256(copy / path)) for path in PINNED),
        golden=Golden((TEXTS[1],), TEXTS[1:], (similarities,), 1e-4, "made up", "query", "document"),
        parity=Parity(TEXTS, tuple(v.astype("<f4").tobytes() for v in vectors), 1e-5, "made up", "document"),
    )

    def use(**fields):
        changed = msgspec.structs.replace(published, **fields)
        monkeypatch.setattr(catalog, "CATALOG", (changed,))
        return changed

    use()
    return use


def verified(known_entry, path):
    return verify_copy(known_entry, Location(NAME, path))


def named(report, status):
    return {f"{check.kind} {check.name}" for check in report.checks if check.status == status}


def test_an_unchanged_copy_is_the_published_model(known, copy):
    report = verified(known(), copy)
    assert (report.verdict, named(report, "failed")) == ("published", set()), report.reason
    unpinned = {"config.json", "modules.json", "1_Pooling/config.json", "config_sentence_transformers.json"}
    assert {f"file {name}" for name in unpinned} <= named(report, "not verifiable")
    passed = named(report, "passed")
    assert {"file model.safetensors", "similarity query 0, document 1", "vector text 2, largest difference"} <= passed
    assert "self-check truncation" in passed  # a probe of the whole check only


def reweigh(path, tensor, change):
    save_file({name: change(value) if name == tensor else value for name, value in load_file(path).items()}, path)


def weights(copy):
    reweigh(copy / "model.safetensors", "norm.weight", lambda value: value * np.float32(1.01))


def one_weight(copy):
    data = bytearray((copy / "3_Dense" / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "3_Dense" / "model.safetensors").write_bytes(data)


def prompts(copy):
    edit(copy / "config_sentence_transformers.json", prompts={"query": "query: ", "document": "passage: "})


def window(copy):
    edit(copy / "config.json", sliding_window=8)


def limit(copy):
    edit(copy / "sentence_bert_config.json", max_seq_length=64)


def pooling(copy):
    edit(copy / "1_Pooling" / "config.json", pooling_mode_mean_tokens=False, pooling_mode_cls_token=True)


def tokenizer(copy):
    content = json.loads((copy / "tokenizer.json").read_text())
    content["post_processor"] = None
    (copy / "tokenizer.json").write_text(json.dumps(content))


def family(copy):
    shutil.rmtree(copy)
    copy_model("bert_mean", copy)


def missing(copy):
    (copy / "model.safetensors").unlink()


CHANGES = {
    weights: {"file model.safetensors", "vector text 1, largest difference"},
    one_weight: {"file 3_Dense/model.safetensors"},
    prompts: {"self-check prompts", "vector text 1, largest difference", "similarity query 0, document 0"},
    window: {"self-check config"},
    limit: {"self-check limit"},
    pooling: {"vector text 1, largest difference"},
    tokenizer: {"file tokenizer.json", "self-check special_tokens"},
    family: {"load family", "file model.safetensors"},
    missing: {"load load", "file model.safetensors"},
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_copy_is_different(known, copy, change):
    published = known()
    change(copy)
    report = verified(published, copy)
    assert report.verdict == "different"
    assert named(report, "failed") >= CHANGES[change], (named(report, "failed"), report.reason)


LACKS = {
    "no sha256 of model.safetensors": lambda entry: {"files": entry.files[1:]},
    "no sha256 of tokenizer.json": lambda entry: {"files": entry.files[:3]},
    "no published similarity or vector": lambda entry: {"golden": None, "parity": None},
}


@pytest.mark.parametrize("lack", LACKS)
def test_what_the_catalog_lacks_is_not_verifiable(known, copy, lack):
    report = verified(known(**LACKS[lack](known())), copy)
    assert report.verdict == "not verifiable"
    assert lack in report.reason
    assert not named(report, "failed")


def test_similarities_or_vectors_alone_are_enough(known, copy):
    assert verified(known(golden=None), copy).verdict == "published"
    assert verified(known(parity=None), copy).verdict == "published"


def test_the_beginning_of_a_digest_is_said_to_be_one(known, copy):
    files = tuple(msgspec.structs.replace(pin, sha256=pin.sha256[:12]) for pin in known().files)
    report = verified(known(files=files), copy)
    assert report.verdict == "published"
    notes = [check.note for check in report.checks if check.name == "model.safetensors"]
    assert notes == ["only the first 12 digits are known"]


def test_a_difference_of_the_tolerance_passes_and_more_fails(known, copy):
    parity = known().parity
    first = np.frombuffer(parity.vectors[0], "<f4").copy()
    first[5] += 0.01
    for tolerance, verdict in ((0.02, "published"), (0.005, "different")):
        changed = Parity(parity.texts[:1], (first.tobytes(),), tolerance, "made up", parity.task)
        report = verified(known(parity=changed), copy)
        assert report.verdict == verdict
        [check] = [check for check in report.checks if check.kind == "vector"]
        assert (check.value, check.expected, check.tolerance) == (pytest.approx(0.01, abs=1e-5), 0.0, tolerance)


def test_vectors_of_another_size_and_an_unknown_task_fail(known, copy):
    shorter = Parity(("a",), (b"\0" * 8,), 1, "made up")
    assert "vector text 0, largest difference" in named(verified(known(parity=shorter), copy), "failed")
    unknown = Parity(("a",), (b"\0" * 8,), 1, "made up", "no such task")
    assert "vector all" in named(verified(known(parity=unknown), copy), "failed")


def run(*arguments):
    return CliRunner().invoke(commands, ["models", "verify", *map(str, arguments)])


def test_the_command_reports_a_directory(known, copy, monkeypatch):
    known()
    monkeypatch.setenv("HOME", str(copy.parent))
    good = run(NAME, "--path", copy)
    assert good.exit_code == 0, good.output
    assert good.stdout.startswith(f"**{NAME} is the published model")
    rows = [line for line in good.stdout.splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") == rows[0].count("|") for line in rows)
    assert "- ~/copy" in good.stdout
    assert sha256(copy / "model.safetensors") in good.stdout
    one_weight(copy)
    bad = run(NAME, "--path", copy, "--json")
    assert bad.exit_code == 1
    report = json.loads(bad.stdout)
    assert report["verdict"] == "different"
    assert report["system"]["cpu"]["instruction_sets"]
    assert report["copy"]["instruction_set"] in report["system"]["cpu"]["instruction_sets"]


def test_the_command_finds_the_copy_in_either_cache(known, copy, tmp_path):
    known()
    nothing = run(NAME)
    assert nothing.exit_code == 1
    assert f"embergem models pull {NAME}" in nothing.stderr
    home = tmp_path / "hub" / "models--example--gemma"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("0123abc")
    shutil.copytree(copy, home / "snapshots" / "0123abc")
    assert "revision 0123abc" in run(NAME).stdout
    one_weight(copy)
    with model_cache.locked(NAME) as scratch:
        model_cache.store(shutil.copytree(copy, scratch / "new"), model=NAME, source="hub", revision="4567def")
    damaged = run(NAME)
    assert damaged.exit_code == 1
    assert "revision 4567def" in damaged.stdout
    assert "failed | file 3_Dense/model.safetensors" in damaged.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--json"], 3, "--json needs the name"),
        (["--path", "."], 3, "--path needs the name"),
        ([NAME, "--path", "no/such"], 3, "no/such"),
        (["acme/other", "--path", "."], 4, "acme/other"),
    ],
)
def test_wrong_usage_says_what_to_do(known, arguments, code, said):
    from embergem.cli.app import report

    known()
    error = run(*arguments).exception
    assert report(error) == code
    assert said in str(error)


def test_vectors_in_the_catalog_are_complete():
    found = [entry for entry in catalog.CATALOG if entry.parity]
    assert {"sentence-transformers/all-MiniLM-L6-v2", "sentence-transformers/all-mpnet-base-v2"} <= {
        e.id for e in found
    }
    for known_entry in found:
        parity = known_entry.parity
        assert len(parity.texts) == len(parity.vectors)
        assert {len(vector) for vector in parity.vectors} == {4 * known_entry.dimensions}
        assert 0 < parity.tolerance <= 1e-5


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", pytest.param("all-mpnet-base-v2", marks=pytest.mark.parity_full)])
def test_real_weights_are_the_published_ones(name, request, monkeypatch, tmp_path):
    path = request.getfixturevalue("minilm") if name == "all-MiniLM-L6-v2" else ASSETS / name
    if not path.exists():
        pytest.skip(f"{path} is not there; it takes the published weights of {name}")
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "0")
    known_entry = catalog.find(name)
    report = verify_copy(known_entry, Location(known_entry.id, path))
    assert report.verdict == "published", report.reason
    assert {"similarity", "vector"} <= {check.kind for check in report.checks if check.status == "passed"}
