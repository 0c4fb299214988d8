"""One rival in a process of its own: reads ids, embeds them, prints what it measured as JSON.

python benchmarks/peer.py onnxruntime|openvino|sentence-transformers MODEL ORDER.json VECTORS.npy
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

BATCHES = (1, 8, 32)
"""Rows of a padded batch that a rival is tried with; the best counts, sorted by length as its own users would."""

Encode = Callable[[np.ndarray, np.ndarray], np.ndarray]


def onnxruntime(model: str) -> Encode:
    """ONNX Runtime with its defaults and all cores."""
    import onnxruntime as ort

    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run(None, {"ids": ids, "mask": mask})[0]


def openvino(model: str) -> Encode:
    """OpenVINO, compiled for throughput of one stream in float32."""
    import openvino as ov

    core = ov.Core()
    compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"})
    return lambda ids, mask: compiled({"ids": ids, "mask": mask})[0]


def sentence_transformers(model: str) -> Encode:
    """sentence-transformers in float32."""
    import torch
    from sentence_transformers import SentenceTransformer

    loaded = SentenceTransformer(model, device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32})

    def encode(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        features = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        with torch.inference_mode():
            return loaded(features)["sentence_embedding"].numpy()

    return encode


def batches(rows: list[list[int]], size: int) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Rows in padded batches, longest first: (their indices, ids, mask)."""
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    for start in range(0, len(rows), size):
        part = order[start : start + size]
        ids = np.zeros((len(part), len(rows[part[0]])), dtype=np.int64)
        mask = np.zeros_like(ids)
        for place, index in enumerate(part):
            ids[place, : len(rows[index])] = rows[index]
            mask[place, : len(rows[index])] = 1
        yield part, ids, mask


def run(encode: Encode, rows: list[list[int]], size: int) -> tuple[float, np.ndarray]:
    """Seconds, and the vectors in the order of the rows."""
    vectors: list[Any] = [None] * len(rows)
    start = time.perf_counter()
    for part, ids, mask in batches(rows, size):
        for index, vector in zip(part, encode(ids, mask), strict=True):
            vectors[index] = vector
    return time.perf_counter() - start, np.stack(vectors)


def main(kind: str, model: str, order: Path, out: Path) -> None:
    """Measure every load at its best batch size, and the latency of one query."""
    encode = {"onnxruntime": onnxruntime, "openvino": openvino, "sentence-transformers": sentence_transformers}[kind](
        model
    )
    work = json.loads(order.read_text())
    run(encode, work["queries"][:8], 1)
    result: dict[str, Any] = {"loads": {}}
    for name in ("queries", "documents", "mixed"):
        rows = work[name]
        best = min((run(encode, rows, size)[0], size) for size in BATCHES)
        tokens = sum(map(len, rows))
        result["loads"][name] = {"tokens": tokens, "tokens_per_second": tokens / best[0], "batch": best[1]}
    times = sorted(run(encode, [work["query"]], 1)[0] * 1e3 for _ in range(work["latency_runs"]))
    result["query_ms_p50"], result["query_ms_p99"] = times[len(times) // 2], times[-1]
    np.save(out, run(encode, work["probe"], 1)[1])
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
