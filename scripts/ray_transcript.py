"""Embed a generated Parquet file on a Ray cluster, kill a node with a running actor, and verify the output.

    python scripts/ray_transcript.py DIRECTORY [--rows 200000] [--model MODEL] [--seed 1]

The file is that of `bulk_transcript.py`: half of the rows are duplicates, some are null, and some are too long. The
cluster is two node processes of this machine. When a third of the rows is embedded, all processes of the second node
are killed, an actor among them. The output has to have the bytes of a run without Ray and without a kill. It needs the
environment of `make test-ray`.
"""

import json
import shlex
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from bulk_transcript import POLICY, make_corpus, read_arguments, run, same_outputs
from ray_nodes import TwoNodes, use_token  # type: ignore[import-not-found]


def embed_and_kill(nodes: TwoNodes, command: list[str], kill_at: int) -> int:
    """Run the command on the cluster, and kill the second node once `kill_at` rows are embedded."""
    print(f"$ {shlex.join(['embergem', *command, '--ray', nodes.address])}", flush=True)
    start, last, killed = time.monotonic(), "", False
    process = nodes.embed(*command[1:], "--json-progress")
    for line in process.stderr:
        last = line.decode().strip()
        event = json.loads(last) if last.startswith("{") else {}
        if not killed and event.get("event") == "progress" and event["source_rows"] >= kill_at:
            actors = [title for title in nodes.titles("second") if "MapWorker" in title]
            nodes.kill("second")
            killed = True
            print(f"# at {event['source_rows']:,} rows the second node was killed, which ran: {', '.join(actors)}")
    process.wait()
    print(f"{last}\n# exit code {process.returncode} after {time.monotonic() - start:.0f} s", flush=True)
    return process.returncode if killed else 1


def main() -> int:
    """Run the transcript; the exit code is 1 if the output is wrong."""
    given = read_arguments()
    whole, killed = given.directory / "whole.parquet", given.directory / "ray.parquet"
    corpus = make_corpus(given)
    command = ["embed", str(corpus), *POLICY, "-m", given.model, "-o"]
    with tempfile.TemporaryDirectory(prefix="ray-transcript-") as home:
        use_token(home)
        nodes = TwoNodes(Path(home), home)
        try:
            nodes.add_second()
            code = embed_and_kill(nodes, [*command, str(killed)], given.rows // 3)
        finally:
            for name in list(nodes.nodes):
                nodes.kill(name)
    if code != 0 or run([*command, str(whole)]) != 0:
        return 1
    return 0 if same_outputs(whole, killed, "on Ray with a node killed", given.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
