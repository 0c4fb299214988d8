"""A Ray cluster of two node processes on this machine, for tests and for `scripts/ray_transcript.py`.

Ray reads its token when it is imported, so `use_token` comes before that.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

from serving import free_port

ROOT = Path(__file__).parents[1]
RAY = Path(sys.executable).with_name("ray")
SECONDS = 240
"""Time in which a node has to start."""


def use_token(home):
    """Make a token in a directory, and let this process and its children use it."""
    token = Path(home) / "token"
    token.write_text(secrets.token_hex(32))
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}


def processes(session):
    """Yield (process id, command line) of the processes of a session."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(path.name)) == session:
                yield int(path.name), (path / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except (OSError, UnicodeDecodeError):
            continue


class TwoNodes:
    """A head and a second node, each in a session of its own.

    `directory` gets their logs and files, and `home` is their home directory.
    """

    def __init__(self, directory, home):
        self.directory = directory
        self.nodes = {}
        self.address = f"127.0.0.1:{free_port()}"
        self.environment = os.environ | {
            "HOME": home,
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
                raise RuntimeError(f"The node {name} did not start: {log.read_text()}")
            if time.monotonic() >= deadline:
                self.kill(name)
                raise RuntimeError(f"The node {name} did not start within {SECONDS} s.")
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
