"""Signals to a server process that was started with `embergem serve`."""

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
"""Enough texts that the tiny model still computes when the signal arrives."""


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


def embed(url, texts="a", **headers):
    return httpx.post(f"{url}/v1/embeddings", json={"input": texts}, headers=headers, timeout=120)


def start_request(pool, url):
    """Embed many texts from another thread; return the future of the response once all texts are queued."""
    answer = pool.submit(embed, url, TEXTS)
    while f'embergem_engine_rows_total{{model="gemma3_text"}} {len(TEXTS)}.0' not in httpx.get(f"{url}/metrics").text:
        assert not answer.done(), answer.result().text
    return answer


def test_sigterm_finishes_the_requests_in_progress(tiny):
    with server("-m", tiny) as (process, url), ThreadPoolExecutor(1) as pool:
        answer = start_request(pool, url)
        process.send_signal(signal.SIGTERM)
        assert [answer.result().status_code, len(answer.result().json()["data"])] == [200, len(TEXTS)]
        assert process.wait(60) == 0
        with pytest.raises(httpx.ConnectError):
            embed(url)


def test_requests_in_progress_after_drain_timeout_are_abandoned(tiny, tmp_path):
    config = tmp_path / "server.toml"
    config.write_text(f"[server]\ndrain_timeout = 0.01\n[models.gemma3_text]\nmodel_id = {str(tiny)!r}\n")
    with server("--config", config) as (process, url), ThreadPoolExecutor(1) as pool:
        answer = start_request(pool, url)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert answer.result().status_code in (200, 503)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_sighup_reloads_the_keys(tiny, tmp_path):
    file = tmp_path / "keys.toml"

    def new(name):
        made = CliRunner().invoke(app, ["keys", "new", name, "--file", str(file)])
        assert made.exit_code == 0, made.output
        return re.search(r"\S+", made.stdout).group()

    first = new("first")
    with server("-m", tiny, "--keys", file) as (process, url):
        second = new("second")
        assert embed(url, authorization=f"Bearer {first}").status_code == 200
        assert embed(url, authorization=f"Bearer {second}").status_code == 401
        os.kill(process.pid, signal.SIGHUP)
        while (status := embed(url, authorization=f"Bearer {second}").status_code) == 401:
            assert process.poll() is None
        assert status == 200
        assert embed(url, authorization=f"Bearer {first}").status_code == 200


@pytest.fixture
def unloadable(tmp_path, monkeypatch):
    """Return a model whose load never ends: it waits for a lock, as if another process were downloading the model."""
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path / "cache"))
    with locked("nobody/never"):
        yield "nobody/never"


@contextmanager
def loading(*arguments):
    """Start `embergem serve`; yields the process and its address while its model is loading."""
    with starting(*arguments) as process:
        line = next(line for line in process.stdout if line.startswith("listening on"))
        yield process, re.search(r"http://[^/]+", line).group()


@contextmanager
def loading_by_request(file, unloadable, drain_timeout):
    """Like `loading`, but an admin request loads the model; yields the process and the future of the response."""
    file.write_text(
        f"[server]\ndrain_timeout = {drain_timeout}\n[models.never]\nmodel_id = {unloadable!r}\nlazy = true\n"
    )
    with loading("--config", file) as (process, url), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.post, f"{url}/v1/models/load", json={"model_id": "never"}, timeout=120)
        while httpx.get(f"{url}/ready").json()["models"] != {"never": "loading"}:
            assert not answer.done()
        yield process, answer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_server_stops_during_a_load(unloadable, number):
    with loading("-m", unloadable) as (process, url):
        assert httpx.get(f"{url}/ready").json()["status"] == "loading"
        process.send_signal(number)
        assert process.wait(60) == 0


def test_a_request_that_waits_for_a_load_is_abandoned_after_drain_timeout(unloadable, tmp_path):
    with loading_by_request(tmp_path / "server.toml", unloadable, 0.2) as (process, answer):
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert (answer.result().status_code, answer.result().json()["error"]["code"]) == (503, "engine_closed")


def test_a_second_interrupt_stops_the_server_at_once(unloadable, tmp_path):
    with loading_by_request(tmp_path / "server.toml", unloadable, 1000) as (process, _):
        for _ in range(60):  # repeated, because two signals at the same moment count as one
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
                break
        assert process.poll() == 0
