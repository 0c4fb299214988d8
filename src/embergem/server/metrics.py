"""Counters of the server, and the page that Prometheus reads.

Counting is a few additions to dicts, on the event loop's thread only. The page is written by prometheus-client, which
is asked for only when somebody asks for the page.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from embergem.errors import EmbergemError
from embergem.registry import Registry
from embergem.server.model_metrics import families

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from embergem.server.call import Notes

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Upper bounds, in seconds, of the histogram of response times."""


class MetricsMissing(EmbergemError):
    """The library that writes the page is not installed."""

    status = 501
    code = "metrics_not_installed"


class Metrics:
    """What the server counts by itself; what engines count is asked of them when the page is made."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._requests: dict[tuple[str, ...], int] = defaultdict(int)
        self._seconds: dict[str, list[float]] = defaultdict(lambda: [0.0] * (len(BUCKETS) + 2))
        self._tokens: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])

    def answered(self, method: str, notes: "Notes", status: int, seconds: float) -> None:
        """Count one answer."""
        path = notes.path or "other"
        self._requests[method, path, notes.model, str(status), notes.code] += 1
        histogram = self._seconds[path]
        histogram[bisect_left(BUCKETS, seconds)] += 1
        histogram[-1] += seconds
        if notes.inputs and status < 400:
            counts = self._tokens[notes.model, notes.key]
            for place, count in enumerate((notes.inputs, notes.tokens, notes.truncated)):
                counts[place] += count

    def refused(self, status: int, code: str) -> None:
        """Count what was refused before it was a request: late, one too many, with too long a head, or no HTTP."""
        self._requests["", "", "", str(status), code] += 1

    def page(self, registry: Registry) -> tuple[bytes, str]:
        """Return the page in the text format and its media type.

        Raises:
            MetricsMissing: prometheus-client is not installed.
        """
        try:
            from prometheus_client import CollectorRegistry, ProcessCollector, exposition
        except ImportError:
            raise MetricsMissing("metrics need prometheus-client: pip install 'embergem[server]'") from None
        collected = CollectorRegistry(auto_describe=False)
        collected.register(_Collector(self, registry))
        ProcessCollector(registry=collected)
        return exposition.generate_latest(collected), exposition.CONTENT_TYPE_LATEST

    def families(self) -> "Iterator[Metric]":
        """What the server itself counted."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        yield GaugeMetricFamily("embergem_http_in_flight", "Requests that are being answered.", self.in_flight)
        requests = CounterMetricFamily(
            "embergem_http_requests", "Answers.", labels=["method", "path", "model", "status", "code"]
        )
        for what, times in self._requests.items():
            requests.add_metric(what, times)
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
        texts = ("Inputs embedded.", "Tokens read.", "Inputs that were cut to the model's limit.")
        for place, (name, text) in enumerate(zip(names, texts, strict=True)):
            family = CounterMetricFamily(f"embergem_{name}", text, labels=["model", "key"])
            for who, counts in self._tokens.items():
                family.add_metric(who, counts[place])
            yield family


class _Collector:
    def __init__(self, metrics: Metrics, registry: Registry) -> None:
        self._metrics = metrics
        self._registry = registry

    def collect(self) -> "Iterator[Metric]":
        yield from self._metrics.families()
        yield from families(self._registry)
