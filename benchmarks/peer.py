"""Run one engine in its own process: read token ids, and measure one round for each command.

python benchmarks/peer.py KIND MODEL ORDER.json VECTORS.npy

The process loads the model, writes the vectors of the probe, chooses its batch sizes, and reports this as a line of
JSON. Then it reads one command a line from standard input and answers each with a line of JSON. `round` measures every
load and the latency of one query. `lengths 1024` measures each text length up to 1,024 tokens.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from lengths import Rows, by_length

BATCHES = (1, 8, 32)
"""Batch sizes that are tried for an engine with padded batches. Rows are sorted by length; the best size counts."""
SAMPLE = 4
"""The batch size is chosen on every `SAMPLE`-th row of a load."""
LONG = 40.0
"""Most seconds of a load; an engine that would take longer is measured on the sample alone."""
PEAK_SECONDS = 0.5

Encode = Callable[[Rows], np.ndarray]
Padded = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Ready:
    """A loaded engine.

    Attributes:
        ways: The encode function for each batch size that is tried.
        about: Facts that the result file keeps, such as the version.
        peak: Measures the peak of the cores, in FLOP/s; None if the engine cannot.
    """

    ways: dict[int, Encode]
    about: dict[str, Any] = field(default_factory=dict)
    peak: Callable[[], float] | None = None


def onnxruntime(model: str) -> Padded:
    """Load ONNX Runtime with its defaults and all cores."""
    import onnxruntime as ort

    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run(None, {"ids": ids, "mask": mask})[0]


def openvino(model: str) -> Padded:
    """Load OpenVINO, compiled for throughput of one stream in float32."""
    import openvino as ov

    core = ov.Core()
    compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"})
    return lambda ids, mask: compiled({"ids": ids, "mask": mask})[0]


def sentence_transformers(model: str) -> Padded:
    """Load sentence-transformers in float32."""
    import torch
    from sentence_transformers import SentenceTransformer

    loaded = SentenceTransformer(model, device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32})

    def encode(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        features = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        with torch.inference_mode():
            return loaded(features)["sentence_embedding"].numpy()

    return encode


def mistralrs(model: str) -> Encode:
    """Load mistral.rs in float32, which makes its own batches."""
    from mistralrs import EmbeddingArchitecture, EmbeddingRequest, ModelDType, Runner, Which

    which = Which.Embedding(model, arch=EmbeddingArchitecture.EmbeddingGemma, dtype=ModelDType.F32)
    runner = Runner(which)
    return lambda rows: np.array(runner.send_embedding_request(EmbeddingRequest(input=rows)), dtype=np.float32)


def llama_cpp(model: str) -> Encode:
    """Load llama.cpp with all cores; it gets batches of as many texts as fit into 2,048 tokens."""
    from llama_cpp import Llama

    class OfIds(Llama):
        """A `Llama` that reads the text "17 4 9" as the tokens 17, 4 and 9."""

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


def embergem(model: str, dtype: str) -> Ready:
    """Load embergem with its defaults, which makes its own batches."""
    from embergem.loader import load
    from embergem.options import LoadOptions
    from embergem.types import Request

    engine = load(LoadOptions(model=model, dtype=dtype))
    return Ready(
        ways={0: lambda rows: engine.embed(Request(ids=rows)).vectors},
        about={"dtype": engine.dtype, "instruction_set": engine.instruction_set, "threads": engine.threads},
        peak=lambda: engine.peak(PEAK_SECONDS) / 1e9,
    )


OWN_BATCHES = {"mistralrs": mistralrs, "llama.cpp": llama_cpp}
PADDED = {"onnxruntime": onnxruntime, "openvino": openvino, "sentence-transformers": sentence_transformers}


def batches(rows: Rows, size: int) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Yield padded batches, longest rows first: (indices of the rows, ids, mask)."""
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
    """Return a function that encodes rows in padded batches of `size` and returns vectors in the order of the rows."""

    def run(rows: Rows) -> np.ndarray:
        vectors: list[Any] = [None] * len(rows)
        for part, ids, mask in batches(rows, size):
            for index, vector in zip(part, encode(ids, mask), strict=True):
                vectors[index] = vector
        return np.stack(vectors)

    return run


def load(kind: str, model: str) -> Ready:
    """Load a model with the engine called `kind`; `embergem-int16` is embergem in that dtype."""
    if kind in OWN_BATCHES:
        return Ready({0: OWN_BATCHES[kind](model)})
    if kind in PADDED:
        padded = PADDED[kind](model)
        return Ready({size: in_batches(padded, size) for size in BATCHES})
    return embergem(model, kind.removeprefix("embergem-"))


def timed(encode: Encode, rows: Rows) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    encode(rows)
    return time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class Load:
    """Rows of one kind of input, with the batch size that encodes them fastest."""

    encode: Encode
    rows: Rows
    batch: int
    by_batch: dict[int, float]

    @classmethod
    def chosen(cls, ways: dict[int, Encode], rows: Rows) -> "Load":
        """Choose the batch size on a sample. Keep only the sample if all rows would take too long."""
        sample = rows[::SAMPLE]
        tokens = sum(map(len, sample))
        tried = {size: timed(encode, sample) for size, encode in ways.items()}
        seconds, size = min((seconds, size) for size, seconds in tried.items())
        whole = sum(map(len, rows)) / tokens * seconds < LONG
        return cls(ways[size], rows if whole else sample, size, {size: tokens / tried[size] for size in tried})

    def measure(self) -> dict[str, Any]:
        """Embed the rows once and return the figures."""
        tokens = sum(map(len, self.rows))
        return {"tokens": tokens, "tokens_per_second": tokens / timed(self.encode, self.rows)}


def main(kind: str, model: str, order: Path, out: Path) -> None:
    """Load the engine, choose the batch sizes, and answer commands until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print to standard output, which must hold answers only

    def answer(value: dict[str, Any]) -> None:
        print(json.dumps(value), file=answers, flush=True)

    engine = load(kind, model)
    work = json.loads(order.read_text())
    alone = next(iter(engine.ways.values()))
    np.save(out, alone(work["probe"]))  # this also warms up the engine
    loads = {name: Load.chosen(engine.ways, work[name]) for name in ("queries", "documents", "mixed")}
    answer(engine.about | {"batches": {name: load.by_batch for name, load in loads.items()}})
    for line in sys.stdin:
        if line.startswith("lengths"):
            longest = min(work["limit"], int(line.split()[1]))
            answer(by_length(engine.ways.get(8, alone), work["vocab_size"], longest))
            continue
        found: dict[str, Any] = {"loads": {name: load.measure() for name, load in loads.items()}}
        times = sorted(timed(alone, [work["query"]]) * 1e3 for _ in range(work["latency_runs"]))
        found |= {"query_ms_p50": times[len(times) // 2], "query_ms_p99": times[-1]}
        answer(found | ({"peak_gflops": engine.peak()} if engine.peak else {}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
