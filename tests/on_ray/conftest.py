"""A Ray cluster of two node processes on this machine, with a token and a home directory of its own.

Nothing is collected outside the environment of `make test-ray`.
"""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from serving import free_port

collect_ignore_glob = [] if find_spec("ray") else ["*"]

ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")
SECONDS = 240
"""Time in which a node has to start."""

HOME = tempfile.TemporaryDirectory(prefix="embergem-ray-tests-")
"""Directory of the token, and home directory of the nodes."""

TOKEN = Path(HOME.name) / "token"
TOKEN.write_text(secrets.token_hex(32))
# Ray reads these variables when it is imported, so they are set for all tests of this folder.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(TOKEN), "RAY_USAGE_STATS_ENABLED": "0"}


def processes(session):
    """Yield (process id, command line) of the processes of a session."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(path.name)) == session:
                yield int(path.name), (path / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except (OSError, UnicodeDecodeError):
            continue


class TwoNodes:
    """A head and a second node, each in a session of its own."""

    def __init__(self, directory):
        self.directory = directory
        self.nodes = {}
        self.address = f"127.0.0.1:{free_port()}"
        self.environment = os.environ | {
            "HOME": HOME.name,
            "PYTHONPATH": str(ROOT / "src"),
            "RAY_raylet_start_wait_time_s": str(SECONDS),  # 30 s are too few on a busy machine
        }
        port = self.address.partition(":")[2]
        self.start(
            "head", "--head", "--port", port, "--temp-dir", str(directory / "ray"), "--include-dashboard", "false"
        )

    def start(self, name, *options):
        """Start a node and wait until it runs."""
        log = self.directory / f"{name}.log"
        command = [RAY, "start", "--block", "--node-ip-address", "127.0.0.1", "--num-cpus", "2"]
        command += ["--disable-usage-stats", "--object-store-memory", "100000000", *options]
        with log.open("w") as file:
            node = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=self.environment, start_new_session=True
            )
        self.nodes[name] = node  # `kill` and the end of the tests find it, also if it does not start
        deadline = time.monotonic() + SECONDS
        while "Ray runtime started" not in log.read_text():
            if node.poll() is not None:
                self.kill(name)
                pytest.fail(log.read_text())
            assert time.monotonic() < deadline, "the node did not start"
            time.sleep(0.2)

    def add_second(self):
        """Start the second node, unless it runs."""
        if "second" not in self.nodes:
            self.start("second", "--address", self.address)

    def titles(self, name):
        """Return the command lines of the processes of a node."""
        return [title for _, title in processes(self.nodes[name].pid)]

    def kill(self, name):
        """Kill all processes of a node at once."""
        node = self.nodes.pop(name)
        for process, _ in processes(node.pid):
            os.kill(process, signal.SIGKILL)
        node.wait()

    def embed(self, *arguments):
        """Start `embergem embed` in a process of its own."""
        command = [sys.executable, "-m", "embergem", "embed", *map(str, arguments), "--ray", self.address]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment)


@pytest.fixture(autouse=True)
def environment():
    """Restores the environment after each test: Ray sets variables of its own in the process that connects to it."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def nodes(tmp_path_factory):
    started = TwoNodes(tmp_path_factory.mktemp("ray"))
    try:
        started.add_second()
        yield started
    finally:
        for name in list(started.nodes):
            started.kill(name)
