"""Embed a generated Parquet file with `embergem embed`, kill the command three times, and verify its output.

    python scripts/bulk_transcript.py DIRECTORY [--rows 200000] [--model MODEL] [--seed 1]

The file has short texts: half of them are duplicates, some are null, and some are above the token limit. The command
runs once without a kill and once with a kill at about 20, 50 and 80 % of the rows. Both outputs must have the same
bytes. Every command is printed with its last lines. A run that was stopped continues when the script is called again.
"""

import argparse
import hashlib
import json
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

POLICY = ["--id", "id", "--on-error", "null", "--too-long", "truncate"]


def write_corpus(path: Path, rows: int, seed: int) -> None:
    """Write the Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    choice = random.Random(seed)
    seen: list[str] = []
    texts: list[str | None] = []
    for row in range(rows):
        kind = choice.random()
        if kind < 0.02:
            texts.append(None)
        elif kind < 0.021:
            texts.append(f"long row {row} " + "graphene " * 400)
        elif kind < 0.52 and seen:
            texts.append(choice.choice(seen))
        else:
            seen.append(f"note {row}")
            texts.append(seen[-1])
    pq.write_table(pa.table({"id": [f"r{row}" for row in range(rows)], "text": texts}), path, row_group_size=20_000)


def run(command: list[str], kill_at: int | None = None) -> int:
    """Run the command and print its last lines; kill it once `kill_at` rows are embedded."""
    print(f"$ {shlex.join(['embergem', *command])}", flush=True)
    start = time.monotonic()
    arguments = [sys.executable, "-m", "embergem", *command, "--json-progress"]
    last = ""
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            last = line.strip()
            event = json.loads(last) if last.startswith("{") else {}
            if kill_at is not None and event.get("source_rows", 0) >= kill_at:
                process.send_signal(signal.SIGKILL)
                break
    print(f"{last}\n# exit code {process.returncode} after {time.monotonic() - start:.0f} s", flush=True)
    return process.returncode


def sha256(path: Path) -> str:
    """Return the hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def same_outputs(whole: Path, killed: Path, how: str, rows: int) -> bool:
    """Compare two outputs by bytes, ids and vectors, and print the result."""
    import pyarrow.parquet as pq

    same = sha256(whole) == sha256(killed)
    print(f"# sha256 {sha256(whole)} without a kill\n# sha256 {sha256(killed)} {how}", flush=True)
    first, second = pq.read_table(whole), pq.read_table(killed)
    once = second["id"].to_pylist() == [f"r{row}" for row in range(rows)]
    vectors = first["embedding"].equals(second["embedding"])
    print(f"# the same bytes: {same}; every id once and in order: {once}; the same vectors: {vectors}", flush=True)
    return same and once and vectors


def read_arguments() -> argparse.Namespace:
    """Read the arguments of a transcript: a directory, which is created, `rows`, `model` and `seed`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    given.directory.mkdir(parents=True, exist_ok=True)
    return given


def make_corpus(given: argparse.Namespace) -> Path:
    """Return the generated file in the directory of a transcript; write it if it is not there."""
    corpus: Path = given.directory / "corpus.parquet"
    if not corpus.exists():
        write_corpus(corpus, given.rows, given.seed)
    return corpus


def main() -> int:
    """Run the transcript; the exit code is 1 if an output is wrong."""
    import pyarrow.parquet as pq

    given = read_arguments()
    whole, killed = given.directory / "whole.parquet", given.directory / "killed.parquet"
    corpus = make_corpus(given)
    texts = pq.read_table(corpus)["text"].to_pylist()
    print(
        f"# {corpus}: {len(texts):,} rows, {len(set(texts) - {None}):,} different texts, {texts.count(None):,} nulls, "
        f"{sum(len(text or '') > 1000 for text in texts):,} long rows",
        flush=True,
    )
    command = ["embed", str(corpus), *POLICY, "-m", given.model, "-o"]
    for share in (0.2, 0.5, 0.8):
        if not killed.exists():
            run([*command, str(killed)], kill_at=int(share * given.rows))
    faults = [path for path in (killed, whole) if run([*command, str(path)]) != 0]
    return 0 if not faults and same_outputs(whole, killed, "with three kills", given.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
