"""Batches of a server process that is killed (SIGKILL): the results are the bytes of a server that was not."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import httpx
import pytest
from batching import accepted, finished, jsonl, line, results, start
from openai import OpenAI
from serving import free_port

from embergem.server.batches.batch_store import BatchStore

LINES = [line(number, **({"dimensions": 5} if number % 7 == 3 else {})) for number in range(200)]

SERVER = """
import os, signal, sqlite3, sys
from embergem.bulk import durable_files, database
from embergem.cli import main
from embergem.server.batches import batch_run
from embergem.server.batches.batch_store import BatchStore

batch_run.PART_SECONDS = 0.0
batch_run.PART_BYTES = 20_000
batch_run.WINDOW_LINES = 8
place, number = sys.argv.pop(1).split(":")
steps, last = 0, int(number) if place == "part" else -1

def step():
    global steps
    steps += 1
    if steps == last:
        os.kill(os.getpid(), signal.SIGKILL)

def flushed(descriptor, flush=os.fsync):
    step()  # the bytes are written, and maybe not on the disk
    flush(descriptor)
    step()  # the bytes are on the disk, and the database does not know it

class Index(sqlite3.Connection):
    def execute(self, statement, *values):
        if statement == "COMMIT":
            step()
        found = super().execute(statement, *values)
        if statement == "COMMIT":
            step()
        return found

def finish(*given, end=BatchStore.finish):
    global last
    if place == "finish":
        last = steps + int(number)
    return end(*given)

BatchStore.finish = finish
connect = sqlite3.connect
sqlite3.connect = lambda *given, **options: connect(*given, factory=Index, **options)
os.fsync = flushed
main()
"""
"""A server that kills itself at a step of its writes: before and after each flush and each commit. `part:N` counts the
steps from the start of the process on, `finish:N` those from the end of the batch on."""


@contextmanager
def server(tiny, directory, kill_at="never:0"):
    """Run a server process; yields its address and the process."""
    port = free_port()
    command = [sys.executable, "-c", SERVER, kill_at, "serve", "-m", str(tiny), "-p", str(port)]
    environment = {**os.environ, "EMBERGEM_ACCESS_LOG": "off"}
    process = subprocess.Popen(
        [*command, "--batch-path", str(directory)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.communicate()


def ready(url, process):
    """Wait until a server has its model; return False if it was killed before."""
    while process.poll() is None:
        try:
            if httpx.get(f"{url}/ready").status_code == 200:
                return True
        except httpx.TransportError:
            threading.Event().wait(0.02)
    return False


def prepared(directory):
    """Make the directory of a server that was killed when it had accepted a batch; return the batch."""
    store = BatchStore(directory)
    batch = accepted(store, jsonl(LINES))
    store.close()
    return batch


def outcome(tiny, directory, batch):
    """Finish a batch; return the bytes of both files of results."""
    with server(tiny, directory) as (url, process):
        assert ready(url, process), process.stderr.read()
        with OpenAI(base_url=f"{url}/v1", api_key="any") as client:
            found = finished(client, batch)
            assert (found.status, found.request_counts.total) == ("completed", 200)
            assert found.request_counts.completed + found.request_counts.failed == 200
            assert [found.output_file_id, found.error_file_id] == [batch.output_id, batch.error_id]
            assert len(client.files.list().data) == 3
            files = client.files.content(batch.output_id).content, client.files.content(batch.error_id).content
    assert sorted(path.name for path in (directory / "files").iterdir()) == sorted(
        [batch.input_file_id, batch.output_id, batch.error_id]
    )
    return files


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_the_results_of_a_killed_server_are_those_of_one_that_was_not(tiny, tmp_path):
    batch = prepared(tmp_path / "prepared")
    shutil.copytree(tmp_path / "prepared", tmp_path / "calm")
    expected = outcome(tiny, tmp_path / "calm", batch)
    assert [len(part.splitlines()) for part in expected] == [171, 29]
    shutil.copytree(tmp_path / "prepared", tmp_path / "killed")
    steps = random.Random(19).sample(range(1, 20), 5)
    for kill_at in (*(f"part:{step}" for step in steps), "finish:2", "finish:5", "finish:6"):
        with server(tiny, tmp_path / "killed", kill_at) as (_, process):
            assert process.wait(120) == -signal.SIGKILL, kill_at
    assert outcome(tiny, tmp_path / "killed", batch) == expected


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_user_kills_the_server_while_the_client_waits(tiny, tmp_path):
    directory, lines = tmp_path / "batches", [line(number) for number in range(3000)]
    with server(tiny, directory) as (url, process):
        assert ready(url, process)
        with OpenAI(base_url=f"{url}/v1", api_key="any") as client:
            batch = start(client, lines)
            while client.batches.retrieve(batch.id).request_counts.completed < 50:
                threading.Event().wait(0.01)
            process.kill()
    with server(tiny, directory) as (url, process):
        assert ready(url, process)
        with OpenAI(base_url=f"{url}/v1", api_key="any") as client:
            found = finished(client, batch)
            output = results(client, found.output_file_id)
            assert [one["custom_id"] for one in output] == [one["custom_id"] for one in lines]
            vector = client.embeddings.create(
                model="default", input=lines[-1]["body"]["input"], encoding_format="float"
            )
            assert output[-1]["response"]["body"]["data"][0]["embedding"] == vector.data[0].embedding
