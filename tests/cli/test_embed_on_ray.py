"""`embergem embed --ray` without Ray, and with options that do not fit; `make test-ray` has the jobs."""

import socket
from importlib.util import find_spec

import pytest
from serving import free_port
from typer.testing import CliRunner

from embergem.cli.app import app
from embergem.cli.ray_option import fill_address
from embergem.errors import UnsupportedOption
from embergem.ray.cluster import ANY, AUTO, running_cluster


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--ray", "127.0.0.1:1"), "--ray 127.0.0.1:1: nothing answers there: "),
        (("--ray", "cluster"), "--ray cluster is no address. Give auto, local, or HOST:PORT."),
        (("--ray", "local", "--ray-workers", "0"), "--ray-workers 0 is not possible. Give 1 or more."),
        (("--ray-workers", "2"), "--ray-workers 2 needs a cluster. Add --ray with its address, or leave it out."),
        (
            ("--ray", "local", "-m", "http://127.0.0.1:1"),
            "--ray loads the model on the nodes, and http://127.0.0.1:1 is",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused_before_the_model_is_loaded(tiny, monkeypatch, arguments, words):
    monkeypatch.setattr("embergem.loader.load", lambda options: pytest.fail("the model was loaded"))
    result = CliRunner().invoke(app, ["embed", "-m", str(tiny), "graphene", *arguments])
    assert isinstance(result.exception, UnsupportedOption)
    assert words in str(result.exception)


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed here")
@pytest.mark.parametrize("arguments", [("graphene", "--ray", "local"), ("--ray", "two words"), ("a", "--ray", "-q")])
def test_the_missing_package_is_named_with_its_extra(tiny, monkeypatch, tmp_path, arguments):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    result = CliRunner().invoke(app, ["embed", "-m", str(tiny), *arguments])
    assert isinstance(result.exception, UnsupportedOption)
    assert "--ray needs the package ray. Install it: pip install 'embergem[ray]'" in str(result.exception)


@pytest.mark.parametrize(
    ("given", "filled"),
    [
        ("--ray", "--ray any"),
        ("--ray -o v.npy a.txt", "--ray any -o v.npy a.txt"),
        ("--ray a.parquet", "--ray any a.parquet"),
        ("--ray data/*.csv.gz", "--ray any data/*.csv.gz"),
        ("--ray local a.txt", "--ray local a.txt"),
        ("a.txt --ray 10.0.0.1:6379", "a.txt --ray 10.0.0.1:6379"),
        ("--ray=auto a.txt", "--ray=auto a.txt"),
        ("a -- --ray", "a -- --ray"),
    ],
)
def test_the_address_may_be_left_out(given, filled):
    assert fill_address(given.split()) == filled.split()
    assert fill_address(["--ray", "."]) == ["--ray", ANY, "."]  # a directory


def test_the_cluster_that_runs_is_found_without_ray(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert running_cluster() is None
    (tmp_path / "ray").mkdir()
    written = tmp_path / "ray" / "ray_current_cluster"
    written.write_text(f"127.0.0.1:{free_port()}")  # of a cluster that has ended
    assert running_cluster() is None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        written.write_text(f"127.0.0.1:{listener.getsockname()[1]}\n")
        assert running_cluster() == f"127.0.0.1:{listener.getsockname()[1]}"
    written.write_text("nonsense")
    assert running_cluster() is None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert running_cluster() == "10.0.0.1:6379"
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert running_cluster() == AUTO
