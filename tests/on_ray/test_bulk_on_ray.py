"""`embergem embed --ray` on two node processes: the bytes of a run on one machine, also if a node is killed."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from embergem.bulk import embed_table

WORDS = ["graphene", "carbon", "lattice", "apple", "pear", "bridge", "steel", "ocean", "wave", "storm", "rain", "ice"]


def corpus(path, count):
    """Write `count` rows; every second one is a duplicate of the row before."""
    words = np.random.default_rng(7).choice(WORDS, (count // 2, 8))
    with path.open("w") as file:
        for number in range(count):
            text = f"{number // 2} " + " ".join(words[number // 2])
            file.write(json.dumps({"id": number, "text": text}) + "\n")
    return path


def test_the_output_is_that_of_one_machine(nodes, tiny, tmp_path):
    nodes.add_second()
    source = corpus(tmp_path / "corpus.jsonl", 3000)
    summary = embed_table(source, tmp_path / "here.parquet", tiny, id="id", task="document")
    running = nodes.embed("-m", tiny, source, "-o", tmp_path / "there.parquet", "--id", "id", "--task", "document")
    _, said = running.communicate(timeout=500)
    assert running.returncode == 0, said.decode()
    assert (tmp_path / "there.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()
    assert summary.counts.computed == 1500
    assert not list(Path(nodes.environment["HOME"]).rglob(".ray/*token*")), "Ray wrote a token into the home directory"


def test_a_node_that_is_killed_loses_nothing(nodes, tiny, tmp_path):
    """The second node runs an actor when it is killed; its blocks are computed again on the other node."""
    nodes.add_second()
    source = corpus(tmp_path / "corpus.jsonl", 16_000)
    embed_table(source, tmp_path / "here.parquet", tiny, id="id")
    running = nodes.embed("-m", tiny, source, "-o", tmp_path / "there.parquet", "--id", "id", "--json-progress")
    for line in running.stderr:
        if line.startswith(b"{") and json.loads(line)["source_rows"] > 0:
            break
    assert running.poll() is None, "the job ended before the node was killed"
    assert any("MapWorker" in title for title in nodes.titles("second")), nodes.titles("second")
    nodes.kill("second")
    _, said = running.communicate(timeout=500)
    assert running.returncode == 0, said.decode()
    assert (tmp_path / "there.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()
    assert pq.read_table(tmp_path / "there.parquet")["id"].to_pylist() == list(range(16_000))
