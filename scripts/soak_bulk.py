"""Kill bulk jobs and fill their disk, continue them, and compare their outputs with those of undisturbed jobs.

    python scripts/soak_bulk.py [--kills 200] [--full-disks 20] [--seed 1] [--rows 2000]

A kill is SIGKILL, sent by the job to itself: after a random number of bytes of part files and outputs, in the middle of
a write; or at a random point between two steps of a commit, such as after the fsync of a file and before its rename, or
before the transaction of the manifest. One of three killed jobs is killed a second time. A full disk is a small tmpfs,
which is enlarged before the job continues; this needs the right to mount one.

Half of the jobs append to an output of other rows, so that each row has to be there once.

An output has to have the same bytes as that of an undisturbed job. Ids and vectors are compared, too, so that a
difference says what is wrong.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

MODEL = Path(__file__).parents[1] / "tests" / "data" / "goldens" / "static"
FORMATS = (".parquet", ".arrow", ".npy", ".jsonl")
POLICY = {"id": "id", "on_error": "null", "too_long": "truncate"}
PART_ROWS = 150
"""Rows of a part, so that a small job has many."""

KILLED, FULL = -signal.SIGKILL, 75
"""Exit codes of a job that killed itself, and of one whose disk is full."""


def write_corpus(path: Path, rows: int, seed: int) -> None:
    """Write a Parquet file: half of the texts are duplicates, some are null, and some are above the limit."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    choice = random.Random(seed)
    texts: list[str | None] = []
    for row in range(rows):
        kind = choice.random()
        if kind < 0.05:
            texts.append(None)
        elif kind < 0.06:
            texts.append("graphene " * 600)
        else:
            texts.append(
                choice.choice([text for text in texts[-400:] if text] or ["a"]) if kind > 0.5 else f"row {row}"
            )
    table = pa.table({"id": [f"r{row}" for row in range(rows)], "text": texts})
    pq.write_table(table, path, row_group_size=500)


class Killer:
    """Kills this process after some bytes or steps; without a limit it counts them.

    Args:
        limit: Bytes to write, or None.
        steps: Steps of commits to do, or None.
    """

    def __init__(self, limit: int | None, steps: int | None) -> None:
        self.limit, self.max_steps = limit, steps
        self.written = self.steps = 0

    def wrote(self, data: memoryview, file: IO[bytes]) -> int:
        """Write bytes, and kill the process in the middle of them once the limit is reached."""
        if self.limit is not None and self.written + len(data) > self.limit:
            file.write(data[: self.limit - self.written])
            file.flush()
            self.kill()
        self.written += len(data)
        return file.write(data)

    def step(self) -> None:
        """Count a step, and kill the process at the last one."""
        self.steps += 1
        if self.max_steps is not None and self.steps > self.max_steps:
            self.kill()

    @staticmethod
    def kill() -> None:
        """End the process at once."""
        os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Let the writers of bulk jobs call this object."""
        from embergem.bulk import durable_files, manifest

        killer = self

        class Counted:
            def __init__(self, file: IO[bytes]) -> None:
                self._file = file

            def write(self, data: memoryview) -> int:
                return killer.wrote(data, self._file)

            def __getattr__(self, name: str) -> Any:
                return getattr(self._file, name)

            def __enter__(self) -> "Counted":
                return self

            def __exit__(self, *error: object) -> None:
                self._file.close()

        open_new, replace, flush = durable_files.open_new, os.replace, durable_files.flush_directory
        commit = manifest.Manifest.commit

        def replaced(source: Path, target: Path) -> None:
            killer.step()  # after the fsync of the file
            replace(source, target)
            killer.step()  # before the fsync of its directory

        def flushed(directory: Path) -> None:
            flush(directory)
            killer.step()

        def committed(self: manifest.Manifest, *given: Any) -> None:
            commit(self, *given)
            killer.step()

        durable_files.open_new = lambda path: Counted(open_new(path))  # type: ignore[assignment,return-value]
        os.replace = replaced  # type: ignore[assignment]
        durable_files.flush_directory = flushed
        manifest.Manifest.commit = committed  # type: ignore[method-assign,assignment]


def run_job(source: str, output: str, limit: int | None, steps: int | None, append: bool) -> int:
    """Run one job in this process and print the bytes and steps that it took."""
    from embergem.bulk import embed_table, parts
    from embergem.errors import JobError

    parts.PART_ROWS = PART_ROWS
    killer = Killer(limit, steps)
    killer.install()
    try:
        embed_table(source, output, str(MODEL), append=append, **POLICY)  # type: ignore[arg-type]
    except JobError as error:
        print(error, file=sys.stderr)
        return FULL if "is full" in str(error) else 1
    print(json.dumps([killer.written, killer.steps]))
    return 0


def start(
    source: Path, output: Path, *, limit: int | None = None, steps: int | None = None, append: bool = False
) -> tuple[int, str]:
    """Run a job in a process of its own; return its exit code and what it printed.

    The process is forked, because importing the libraries takes longer than the job. No model is loaded in the parent.
    """
    with tempfile.TemporaryFile() as printed:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for descriptor in (1, 2):
                    os.dup2(printed.fileno(), descriptor)
                code = run_job(str(source), str(output), limit, steps, append)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        printed.seek(0)
        return os.waitstatus_to_exitcode(status), printed.read().decode()


def files_of(output: Path) -> dict[str, str]:
    """Return the hash of each file of an output, by the end of its name."""
    found = {path for path in output.parent.iterdir() if path.name.startswith(output.name)}
    return {
        path.name.removeprefix(output.name): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "directory"
        for path in sorted(found)
    }


def rows_of(output: Path) -> Counter[tuple[str, bytes]]:
    """Return the multiset of (id, vector) of an output."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    if output.suffix == ".npy":
        ids = [json.loads(line) for line in Path(f"{output}.ids.jsonl").read_text().splitlines()]
        return Counter(zip(ids, [vector.tobytes() for vector in np.load(output)], strict=True))
    if output.suffix == ".jsonl":
        lines = [json.loads(line) for line in output.read_text().splitlines()]
        return Counter((line["id"], json.dumps(line["embedding"]).encode()) for line in lines)
    table = pq.read_table(output) if output.suffix == ".parquet" else pa.ipc.open_file(output).read_all()
    vectors = [json.dumps(vector).encode() for vector in table["embedding"].to_pylist()]
    return Counter(zip(table["id"].to_pylist(), vectors, strict=True))


class Reference:
    """The output of an undisturbed job, and the bytes and steps that it took.

    Args:
        source: The rows.
        directory: Where the outputs are.
        suffix: The format.
        present: Rows of an output to append to; None if there is none.
    """

    def __init__(self, source: Path, directory: Path, suffix: str, present: Path | None) -> None:
        self.source, self.suffix, self.append = source, suffix, present is not None
        self.output = directory / f"{'appended' if self.append else 'reference'}{suffix}"
        self.present: dict[str, bytes] = {}
        if present is not None:
            self._run(present)
            paths = self.output.parent.glob(f"{self.output.name}*")
            self.present = {path.name.removeprefix(self.output.name): path.read_bytes() for path in paths}
        self.written, self.steps = json.loads(self._run(source))
        self.files = files_of(self.output)

    def _run(self, source: Path) -> str:
        code, printed = start(source, self.output, append=self.append)
        if code:
            raise SystemExit(f"The undisturbed job failed: {printed}")
        return printed

    def begin(self, directory: Path) -> Path:
        """Write the output to append to, if there is one, and return the path of the output."""
        output = directory / f"out{self.suffix}"
        for end, data in self.present.items():
            output.with_name(f"{output.name}{end}").write_bytes(data)
        return output

    def start(self, output: Path, **limits: int) -> tuple[int, str]:
        """Run the job of the reference for another output; see `start`."""
        return start(self.source, output, append=self.append, **limits)

    def fault(self, output: Path) -> str | None:
        """Return what is wrong with an output; None if it is that of the undisturbed job."""
        if files_of(output) == self.files:
            return None
        if not output.exists():
            return "there is no output"
        missing, more = self.rows() - rows_of(output), rows_of(output) - self.rows()
        if missing or more:
            return f"{missing.total()} rows are missing and {more.total()} are too many"
        return f"the rows are right and the bytes are not: {files_of(output)} and not {self.files}"

    def rows(self) -> Counter[tuple[str, bytes]]:
        """Return the multiset of its rows."""
        return rows_of(self.output)


def killed(reference: Reference, directory: Path, choice: random.Random) -> str | None:
    """Kill a job once or twice, continue it, and return what is wrong."""
    output = reference.begin(directory)
    for _ in range(2 if choice.random() < 0.33 else 1):
        if choice.random() < 0.6:
            code, printed = reference.start(output, limit=choice.randrange(reference.written))
        else:
            code, printed = reference.start(output, steps=choice.randrange(reference.steps))
        if code not in (0, KILLED):  # a job that is nearly done may end before the second kill
            return f"the killed job ended with {code}: {printed}"
    code, printed = reference.start(output)
    return reference.fault(output) if code == 0 else f"the continued job ended with {code}: {printed}"


@contextmanager
def small_disk(directory: Path, size: int) -> Iterator[Path]:
    """Mount a tmpfs of `size` bytes."""
    mounted = directory / "disk"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(mounted)], check=True)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def filled(reference: Reference, directory: Path, choice: random.Random) -> str | None:
    """Let a job fill its disk, enlarge the disk, continue the job, and return what is wrong."""
    present = sum(map(len, reference.present.values()))
    needed = 2 * (present + reference.written) + 2**21
    with small_disk(directory, present + choice.randrange(2**16, reference.written)) as disk:
        output = reference.begin(disk)
        code, printed = reference.start(output)
        if code != FULL or len(printed.splitlines()) != 1:
            return f"the job on the full disk ended with {code}: {printed}"
        subprocess.run(["mount", "-o", f"remount,size={needed}", str(disk)], check=True)
        code, printed = reference.start(output)
        return reference.fault(output) if code == 0 else f"the continued job ended with {code}: {printed}"


def import_libraries() -> None:
    """Import what a job needs, so that its process has it already."""
    import embergem.bulk.arrow_writers
    import embergem.bulk.table
    import embergem.loader  # noqa: F401


def soak(kills: int, full_disks: int, seed: int, rows: int) -> list[str]:
    """Disturb jobs and return the faults."""
    faults: list[str] = []
    choice = random.Random(seed)
    import_libraries()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a kill loses nothing there, and fsync is fast
    with tempfile.TemporaryDirectory(prefix="soak-bulk-", dir=memory) as scratch:
        directory = Path(scratch)
        source = directory / "corpus.parquet"
        write_corpus(source, rows, seed)
        other = directory / "other.parquet"
        write_corpus(other, rows // 4, seed + 1)
        kinds = [(suffix, present) for present in (None, other) for suffix in FORMATS][: max(1, kills)]
        references = [Reference(source, directory, suffix, present) for suffix, present in kinds]
        for number in range(kills + full_disks):
            reference = references[number % len(references)]
            disturb = killed if number < kills else filled
            with tempfile.TemporaryDirectory(dir=directory) as own:
                fault = disturb(reference, Path(own), choice)
            if fault is not None:
                kind = f"{reference.suffix}{', appended' if reference.append else ''}"
                faults.append(f"{disturb.__name__} {number}, {kind}: {fault}")
                print(faults[-1], flush=True)
            elif (number + 1) % 20 == 0:
                print(f"{number + 1} jobs disturbed, {len(faults)} faults", flush=True)
    return faults


def main() -> int:
    """Run the soak; the exit code is 1 if there was a fault."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--full-disks", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, default=2000)
    given = parser.parse_args()
    faults = soak(given.kills, given.full_disks, given.seed, given.rows)
    print(f"{given.kills} kills, {given.full_disks} full disks, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
