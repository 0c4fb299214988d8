"""`resolve` with an explicit revision, cache directory of `huggingface_hub`, or token source."""

import json
import logging
import shutil

import entries
import hubcache
import pytest
from fakehub import COMMIT
from goldens import files_of
from hubcache import MODEL, NEW, OLD

from embergem import catalog
from embergem.checkpoint.checkpoint import Location
from embergem.errors import DownloadError, UnknownModel, UnsupportedOption
from embergem.hub import model_cache
from embergem.hub.options import HubOptions
from embergem.hub.resolve import resolve
from embergem.options import LoadOptions


@pytest.fixture
def versions(tmp_path):
    return hubcache.two_versions(tmp_path)


@pytest.fixture
def hf(tmp_path, versions, cache_home):
    """A cache with two commits: main and v2 point to the newer one, v1 and a pull request to the older one."""
    hubcache.put(tmp_path / "hf", versions[0], OLD, "v1", "refs/pr/1")
    hubcache.put(tmp_path / "hf", versions[1], NEW, "main", "v2")
    return tmp_path / "hf"


@pytest.mark.parametrize(
    ("revision", "commit"), [(None, NEW), ("v2", NEW), ("v1", OLD), ("refs/pr/1", OLD), (OLD, OLD), (NEW, NEW)]
)
def test_a_revision_is_a_branch_a_tag_or_a_commit(hf, revision, commit):
    found = resolve(LoadOptions(model=MODEL, revision=revision, hf_cache_path=hf))
    named = MODEL if revision is None else f"{MODEL}@{revision}"
    assert found == Location(named, hf / "models--acme--tiny" / "snapshots" / commit, commit)
    assert not model_cache.exists(MODEL), "embergem's cache has one version of a model, that of the default branch"


def test_the_hub_librarys_own_cache_has_revisions_too(hf, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hf))
    assert resolve(LoadOptions(model=MODEL, revision="v1")).path.name == OLD


def test_a_snapshot_directory_can_be_the_model(hf):
    path = hf / "models--acme--tiny" / "snapshots" / OLD
    assert resolve(LoadOptions(model=path)) == Location(OLD, path)


def test_the_error_for_a_missing_revision_names_the_revisions_in_the_cache(hf):
    with pytest.raises(DownloadError) as error:
        resolve(LoadOptions(model=MODEL, revision="v9", hf_cache_path=hf))
    for words in ("HF_HUB_OFFLINE", "'v9'", str(hf), f"v1 ({OLD[:12]})", f"main ({NEW[:12]})", "refs/pr/1"):
        assert words in error.value.message
    with pytest.raises(DownloadError, match="has nothing of acme/other"):
        resolve(LoadOptions(model="acme/other", revision="v1", hf_cache_path=hf))
    shutil.rmtree(hf / "models--acme--tiny" / "refs")
    with pytest.raises(DownloadError, match=f"has {OLD}, {NEW} of acme/tiny"):
        resolve(LoadOptions(model=MODEL, hf_cache_path=hf))


def test_an_incomplete_revision_is_not_used(hf):
    (hf / "models--acme--tiny" / "snapshots" / OLD / "tokenizer.json").unlink()
    with pytest.raises(DownloadError, match="revision 'v1' is not complete on this machine"):
        resolve(LoadOptions(model=MODEL, revision="v1", hf_cache_path=hf))
    assert resolve(LoadOptions(model=MODEL, hf_cache_path=hf)).revision == NEW


def test_a_revision_without_one_of_its_shards_is_not_used(hf):
    snapshot = hf / "models--acme--tiny" / "snapshots" / NEW
    (snapshot / "model.safetensors").rename(snapshot / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(DownloadError, match="the model is not complete on this machine"):
        resolve(LoadOptions(model=MODEL, hf_cache_path=hf))


@pytest.mark.parametrize("option", [{"revision": "main"}, {"hf_cache_path": "x"}])
def test_a_directory_has_neither_a_revision_nor_a_cache(model, cache_home, option):
    [name] = option
    with pytest.raises(UnsupportedOption, match=f"{name}='.*' applies to models of the hub, .*tiny is a local path"):
        resolve(LoadOptions(model=model, **option))


@pytest.mark.parametrize("revision", ["", " ", "../v1"])
def test_invalid_revisions_are_refused(hf, revision):
    with pytest.raises(UnsupportedOption, match="is not a branch, tag or commit"):
        resolve(LoadOptions(model=MODEL, revision=revision, hf_cache_path=hf))


def test_a_revision_in_the_name_is_refused_with_advice(cache_home):
    with pytest.raises(UnknownModel, match="A name does not contain a revision"):
        resolve(LoadOptions(model="acme/tiny@v1"))


def test_the_donor_of_dense_layers_can_be_a_directory_or_a_hub_model(hf, model):
    assert resolve(LoadOptions(model=MODEL, revision="v1", hf_cache_path=hf, dense_from=model)).dense_from == model
    with_cache = resolve(LoadOptions(model=MODEL, revision="v1", hf_cache_path=hf, dense_from=MODEL))
    assert with_cache.dense_from.name == NEW, "the revision does not apply to the donor"


def test_an_explicit_cache_comes_before_embergems_cache(hf, versions, caplog, tmp_path):
    with model_cache.locked(MODEL) as scratch:
        cached = model_cache.store(
            shutil.copytree(versions[0], scratch / "hub"), model=MODEL, source="hub", revision=OLD
        )
    assert resolve(LoadOptions(model=MODEL)).path == cached.path
    assert resolve(LoadOptions(model=MODEL, hf_cache_path=hf)).revision == NEW
    with caplog.at_level(logging.INFO):
        assert resolve(LoadOptions(model=MODEL, hf_cache_path=tmp_path / "empty")).path == cached.path
    assert f"{tmp_path / 'empty'} does not have {MODEL}; taking it from embergem's own cache" in caplog.text
    assert resolve(LoadOptions(model=MODEL, hf_cache_path=tmp_path / "empty", revision=OLD)) == Location(
        f"{MODEL}@{OLD}", cached.path, OLD
    )
    assert resolve(LoadOptions(model=MODEL, revision=OLD)).path == cached.path
    assert resolve(LoadOptions(model=MODEL, hf_cache_path=hf, revision="v2")).revision == NEW


def test_an_unreadable_cache_is_named(hf, versions, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied", str(hf))

    with model_cache.locked(MODEL) as scratch:
        model_cache.store(shutil.copytree(versions[0], scratch / "hub"), model=MODEL, source="hub", revision=OLD)
    monkeypatch.setattr("embergem.hub.hf_cache.snapshot_directory", refused)
    with pytest.raises(DownloadError, match=f"cannot be used for {MODEL}: .*{hf}.*hf_cache_path"):
        resolve(LoadOptions(model=MODEL, hf_cache_path=hf))


def test_pins_of_the_catalog_apply_to_the_hub_librarys_cache(forged, hf, tmp_path):
    entry, _, _ = forged
    first, second = tmp_path / "first", tmp_path / "second"
    good = hubcache.put(hf, first, OLD, "v1", model=entry.id)
    bad = hubcache.put(hf, second, NEW, "v2", model=entry.id)
    for _ in range(2):  # the second time the hash is noted
        assert resolve(LoadOptions(model="tiny", revision="v1", hf_cache_path=hf)).path == good
    with pytest.raises(
        DownloadError, match=r"model\.safetensors has sha256 .* not the expected bytes\. Remove"
    ) as error:
        resolve(LoadOptions(model="tiny", revision="v2", hf_cache_path=hf))
    assert str(bad) in error.value.message


def test_the_wheel_is_used_if_an_explicit_cache_lacks_the_model(forged, hf, tmp_path):
    entry, files, write = forged
    write(files)
    found = resolve(LoadOptions(model="tiny", hf_cache_path=hf))
    assert (found.id, found.path.is_relative_to(tmp_path / "cache")) == (entry.id, True)
    with pytest.raises(DownloadError, match="revision 'v1' is not complete"):
        resolve(LoadOptions(model="tiny", hf_cache_path=hf, revision="v1"))


def test_an_entry_of_the_catalog_keeps_its_name_and_its_notice(hf, monkeypatch, caplog):
    known = entries.entry(MODEL, "bert", 64, aliases=("small",), notice="mind the terms")
    monkeypatch.setattr(catalog, "CATALOG", (known,))
    assert resolve(LoadOptions(model="small", revision="v1", hf_cache_path=hf)).id == f"{MODEL}@v1"
    assert "mind the terms" in caplog.text


class TestDownloads:
    @pytest.fixture
    def tiny(self, hub, versions):
        hub.repos[MODEL] = files_of(versions[1])
        hub.revisions[MODEL] = {"v1": (OLD, files_of(versions[0]) | {"pytorch_model.bin": b"pickle"})}
        return hub

    def test_a_revision_is_downloaded_into_the_hub_librarys_cache(self, tiny, start, tmp_path, versions):
        own = start(tiny, MODEL).result()
        options = {"revision": "v1", "hf_cache_path": str(tmp_path / "other")}
        found = start(tiny, MODEL, options=options).result()
        place = tmp_path / "other" / "models--acme--tiny" / "snapshots" / OLD
        assert found == {"id": f"{MODEL}@v1", "path": str(place), "revision": OLD}
        assert (place / "model.safetensors").read_bytes() == (versions[0] / "model.safetensors").read_bytes()
        assert not (place / "pytorch_model.bin").exists()
        requests = len(tiny.requests)
        for revision in ("v1", OLD):  # both are in the cache now
            again = start(tiny, MODEL, options=options | {"revision": revision}, HF_HUB_OFFLINE="1").result()
            assert again["path"] == str(place)
        assert len(tiny.requests) == requests
        assert start(tiny, MODEL).result() == own, "embergem's cache still has the default branch"
        assert own["revision"] == COMMIT

    def test_a_revision_that_is_not_on_the_hub_is_an_error(self, tiny, start, tmp_path):
        failed = start(tiny, MODEL, options={"revision": "v9", "hf_cache_path": str(tmp_path)}).result()
        assert failed["error"] == "UnknownModel"
        assert f"no revision 'v9' of {MODEL}" in failed["message"]
        assert f"{tiny.url}/{MODEL}/tree/main" in failed["message"]
        assert "has nothing of acme/tiny" in failed["message"]

    def test_the_token_comes_from_the_token_source(self, tiny, start, tmp_path):
        tiny.gated.add(MODEL)
        (tmp_path / "token").write_text(f"{tiny.token}\n")

        def got(source, **environment):
            fresh = {"HF_HOME": str(tmp_path / f"hf-{source[:4]}"), "EMBERGEM_CACHE": str(tmp_path / source[:4])}
            return start(tiny, MODEL, options={"token_source": source}, **fresh, **environment).result()

        assert got("cache", HF_TOKEN=tiny.token)["id"] == MODEL
        assert got("none", HF_TOKEN=tiny.token)["error"] == "GatedModel"
        assert got(f"literal:{tiny.token}")["id"] == MODEL
        assert got(f"path:{tmp_path / 'token'}")["id"] == MODEL
        assert got("env:MINE", MINE=tiny.token)["id"] == MODEL
        unset = start(tiny, "acme/other", options={"token_source": "env:MINE"}).result()
        assert (unset["error"], "variable MINE" in unset["message"]) == ("UnsupportedOption", True)


def test_sources_of_a_token(tmp_path, monkeypatch):
    def token(source):
        return HubOptions.of(LoadOptions(token_source=source)).token()

    (tmp_path / "file").write_text(" hf_file\n")
    monkeypatch.setenv("MINE", "hf_mine")
    monkeypatch.setenv("BLANK", " ")
    assert (token(None), token("cache"), token("none"), token("literal:hf_x")) == (None, None, False, "hf_x")
    assert (token("env:MINE"), token(f"path:{tmp_path / 'file'}")) == ("hf_mine", "hf_file")
    for source, words in (
        ("env:BLANK", "variable BLANK, which is not set"),
        (f"path:{tmp_path / 'nothing'}", "nothing cannot be read: No such file"),
        ("hf_secret_secret", '"env:VARIABLE"'),
        ("literal:", "literal:TOKEN"),
        ("env", "env:VARIABLE"),
    ):
        with pytest.raises(UnsupportedOption, match=words) as error:
            token(source)
        assert "secret" not in error.value.message
    assert "hf_x" not in repr(HubOptions.of(LoadOptions(token_source="literal:hf_x")))
