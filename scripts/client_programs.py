"""The client programs in tests/clients: their list, their environments, and what they print.

A program gets the address of an API (`http://127.0.0.1:1234/v1`) and texts as arguments. It prints a JSON object with
a key for each task that it asked for: a list of vectors, or the body of a response. Each program has an environment of
its own beside the test assets, because the clients pin versions of the same libraries.
"""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from random_gemma import assets
from served import ROOT

PROGRAMS = ROOT / "tests" / "clients"
POM = """<project><modelVersion>4.0.0</modelVersion><groupId>c</groupId><artifactId>c</artifactId><version>1</version>
<dependencies>{}</dependencies></project>
"""


class NotInstalled(Exception):
    """A client, or the language that it needs, could not be installed on this machine. The message has the cause."""


@dataclass(frozen=True)
class ClientProgram:
    """An entry of clients.toml.

    Attributes:
        name: The name of the client in docs/http.md.
        program: The source file, relative to tests/clients. Its folder is the language.
        packages: What to install, with versions, in the notation of the language's package manager.
        note: A sentence for docs/http.md.
    """

    name: str
    program: str
    packages: Sequence[str]
    note: str = ""

    @property
    def source(self) -> Path:
        """The source file."""
        return PROGRAMS / self.program

    def statements(self) -> list[str]:
        """Return the statements between `docs: begin` and `docs: end`, each on one line."""
        _, begin, rest = self.source.read_text(encoding="utf-8").partition("docs: begin\n")
        lines, end, _ = rest.partition("docs: end\n")
        if not (begin and end):
            raise ValueError(f"{self.program} has no lines `docs: begin` and `docs: end`.")
        statements: list[str] = []
        for line in textwrap.dedent(lines.rsplit("\n", 1)[0].expandtabs(4)).splitlines():
            text = line.strip()
            if statements and (line.startswith(" ") or text[0] in ")]}"):
                statements[-1] = _join(statements[-1], text)
            else:
                statements.append(text)
        return statements

    def vectors(self, url: str, texts: Sequence[str]) -> dict[str, list[list[float]]]:
        """Run the program; returns its vectors for each task.

        Raises:
            NotInstalled: The client is not there, and could not be installed.
            subprocess.CalledProcessError: The program failed.
        """
        command = [*_command(self), url, *texts]
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}  # java decodes its arguments by the locale
        ran = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=300)
        found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
        return {task: _vectors(answer) for task, answer in found.items()}


def client_programs() -> Iterator[ClientProgram]:
    """Yield the entries of clients.toml."""
    for entry in tomllib.loads((PROGRAMS / "clients.toml").read_text(encoding="utf-8"))["client"]:
        yield ClientProgram(**entry)


def _join(line: str, text: str) -> str:
    """Join two lines of a statement as if it had been written on one."""
    if text[0] in ")]}":
        return line.removesuffix(",") + text
    return line + text if line[-1] in "([{" or text[0] == "." else f"{line} {text}"


def _vectors(answer: Any) -> list[list[float]]:
    """Take the vectors out of a response, if it is one."""
    return [item["embedding"] for item in answer["data"]] if isinstance(answer, dict) else answer


def _command(client: ClientProgram) -> list[str]:
    """Return the command that runs the program, after installing what is missing."""
    language = client.source.parent.name
    directory = _environment(client, language)
    match language:
        case "python":
            return [str(directory / "bin" / "python"), str(client.source)]
        case "js":  # imports are resolved from the folder of the source
            return ["node", str(shutil.copy(client.source, directory))]
        case "go":
            shutil.copy(client.source, directory)
            _run(["go", "build", "-mod=mod", "-o", "client", client.source.name], directory)
            return [str(directory / "client")]
        case "java":
            return ["java", "-cp", f"{directory}/lib/*", str(client.source)]
    raise ValueError(f"No language {language!r}: use python, js, go or java.")


def _environment(client: ClientProgram, language: str) -> Path:
    """Return the folder with the packages of a client. The first call installs them."""
    directory = assets() / "clients" / f"{language}-{client.source.stem}"
    wanted, mark = " ".join(client.packages), directory / "complete"
    if not mark.exists() or mark.read_text() != wanted:
        print(f"installing {wanted or client.name} into {directory}", flush=True)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        for command in _install(language, client.packages, directory):
            _run(command, directory)
        mark.write_text(wanted)
    return directory


def _install(language: str, packages: Sequence[str], directory: Path) -> Iterator[list[str]]:
    """Yield the commands that install packages into a folder."""
    match language:
        case "python":  # uv takes seconds where pip takes minutes
            uv = str(Path(sys.executable).with_name("uv"))
            yield [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, "."]
            yield [uv, "pip", "install", "--quiet", "--python", "bin/python", *packages]
        case "js":
            yield ["npm", "install", "--silent", "--no-audit", "--no-fund", *packages]
        case "go":
            yield ["go", "mod", "init", "client"]
            yield ["go", "get", *packages]
        case "java" if packages:
            dependency = (
                "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
            )
            dependencies = "".join(dependency.format(*package.split(":")) for package in packages)
            (directory / "pom.xml").write_text(POM.format(dependencies))
            yield ["mvn", "--quiet", "--batch-mode", "dependency:copy-dependencies", "-DoutputDirectory=lib"]


def _run(command: Sequence[str], directory: Path) -> None:
    try:
        subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True, timeout=1800)
    except FileNotFoundError as error:
        raise NotInstalled(f"{command[0]} is not on this machine.") from error
    except subprocess.CalledProcessError as error:
        raise NotInstalled(f"`{' '.join(command)}` failed: {(error.stderr or error.stdout).strip()}") from error
