"""Prometheus metrics: the server's own counters, and the counters of each model's engine.

The server counts in plain dicts on the event loop's thread. prometheus-client is imported only to write the page.

The values of each label come from a set that the server's operator or this program determines, never from a client:
each new value costs memory until the server stops.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from http import HTTPMethod, HTTPStatus
from typing import TYPE_CHECKING

from embergem.engine.stats import Stats
from embergem.errors import EmbergemError
from embergem.registry import Registry
from embergem.server.batches.batch_records import UNFINISHED
from embergem.types import LANES

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from embergem.server.access_log import AccessRecord
    from embergem.server.batches.batch_service import BatchService
    from embergem.server.text_queue import TextQueue

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Upper bounds of the histogram of response times, in seconds."""

OTHER = "other"
"""Value of the labels `method`, `path` and `status` for all that have no value of their own."""

METHODS = frozenset(method.value for method in HTTPMethod)
STATUSES = frozenset({499, *(status.value for status in HTTPStatus)})
"""Statuses with a value of their own. An upstream server may send others."""

ENGINE_COUNTERS: dict[str, tuple[str, Callable[[Stats], float]]] = {
    "embergem_engine_requests": ("Requests that the engine accepted.", lambda stats: stats.requests),
    "embergem_engine_rows": ("Inputs of these requests.", lambda stats: stats.rows),
    "embergem_engine_tokens": ("Tokens of these requests.", lambda stats: stats.tokens),
    "embergem_engine_truncated": ("Inputs that were truncated.", lambda stats: stats.truncated),
    "embergem_cache_hits": ("Inputs whose vectors were in the cache.", lambda stats: stats.cache_hits),
    "embergem_cache_misses": ("Inputs whose vectors were not in the cache.", lambda stats: stats.cache_misses),
    "embergem_batches": ("Batches computed.", lambda stats: stats.batches),
    "embergem_batch_tokens": ("Tokens of these batches.", lambda stats: stats.computed_tokens),
}
ENGINE_GAUGES: dict[str, tuple[str, Callable[[Stats], float]]] = {
    "embergem_batch_fill": (
        "Mean tokens of a batch since the load, as a share of the largest batch.",
        lambda stats: stats.computed_tokens / max(1, stats.batches * stats.max_batch_tokens),
    ),
    "embergem_max_batch_tokens": ("Most tokens of a batch.", lambda stats: stats.max_batch_tokens),
    "embergem_cache_bytes": ("Memory of the vector cache, which all models share.", lambda stats: stats.cache_bytes),
}
LANE_COUNTERS = {
    "embergem_compute_seconds": ("Time that batches took.", "compute_seconds"),
    "embergem_queue_seconds": ("Time that inputs spent in the queue.", "queue_seconds"),
    "embergem_queue_rows": ("Inputs that left the queue.", "queue_rows"),
}
LANE_GAUGES = {
    "embergem_queue_tokens": ("Tokens in the queue.", "queue_tokens"),
    "embergem_tokens_per_second": ("Rate at which the lane computes tokens.", "tokens_per_second"),
}


class MetricsMissing(EmbergemError):
    """prometheus-client is not installed."""

    status = 501
    code = "metrics_not_installed"


class Metrics:
    """The server's own counters. Engines keep their counters themselves; see `engine_metrics`.

    Attributes:
        in_flight: Requests in progress.
        batch_requests: Lines of batches that have an answer, by the result: "completed" or "failed".
        connections: Returns the number of open connections; None in an application that another server serves.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.batch_requests = {"completed": 0, "failed": 0}
        self.connections: Callable[[], int] | None = None
        self._requests: dict[tuple[str, ...], int] = defaultdict(int)
        self._seconds: dict[str, list[float]] = defaultdict(lambda: [0.0] * (len(BUCKETS) + 2))
        self._tokens: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])

    def record_response(self, record: "AccessRecord") -> None:
        """Count one response."""
        route = record.route or OTHER
        method = record.method if record.method in METHODS else OTHER
        status = str(record.status) if record.status in STATUSES else OTHER
        self._requests[method, route, record.model, status, record.code] += 1
        histogram = self._seconds[route]
        histogram[bisect_left(BUCKETS, record.seconds)] += 1
        histogram[-1] += record.seconds
        if record.inputs and record.status < 400:
            counts = self._tokens[record.model, record.key]
            counts[0] += record.inputs
            counts[1] += record.tokens
            counts[2] += record.truncated

    def record_line(self, record: "AccessRecord") -> None:
        """Count the inputs of one line of a batch that was answered."""
        counts = self._tokens[record.model, record.key]
        for place, count in enumerate((record.inputs, record.tokens, record.truncated)):
            counts[place] += count

    def record_rejected(self, record: "AccessRecord") -> None:
        """Count a request that the protocol rejected before it was complete."""
        self._requests["", "", "", str(record.status), record.code] += 1

    def response_times(self, path: str) -> list[float]:
        """Return the histogram of the response times of a path: a count for each of `BUCKETS`, one above, the sum."""
        return list(self._seconds.get(path) or [0.0] * (len(BUCKETS) + 2))

    def page(self, registry: Registry, texts: "TextQueue", batches: "BatchService | None" = None) -> tuple[bytes, str]:
        """Return the page in Prometheus' text format, and its media type.

        Raises:
            MetricsMissing: prometheus-client is not installed.
        """
        try:
            from prometheus_client import CollectorRegistry, ProcessCollector, exposition
        except ImportError:
            raise MetricsMissing(
                "/metrics needs prometheus-client. Install it with: pip install 'embergem[server]'"
            ) from None
        collected = CollectorRegistry(auto_describe=False)
        collected.register(_Collector(self, registry, texts, batches))
        ProcessCollector(registry=collected)
        return exposition.generate_latest(collected), exposition.CONTENT_TYPE_LATEST

    def server_metrics(self) -> "Iterator[Metric]":
        """Yield the server's own counters."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        yield GaugeMetricFamily("embergem_http_in_flight", "Requests in progress.", self.in_flight)
        if self.connections is not None:
            yield GaugeMetricFamily("embergem_http_connections", "Open connections.", self.connections())
        requests = CounterMetricFamily(
            "embergem_http_requests", "Responses.", labels=["method", "path", "model", "status", "code"]
        )
        for labels, responses in self._requests.items():
            requests.add_metric(labels, responses)
        yield requests
        seconds = HistogramMetricFamily("embergem_http_request_seconds", "Time to answer.", labels=["path"])
        for path, histogram in self._seconds.items():
            buckets, total = [], 0.0
            for bound, count in zip([*map(str, BUCKETS), "+Inf"], histogram, strict=False):
                total += count
                buckets.append((bound, total))
            seconds.add_metric([path], buckets, histogram[-1])
        yield seconds
        names = ("inputs", "tokens", "truncated_inputs")
        texts = ("Inputs embedded.", "Tokens read.", "Inputs that were truncated to the model's limit.")
        for place, (name, text) in enumerate(zip(names, texts, strict=True)):
            family = CounterMetricFamily(f"embergem_{name}", text, labels=["model", "key"])
            for key_labels, counts in self._tokens.items():
                family.add_metric(key_labels, counts[place])
            yield family


class _Collector:
    def __init__(
        self, metrics: Metrics, registry: Registry, texts: "TextQueue", batches: "BatchService | None"
    ) -> None:
        self._metrics = metrics
        self._registry = registry
        self._texts = texts
        self._batches = batches

    def collect(self) -> "Iterator[Metric]":
        yield from self._metrics.server_metrics()
        yield from engine_metrics(self._registry)
        yield text_queue_metric(self._texts)
        if self._batches is not None:
            yield from batch_metrics(self._metrics, self._batches)


def batch_metrics(metrics: Metrics, batches: "BatchService") -> "Iterator[Metric]":
    """Yield the unfinished batches, their requests that have an answer, and what is stored."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    unfinished = GaugeMetricFamily("embergem_unfinished_batches", "Batches with work left.", labels=["status"])
    states = [record.status for record in list(batches.store.unfinished.values())]
    for status in sorted(UNFINISHED):
        unfinished.add_metric([status], states.count(status))
    yield unfinished
    requests = CounterMetricFamily("embergem_batch_requests", "Requests of batches with an answer.", labels=["result"])
    for result, count in metrics.batch_requests.items():
        requests.add_metric([result], count)
    yield requests
    files, size = batches.store.totals()
    yield GaugeMetricFamily("embergem_stored_files", "Files of /v1/files.", files)
    yield GaugeMetricFamily("embergem_stored_bytes", "Bytes of these files and of unfinished ones.", size)


def text_queue_metric(texts: "TextQueue") -> "Metric":
    """Return the bytes that wait to be tokenized."""
    from prometheus_client.core import GaugeMetricFamily

    waiting = GaugeMetricFamily(
        "embergem_text_queue_bytes", "Bytes of request bodies that wait to be tokenized.", labels=["lane"]
    )
    for lane in LANES:
        waiting.add_metric([lane], texts.queued_bytes(lane))
    return waiting


def engine_metrics(registry: Registry) -> "Iterator[Metric]":
    """Yield the state of each model, and what its engine counted since the model was loaded."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    peeked = {name: registry.peek(name) for name in registry.names()}
    loaded = {name: engine for name, engine in peeked.items() if engine is not None}
    state = GaugeMetricFamily("embergem_model_loaded", "Whether a model is loaded.", labels=["model"])
    for name, engine in peeked.items():
        state.add_metric([name], engine is not None)
    yield state
    weights = GaugeMetricFamily("embergem_model_bytes", "Bytes of a model's weights.", labels=["model", "dtype"])
    for name, engine in loaded.items():
        weights.add_metric([name, engine.dtype], engine.weight_bytes)
    yield weights
    labels = ["model", "dtype", "instruction_set", "fingerprint"]
    info = GaugeMetricFamily("embergem_model_info", "Properties of a loaded model; always 1.", labels=labels)
    for name, engine in loaded.items():
        info.add_metric([name, engine.dtype, engine.instruction_set, engine.fingerprint], 1)
    yield info
    stats = {name: engine.stats() for name, engine in loaded.items()}
    for table, kind in ((ENGINE_COUNTERS, CounterMetricFamily), (ENGINE_GAUGES, GaugeMetricFamily)):
        for metric, (text, read) in table.items():
            family = kind(metric, text, labels=["model"])
            for name, one in stats.items():
                family.add_metric([name], read(one))
            yield family
    for lanes, kind in ((LANE_COUNTERS, CounterMetricFamily), (LANE_GAUGES, GaugeMetricFamily)):
        for metric, (text, field) in lanes.items():
            family = kind(metric, text, labels=["model", "lane"])
            for name, one in stats.items():
                for lane in LANES:
                    family.add_metric([name, lane], getattr(one, field)[lane])
            yield family
    failed = CounterMetricFamily("embergem_engine_errors", "Requests that failed.", labels=["model", "code"])
    for name, one in stats.items():
        for code, count in one.errors.items():
            failed.add_metric([name, code], count)
    yield failed
