"""Signals to a server that runs as its users start it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from typer.testing import CliRunner

from embergem.cli.app import app
from embergem.hub.model_cache import locked

TEXTS = [f"{number}: " + "Graphene is a single layer of carbon atoms. " * 5 for number in range(2000)]
"""Long enough for the tiny model to be at work when it is told to stop."""


@contextmanager
def starting(*arguments):
    """Start `embergem serve` on a free port; yields the process."""
    command = [sys.executable, "-m", "embergem", "serve", "-p", "0", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def server(*arguments):
    """Start `embergem serve`; yields the process and its address, once the models are loaded."""
    with starting(*arguments) as process:
        line = next(line for line in process.stdout if line.startswith("serving on"))
        yield process, re.search(r"http://[^/]+", line).group()


def ask(url, texts="a", **headers):
    return httpx.post(f"{url}/v1/embeddings", json={"input": texts}, headers=headers, timeout=120)


def in_work(beside, url):
    """Ask for many texts from another thread, and return the future of the answer once all of them are queued."""
    answer = beside.submit(ask, url, TEXTS)
    while f'embergem_engine_rows_total{{model="gemma3_text"}} {len(TEXTS)}.0' not in httpx.get(f"{url}/metrics").text:
        assert not answer.done(), answer.result().text
    return answer


def test_what_is_in_work_is_finished_before_the_server_stops(tiny):
    with server("-m", tiny) as (process, url), ThreadPoolExecutor(1) as beside:
        answer = in_work(beside, url)
        process.send_signal(signal.SIGTERM)
        assert [answer.result().status_code, len(answer.result().json()["data"])] == [200, len(TEXTS)]
        assert process.wait(60) == 0
        with pytest.raises(httpx.ConnectError):
            ask(url)


def test_what_is_in_work_after_drain_timeout_is_given_up(tiny, tmp_path):
    config = tmp_path / "server.toml"
    config.write_text(f"[server]\ndrain_timeout = 0.01\n[models.gemma3_text]\nmodel_id = {str(tiny)!r}\n")
    with server("--config", config) as (process, url), ThreadPoolExecutor(1) as beside:
        answer = in_work(beside, url)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert isinstance(answer.exception(), httpx.HTTPError) or answer.result().status_code in (200, 500, 503)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_keys_are_read_again(tiny, tmp_path):
    file = tmp_path / "keys.toml"

    def new(name):
        made = CliRunner().invoke(app, ["keys", "new", name, "--file", str(file)])
        assert made.exit_code == 0, made.output
        return re.search(r"\S+", made.stdout).group()

    first = new("first")
    with server("-m", tiny, "--keys", file) as (process, url):
        second = new("second")
        assert ask(url, authorization=f"Bearer {first}").status_code == 200
        assert ask(url, authorization=f"Bearer {second}").status_code == 401
        os.kill(process.pid, signal.SIGHUP)
        while (status := ask(url, authorization=f"Bearer {second}").status_code) == 401:
            assert process.poll() is None
        assert status == 200
        assert ask(url, authorization=f"Bearer {first}").status_code == 200


@pytest.fixture
def unloadable(tmp_path, monkeypatch):
    """A model whose load never ends: it waits for another process, as it seems, to have downloaded it."""
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path / "cache"))
    with locked("nobody/never"):
        yield "nobody/never"


@contextmanager
def loading(*arguments):
    """Start `embergem serve`; yields the process and its address while its model is being loaded."""
    with starting(*arguments) as process:
        line = next(line for line in process.stdout if line.startswith("listening on"))
        yield process, re.search(r"http://[^/]+", line).group()


@contextmanager
def waited_for(file, unloadable, drain_timeout):
    """As `loading`, with a model that is loaded only when it is asked for; yields the future of that answer, too."""
    file.write_text(
        f"[server]\ndrain_timeout = {drain_timeout}\n[models.never]\nmodel_id = {unloadable!r}\nlazy = true\n"
    )
    with loading("--config", file) as (process, url), ThreadPoolExecutor(1) as beside:
        answer = beside.submit(httpx.post, f"{url}/v1/models/load", json={"model_id": "never"}, timeout=120)
        while httpx.get(f"{url}/ready").json()["models"] != {"never": "loading"}:
            assert not answer.done()
        yield process, answer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_load_is_not_waited_for(unloadable, number):
    with loading("-m", unloadable) as (process, url):
        assert httpx.get(f"{url}/ready").json()["status"] == "loading"
        process.send_signal(number)
        assert process.wait(60) == 0


def test_who_waits_for_a_load_is_waited_for_no_longer_than_drain_timeout(unloadable, tmp_path):
    with waited_for(tmp_path / "server.toml", unloadable, 0.2) as (process, answer):
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert isinstance(answer.exception(), httpx.HTTPError) or answer.result().status_code >= 500


def test_a_second_interrupt_ends_at_once(unloadable, tmp_path):
    with waited_for(tmp_path / "server.toml", unloadable, 1000) as (process, _):
        for _ in range(60):  # two signals at the same moment are one
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
                break
        assert process.poll() == 0
