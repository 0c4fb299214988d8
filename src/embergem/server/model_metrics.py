"""What each model's engine counted, for the page that Prometheus reads."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from embergem.engine import Engine
from embergem.engine.stats import Stats
from embergem.registry import Registry
from embergem.types import LANES

if TYPE_CHECKING:
    from prometheus_client.core import Metric

COUNTERS: dict[str, tuple[str, Callable[[Stats], float]]] = {
    "embergem_engine_requests": ("Requests that the engine took.", lambda stats: stats.requests),
    "embergem_engine_rows": ("Inputs of these.", lambda stats: stats.rows),
    "embergem_engine_tokens": ("Tokens of these.", lambda stats: stats.tokens),
    "embergem_engine_truncated": ("Inputs that were cut.", lambda stats: stats.truncated),
    "embergem_cache_hits": ("Rows that were known before.", lambda stats: stats.cache_hits),
    "embergem_cache_misses": ("Rows that were not.", lambda stats: stats.cache_misses),
    "embergem_batches": ("Batches run.", lambda stats: stats.batches),
    "embergem_batch_tokens": ("Tokens in them.", lambda stats: stats.computed_tokens),
}
GAUGES: dict[str, tuple[str, Callable[[Stats], float]]] = {
    "embergem_batch_fill": (
        "How full batches were since the load, of 1.",
        lambda stats: stats.computed_tokens / max(1, stats.batches * stats.max_batch_tokens),
    ),
    "embergem_cache_bytes": ("Memory that known vectors take; shared by all models.", lambda stats: stats.cache_bytes),
}
LANE_COUNTERS = {
    "embergem_compute_seconds": ("Time that batches took.", "compute_seconds"),
    "embergem_queue_seconds": ("Time that rows waited.", "queue_seconds"),
    "embergem_queue_rows": ("Rows that waited and went on.", "queue_rows"),
}
LANE_GAUGES = {
    "embergem_queue_tokens": ("Tokens that wait now.", "queue_tokens"),
    "embergem_tokens_per_second": ("How fast tokens move on.", "tokens_per_second"),
}


def families(registry: Registry) -> "Iterator[Metric]":
    """How each model is, and what its engine counted since it was loaded."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    loaded: dict[str, Engine] = {}
    up = GaugeMetricFamily("embergem_model_loaded", "Whether a model is loaded.", labels=["model"])
    for name in registry.names():
        engine = registry.peek(name)
        up.add_metric([name], engine is not None)
        if engine is not None:
            loaded[name] = engine
    yield up
    weights = GaugeMetricFamily("embergem_model_bytes", "Bytes of a model's weights.", labels=["model", "dtype"])
    for name, engine in loaded.items():
        weights.add_metric([name, engine.dtype], engine.weight_bytes)
    yield weights
    told = ["model", "dtype", "instruction_set", "fingerprint"]
    info = GaugeMetricFamily("embergem_model_info", "What a loaded model's vectors are; always 1.", labels=told)
    for name, engine in loaded.items():
        info.add_metric([name, engine.dtype, engine.instruction_set, engine.fingerprint], 1)
    yield info
    stats = {name: engine.stats() for name, engine in loaded.items()}
    for table, kind in ((COUNTERS, CounterMetricFamily), (GAUGES, GaugeMetricFamily)):
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
