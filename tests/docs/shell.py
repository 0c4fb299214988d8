"""Run the shell blocks of the documentation: bash with the real command line and stand-ins for what changes a machine.

`embergem` runs in the process of the test, because a new process would load NumPy and the native module for each
command. A small program on the PATH sends its arguments and its standard streams to the test through a socket.
`curl` is the real one. `make` lists what it would run, `pip` and `cargo` check their arguments, and `python3 -m venv`
links these tools.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from unittest import mock

from doc_blocks import ROOT

from embergem.cli import main

FORWARD = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({address!r})
    call = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(connection, [len(call).to_bytes(8, "big")], [0, 1, 2])
    connection.sendall(call)
    sys.exit(int.from_bytes(connection.recv(1), "big"))
"""
CHECKED = """#!/bin/sh
# The process of the test checks the arguments.
exec embergem-checked {name} "$@"
"""


PYTHON = """#!/bin/sh
# A virtual environment gets the tools of this directory, because a real one takes seconds.
if [ "$1 $2" = "-m venv" ]; then
    mkdir -p "$3/bin" && ln -sf {tools}/pip {tools}/embergem "$3/bin"
else
    exec {python} "$@"
fi
"""


class Shell:
    """Runs blocks in a directory of their own."""

    def __init__(self, directory: Path, server_started) -> None:
        self.directory = directory
        self.server_started = server_started
        self.tools = directory / ".tools"
        self.tools.mkdir()
        self.address = str(self.tools / "socket")
        self._write("embergem", FORWARD.format(python=sys.executable, address=self.address))
        self._write("embergem-checked", FORWARD.format(python=sys.executable, address=self.address))
        for name in ("cargo", "pip", "pkill"):
            self._write(name, CHECKED.format(name=name))
        self._write("python3", PYTHON.format(tools=self.tools, python=sys.executable))
        self._write("make", f'#!/bin/sh\nexec {shutil.which("make")} --dry-run -C {ROOT} "$@" > /dev/null\n')
        (self.tools / ".curlrc").write_text("fail-with-body\nsilent\n")

    def _write(self, name: str, text: str) -> None:
        path = self.tools / name
        path.write_text(text)
        path.chmod(0o755)

    def run(self, text: str) -> str:
        """Run a block and return what it prints; fail with its output if a command fails."""
        environment = {
            **os.environ,
            "PATH": f"{self.tools}:{os.environ['PATH']}",
            "HOME": str(self.directory),
            "CURL_HOME": str(self.tools),
            "NO_COLOR": "1",
            "COLUMNS": "120",
        }
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.address)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen()
            bash = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", text],
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            output: list[str] = []
            reader = threading.Thread(target=self._finish, args=(bash, output, listener))
            reader.start()
            self._serve(listener)
            reader.join()
        assert bash.returncode == 0, f"{text}\nended with {bash.returncode}:\n{''.join(output)}"
        return "".join(output)

    def _finish(self, bash, output, listener) -> None:
        """Read the output of bash, and end `_serve` when bash has ended."""
        output.append(bash.communicate()[0])
        with socket.socket(socket.AF_UNIX) as last, contextlib.suppress(OSError):
            last.connect(self.address)

    def _serve(self, listener) -> None:
        """Run each command that bash starts, until a connection without a command."""
        while True:
            connection, _ = listener.accept()
            with connection:
                size, descriptors, *_ = socket.recv_fds(connection, 8, 3)
                if not size:
                    return
                with connection.makefile("rb") as received:
                    arguments, directory, environment = json.loads(received.read(int.from_bytes(size, "big")))
                connection.sendall(bytes([self._command(arguments, directory, environment, descriptors)]))

    def _command(self, arguments, directory, environment, descriptors) -> int:
        """Run one command in this process; return its exit status."""
        names = ("SIGINT", "SIGTERM", "SIGHUP")
        handlers = {number: signal.getsignal(number) for number in (getattr(signal, name) for name in names)}
        with (
            open(descriptors[0], encoding="utf-8") as stdin,
            open(descriptors[1], "w", encoding="utf-8") as stdout,
            open(descriptors[2], "w", encoding="utf-8") as stderr,
            contextlib.chdir(directory),
            mock.patch.dict(os.environ, environment, clear=True),
            mock.patch.multiple(sys, argv=arguments, stdin=stdin, stdout=stdout, stderr=stderr),
            mock.patch("embergem.server.run.serve", self.server_started),
        ):
            try:
                if Path(arguments[0]).name == "embergem-checked":
                    check(*arguments[1:])
                else:
                    main()
            except SystemExit as end:
                return end.code if isinstance(end.code, int) else int(end.code is not None)
            except AssertionError as error:
                print(error, file=stderr)
                return 1
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, handler)
        return 0


def check(name: str, *arguments: str) -> None:
    """Check the arguments of a command that is not run, because it would change the machine or take minutes."""
    match name, *arguments:
        case "pip", "install", *packages:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            for package in packages:
                own, _, wanted = package.partition("[")
                known = own == "embergem" or own.startswith(("embergem-", "dist/embergem-"))
                assert known, f"pip install {package} is unknown"
                unknown = [extra for extra in wanted.rstrip("]").split(",") if wanted and extra not in extras]
                assert not unknown, f"{package}: there is no extra {unknown}"
        case "cargo", "run", *options:
            example = options[options.index("--example") + 1]
            assert (ROOT / "crates" / "embergem" / "examples" / f"{example}.rs").exists(), f"no example {example}"
        case "cargo", "new", directory:
            Path(directory).mkdir()
        case "cargo", "add", "embergem", "--path", path:
            assert path.endswith("crates/embergem"), path
            assert (ROOT / "crates" / "embergem").is_dir()
        case "cargo", "add", "tokio", "--features", features:
            manifest = tomllib.loads((ROOT / "crates" / "embergem" / "Cargo.toml").read_text())
            tested = manifest["dev-dependencies"]["tokio"]["features"]
            assert set(features.split(",")) <= set(tested), f"the tests use only {tested}"
        case "pkill", "-HUP", "-f", "embergem serve":
            pass
        case _:
            raise AssertionError(f"tests/docs/shell.py does not know how to check: {name} {' '.join(arguments)}")
