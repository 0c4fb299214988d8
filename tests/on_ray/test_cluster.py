"""Nodes are compared before a job begins, `Embed` in a pipeline of Ray Data, and errors."""

import msgspec
import numpy as np
import pytest

from embergem import Embedder
from embergem.errors import InputTooLong, JobError, UnsupportedOption
from embergem.loader import load
from embergem.options import LoadOptions
from embergem.ray import Embed
from embergem.ray.cluster import Cluster, require_same_nodes
from embergem.ray.distributed import DistributedModel
from embergem.ray.shipment import Identity, Shipment
from embergem.ray.worker import Worker, decode_error, decode_rows, encode_rows, split_rows
from embergem.types import Request

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
"""Ray and its libraries warn."""


@pytest.fixture
def cluster(nodes):
    nodes.add_second()
    connected = Cluster(nodes.address)
    yield connected
    connected.close()


def test_nodes_that_would_give_other_vectors_are_named_before_the_job(cluster, tiny):
    from ray._common.usage.usage_lib import usage_stats_enabled

    assert not usage_stats_enabled()
    options = LoadOptions(model=str(tiny))
    with load(options) as engine:
        shipment = Shipment.pack(options, engine)
        assert require_same_nodes(shipment) == 2
        for field in ("fingerprint", "instruction_set"):
            changed = msgspec.structs.replace(shipment.expected, **{field: "another"})
            other = Shipment(shipment.files, shipment.digest, shipment.options, changed)
            with pytest.raises(JobError, match=f"2 of 2 nodes .* node [\\d.]+ .*{field} is .*, and here it is another"):
                require_same_nodes(other)
            with pytest.raises(JobError, match=f"would give other vectors: {field} is"):
                Worker(other)  # a node that joins later
        broken = Shipment([], "no-such-model", shipment.options, shipment.expected)
        with pytest.raises(JobError, match="cannot load the model"):
            require_same_nodes(broken)


def test_embed_in_a_pipeline_of_ray_data(cluster, tiny):
    import ray

    texts = [f"text number {number}" for number in range(40)]
    found = (
        ray.data.from_items([{"text": text} for text in texts])
        .map_batches(
            Embed,
            fn_constructor_kwargs={"model": str(tiny), "task": "document"},
            compute=ray.data.ActorPoolStrategy(size=2),
            num_cpus=0.5,
        )
        .take_all()
    )
    with Embedder(tiny) as embedder:
        expected = dict(zip(texts, embedder.embed(texts, task="document"), strict=True))
    assert len(found) == 40
    assert all(np.array_equal(row["embedding"], expected[row["text"]]) for row in found)


def test_embed_checks_its_columns_and_its_output(tiny):
    embed = Embed(str(tiny), column="body", into="vector", output="binary")
    batch = {"body": np.array(["a", "b"], dtype=object), "id": np.arange(2)}
    assert embed(batch)["vector"].shape == (2, 12)
    assert embed(batch)["id"] is batch["id"]
    with pytest.raises(UnsupportedOption, match=r"no column 'body'\. Did you mean 'bod'"):
        embed({"bod": ["a"]})
    with pytest.raises(UnsupportedOption, match="output='list' is not a column"):
        Embed(str(tiny), output="list")


def test_rows_and_errors_survive_their_way(embedder):
    rows = embedder._backend.prepare(Request(texts=["graphene", "", "a b c"]))
    message = decode_rows(encode_rows(rows, 96))
    assert message.dimensions == 96
    assert all(np.array_equal(a.ids, b.ids) for a, b in zip(split_rows(message), rows, strict=True))
    error = decode_error('{"kind": "InputTooLong", "message": "too long"}')
    assert isinstance(error, InputTooLong)
    assert error.message == "too long"


def test_identities_name_their_first_difference():
    identity = Identity("f", "float32", "avx2", "0.1.0", "b")
    assert identity.difference(identity) is None
    assert (
        identity.difference(msgspec.structs.replace(identity, dtype="int8")) == "dtype is int8, and here it is float32"
    )


@pytest.mark.parametrize(
    ("options", "arguments", "words"),
    [
        ({"model": "http://127.0.0.1:1"}, {}, "--ray loads the model on the nodes, and http://127.0.0.1:1 is a server"),
        ({}, {"workers": 0}, "--ray-workers 0 is not possible"),
    ],
)
def test_options_that_do_not_apply_are_refused(options, arguments, words):
    with pytest.raises(UnsupportedOption, match=words):
        DistributedModel(LoadOptions(**options), **arguments)


def test_a_cluster_that_does_not_answer_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UnsupportedOption, match=r"--ray nonsense is no address. Give auto, local, or HOST:PORT"):
        Cluster("nonsense")
    with pytest.raises(UnsupportedOption, match=r"--ray 127.0.0.1:1: nothing answers there: .*--ray local"):
        Cluster("127.0.0.1:1")
