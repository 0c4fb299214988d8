"""`DistributedModel`: a model on all nodes of a Ray cluster, as the backend of a bulk job.

The job itself is that of one machine: the driver reads, tokenizes, finds equal rows and commits parts to the manifest.
Only rows that have to be computed travel, as items of a Ray Data pipeline: `Feed` makes a block of each item, a pool of
`Worker` actors embeds the blocks, and a thread of the driver takes the results. Ray Data bounds the blocks in flight,
starts lost actors again and repeats their blocks; the manifest has each row once, because a result that comes twice is
dropped.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from embergem.engine.engine import Engine
from embergem.errors import EmbergemError, EngineClosed, JobError, UnsupportedOption
from embergem.loader import load
from embergem.open_backend import is_address
from embergem.options import LoadOptions
from embergem.ray.cluster import AUTO, Cluster, on_node, require_same_nodes, this_node
from embergem.ray.shipment import Shipment
from embergem.types import Request, Result, Row

CPUS = 0.01
"""CPUs that Ray reserves for an actor. An engine uses all cores of its node; Ray could not start the actor of a lost
node on another one that has no CPU left."""

ITEMS_PER_WORKER = 3
"""Items in flight for each actor: one that it computes, one that waits there, and one on the way."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """An item in flight: its rows, and the future of their vectors."""

    rows: Sequence[Row]
    future: "Future[Result]"


class DistributedModel:
    """A model that this process and every node of a Ray cluster have loaded.

    Args:
        options: Which model, and how to load it.
        address: The cluster: "auto", "local", or HOST:PORT; see `embergem.ray.cluster.Cluster`.
        workers: Number of actors, each with an engine; None is one a node.

    Raises:
        JobError: The nodes would not give the same vectors.
        UnknownModel, LoadError, InsufficientMemory: The model cannot be loaded here.
        UnsupportedOption: Ray is missing, no cluster answers, or the model is at a server.
    """

    def __init__(self, options: LoadOptions, address: str = AUTO, workers: int | None = None) -> None:
        if is_address(options.model):
            raise UnsupportedOption(
                f"--ray loads the model on the nodes, and {options.model} is a server. Give the name of the model.",
                param="ray",
            )
        if workers is not None and workers < 1:
            raise UnsupportedOption(f"--ray-workers {workers} is not possible. Give 1 or more.", param="ray_workers")
        self._cluster = Cluster(address)
        try:
            self._engine: Engine = load(options)
            self._engine.require_ready()
            shipment = Shipment.pack(options, self._engine)
            self.workers = workers or require_same_nodes(shipment)
            if workers is not None:
                require_same_nodes(shipment)
            self.blocks_ahead = ITEMS_PER_WORKER * self.workers + 1
            self._pipeline = _Pipeline(shipment, self.workers)
        except BaseException:
            self._cluster.close()
            raise
        self.id, self.dtype, self.dimensions = self._engine.id, self._engine.dtype, self._engine.dimensions
        self.allowed_dimensions, self.limit = self._engine.allowed_dimensions, self._engine.limit
        self.tasks, self.fingerprint = self._engine.tasks, self._engine.fingerprint
        self.instruction_set = self._engine.instruction_set
        self.prompt = self._engine.prompt
        self.prepare, self.prepare_packed = self._engine.prepare, self._engine.prepare_packed
        self.lengths = self._engine.lengths

    def submit(self, request: Request) -> "Future[Result]":
        """Tokenize a request here, and embed it on a node."""
        return self.submit_rows(request, self._engine.prepare(request))

    def submit_rows(self, request: Request, rows: Sequence[Row]) -> "Future[Result]":
        """Embed rows that `prepare` returned on a node."""
        return self._pipeline.submit(rows, request.dimensions)

    def close(self) -> None:
        """End the pipeline and leave the cluster."""
        self._pipeline.close()
        self._cluster.close()
        self._engine.close()


class _Pipeline:
    """The Ray Data pipeline, and the thread that takes its results."""

    def __init__(self, shipment: Shipment, workers: int) -> None:
        import ray
        from ray.data import ActorPoolStrategy

        from embergem.ray.feed import Feed, FeedActor
        from embergem.ray.worker import Worker

        self._lock = threading.Lock()
        self._pending: dict[int, _Pending] = {}
        self._next = 0
        self._failure: EmbergemError | None = None
        here = on_node(this_node())
        self._actor = ray.remote(num_cpus=0, scheduling_strategy=here)(FeedActor).remote()
        logging.getLogger("ray.data").setLevel(logging.WARNING)  # else Ray Data prints its plan on stderr
        with _context(
            target_max_block_size=1,  # Ray Data joins blocks up to this size; each item has to leave at once
            enable_progress_bars=False,
            execution_no_progress_timeout_s=-1,  # the driver may read for long without a row to compute
        ):
            fed = ray.data.read_datasource(
                Feed(self._actor), override_num_blocks=1, num_cpus=0, scheduling_strategy=here
            )
            self._results = fed.map_batches(
                Worker,
                fn_constructor_args=(shipment,),
                batch_size=None,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(size=workers),
                num_cpus=CPUS,
            )
        self._thread = threading.Thread(target=self._take_results, name="embergem ray results", daemon=True)
        self._thread.start()

    def submit(self, rows: Sequence[Row], dimensions: int | None) -> "Future[Result]":
        from embergem.ray.worker import encode_rows

        future: Future[Result] = Future()
        with self._lock:
            if self._failure is not None:
                raise self._failure
            number, self._next = self._next, self._next + 1
            self._pending[number] = _Pending(rows, future)
        future.set_running_or_notify_cancel()
        self._actor.put.remote(number, encode_rows(rows, dimensions))
        return future

    def close(self) -> None:
        self._fail(EngineClosed("The job on the Ray cluster was closed."))
        self._actor.close.remote(self._next)
        self._thread.join(timeout=60)

    def _take_results(self) -> None:
        try:
            for table in self._results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for row in table.to_pylist():
                    self._resolve(**row)
            self._fail(EngineClosed("The Ray pipeline has ended."))
        except Exception as error:  # any failure of the pipeline ends the job
            self._fail(_as_job_error(error))

    def _resolve(self, number: int, vectors: bytes | None, error: str | None) -> None:
        from embergem.ray.worker import decode_error, decode_vectors

        with self._lock:
            item = self._pending.pop(number, None)
        if item is None:  # it came before: Ray has repeated the block of a lost node
            return
        self._actor.done.remote(number)
        if error is not None or vectors is None:
            item.future.set_exception(decode_error(error or "{}"))
        else:
            item.future.set_result(Result(decode_vectors(vectors, len(item.rows)), item.rows))

    def _fail(self, error: EmbergemError) -> None:
        with self._lock:
            self._failure = self._failure or error
            left, self._pending = list(self._pending.values()), {}
        for item in left:
            item.future.set_exception(error)


@contextmanager
def _context(**settings: Any) -> Iterator[None]:
    """Change settings of Ray Data's context; a dataset that is made meanwhile keeps them."""
    from ray.data import DataContext

    context = DataContext.get_current()
    before = {name: getattr(context, name) for name in settings}
    for name, value in settings.items():
        setattr(context, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)


def _as_job_error(error: Exception) -> JobError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return JobError(
        f"The Ray pipeline failed: {lines[-1] if lines else type(error).__name__} The finished parts are kept: run the "
        "same command again to continue."
    )
