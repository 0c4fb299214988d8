"""One rival in a process of its own: reads ids, embeds them, prints what it measured as JSON.

python benchmarks/peer.py onnxruntime|openvino|sentence-transformers|mistralrs|llama.cpp MODEL ORDER.json VECTORS.npy
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from lengths import by_length

BATCHES = (1, 8, 32)
"""Rows of a padded batch that a rival is tried with; the best counts, sorted by length as its own users would."""
SAMPLE = 4
"""Every so many rows of a load choose the size of the batch."""
LONG = 60.0
"""Seconds that a load may take; a rival that would take longer is measured on the sample alone."""

Rows = list[list[int]]
Encode = Callable[[Rows], np.ndarray]
Padded = Callable[[np.ndarray, np.ndarray], np.ndarray]


def onnxruntime(model: str) -> Padded:
    """ONNX Runtime with its defaults and all cores."""
    import onnxruntime as ort

    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run(None, {"ids": ids, "mask": mask})[0]


def openvino(model: str) -> Padded:
    """OpenVINO, compiled for throughput of one stream in float32."""
    import openvino as ov

    core = ov.Core()
    compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"})
    return lambda ids, mask: compiled({"ids": ids, "mask": mask})[0]


def sentence_transformers(model: str) -> Padded:
    """sentence-transformers in float32."""
    import torch
    from sentence_transformers import SentenceTransformer

    loaded = SentenceTransformer(model, device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32})

    def encode(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        features = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        with torch.inference_mode():
            return loaded(features)["sentence_embedding"].numpy()

    return encode


def mistralrs(model: str) -> Encode:
    """mistral.rs in float32, which makes its batches itself."""
    from mistralrs import EmbeddingArchitecture, EmbeddingRequest, ModelDType, Runner, Which

    which = Which.Embedding(model, arch=EmbeddingArchitecture.EmbeddingGemma, dtype=ModelDType.F32)
    runner = Runner(which)
    return lambda rows: np.array(runner.send_embedding_request(EmbeddingRequest(input=rows)), dtype=np.float32)


def llama_cpp(model: str) -> Encode:
    """llama.cpp, all cores, as many texts at once as fit into 2,048 tokens."""
    from llama_cpp import Llama

    class OfIds(Llama):
        """Takes "17 4 9" for the tokens 17, 4 and 9."""

        def tokenize(self, text: bytes, add_bos: bool = True, special: bool = False) -> list[int]:
            return [int(number) for number in text.split()]

    cores, size = len(os.sched_getaffinity(0)), 2048
    loaded = OfIds(
        model, embedding=True, n_ctx=size, n_batch=size, n_ubatch=size, n_threads=cores, n_threads_batch=cores,
        verbose=False,
    )  # fmt: skip
    return lambda rows: np.array(
        loaded.embed([" ".join(map(str, row)) for row in rows], normalize=True), dtype=np.float32
    )


OWN_BATCHES = {"mistralrs": mistralrs, "llama.cpp": llama_cpp}
PADDED = {"onnxruntime": onnxruntime, "openvino": openvino, "sentence-transformers": sentence_transformers}


def batches(rows: Rows, size: int) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
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


def in_batches(encode: Padded, size: int) -> Encode:
    """Take rows of any length, in padded batches of `size`; vectors come in the order of the rows."""

    def run(rows: Rows) -> np.ndarray:
        vectors: list[Any] = [None] * len(rows)
        for part, ids, mask in batches(rows, size):
            for index, vector in zip(part, encode(ids, mask), strict=True):
                vectors[index] = vector
        return np.stack(vectors)

    return run


def timed(encode: Encode, rows: Rows) -> float:
    """Seconds."""
    start = time.perf_counter()
    encode(rows)
    return time.perf_counter() - start


def throughput(ways: dict[int, Encode], rows: Rows) -> dict[str, Any]:
    """Measure a load in the best of several ways, chosen on a sample; of two whole runs the better counts."""
    sample = rows[::SAMPLE]
    of_sample = sum(map(len, sample))
    tried = {size: timed(encode, sample) for size, encode in ways.items()}
    seconds, size = min((seconds, size) for size, seconds in tried.items())
    whole = sum(map(len, rows)) / of_sample * seconds < LONG
    measured = rows if whole else sample
    if whole:
        seconds = min(timed(ways[size], rows) for _ in range(2))
    tokens = sum(map(len, measured))
    by_batch = {size: of_sample / seconds for size, seconds in tried.items()}
    return {"tokens": tokens, "tokens_per_second": tokens / seconds, "batch": size, "sample_by_batch": by_batch}


def main(kind: str, model: str, order: Path, out: Path, lengths: bool) -> None:
    """Measure every load at its best batch size, and the latency of one query."""
    if kind in OWN_BATCHES:
        ways = {0: OWN_BATCHES[kind](model)}
    else:
        padded = PADDED[kind](model)
        ways = {size: in_batches(padded, size) for size in BATCHES}
    alone = next(iter(ways.values()))
    work = json.loads(order.read_text())
    alone(work["queries"][:8])
    result: dict[str, Any] = {
        "loads": {name: throughput(ways, work[name]) for name in ("queries", "documents", "mixed")}
    }
    times = sorted(timed(alone, [work["query"]]) * 1e3 for _ in range(work["latency_runs"]))
    result["query_ms_p50"], result["query_ms_p99"] = times[len(times) // 2], times[-1]
    if lengths:
        result["lengths"] = by_length(ways[8], work["vocab_size"], work["limit"])
    np.save(out, alone(work["probe"]))
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), "--lengths" in sys.argv[5:])
