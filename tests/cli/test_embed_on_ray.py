"""`embergem embed --ray` without Ray, and with options that do not fit; `make test-ray` has the jobs."""

from importlib.util import find_spec

import pytest
from typer.testing import CliRunner

from embergem.cli.app import app
from embergem.errors import UnsupportedOption


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
def test_the_missing_package_is_named_with_its_extra(tiny):
    result = CliRunner().invoke(app, ["embed", "-m", str(tiny), "graphene", "--ray", "local"])
    assert isinstance(result.exception, UnsupportedOption)
    assert "--ray needs the package ray. Install it: pip install 'embergem[ray]'" in str(result.exception)
