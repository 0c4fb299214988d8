"""One model, ready to embed: text pipeline, loop and executor behind `embed` and `submit`."""

from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from functools import cached_property
from types import TracebackType

import numpy as np
from msgspec.structs import replace

from embergem._native import __version__
from embergem._native import cut as native_cut
from embergem.engine import finalizers, fork
from embergem.engine.load import Loaded
from embergem.engine.loop import Loop
from embergem.engine.stats import Stats, ThroughputLog
from embergem.engine.vector_cache import VectorCache
from embergem.errors import EmbergemError, InvalidDimensions, InvalidRequest, NotReady
from embergem.program.cost import flops, step_flops, weight_bytes
from embergem.program.program import Step
from embergem.types import LANES, Request, Result, Row, Vectors


class Engine:
    """A loaded model. Thread-safe; close it to free its threads and its weights, which dropping it does soon, too.

    Attributes:
        id: The name the model is known by.
        dimensions: Full width of the vectors.
        allowed_dimensions: Sizes that `Request.dimensions` may ask for, largest first.
        limit: Most tokens of one input, special tokens included.
        tasks: Names that `Request.task` may have; empty for a model without prompts.
        dtype: Arithmetic of the large products: one of `options.DTYPES` but "auto".
        instruction_set: Kernels in use, such as "avx2".
        threads: Threads that a run uses at most.
        vocab_size: Token ids are below this.
        fingerprint: Name of the space the vectors are in, 64 hex digits: the same on every machine, for every layout of
            the same weights, and in every arithmetic; see `docs/structure.md`.
        cosine: Least cosine to float32 of this model's vectors, as measured at its first load.
        model_type: `model_type` of config.json, such as "gemma3_text".
        weight_bytes: Memory that the packed weights take; embedding tables stay mapped and are not in it.
        report: What the self-check found. With a failure in it the engine answers nothing; see `ready`.
    """

    def __init__(self, loaded: Loaded, *, cache: VectorCache | None = None) -> None:
        model, prepared, text = loaded.model, loaded.prepared, loaded.text
        program, options = prepared.program, loaded.options
        self.id = loaded.name
        self.report = loaded.report
        self.model_type = prepared.model_type
        self.weight_bytes = weight_bytes(program, model.dtype)
        self.dtype = model.dtype
        self.fingerprint = loaded.fingerprint
        self.cosine = loaded.cosine
        self.limit = prepared.limit
        self.dimensions = model.dimensions
        smaller = sorted((size for size in prepared.trained_dimensions if size < model.dimensions), reverse=True)
        self.allowed_dimensions = (model.dimensions, *smaller)
        self.tasks = tuple(text.tasks)
        self.instruction_set = model.instruction_set
        self.threads = model.threads
        self.vocab_size = model.vocab_size
        self._model = model
        self._program = program
        self._norm_before_cut = prepared.norm_before_cut
        self._text = text
        self._throughput = ThroughputLog(loaded.name) if options.throughput_logging else None
        self._loop = Loop(
            self._throughput.wrap(model.run) if self._throughput else model.run,
            model.dimensions,
            loaded.max_batch_tokens,
            loaded.name,
            max_batch_rows=options.max_batch_rows,
            max_queue_tokens=options.max_queue_tokens,
            cache=cache,
            # What the bits of a vector depend on besides its ids.
            space=f"{self.fingerprint} {program.key} {model.dtype} {model.instruction_set} {__version__}".encode(),
        )
        finalizers.close_with(self, self._loop)

    @property
    def ready(self) -> bool:
        """Whether the self-check found nothing that forbids to answer."""
        return not self.report.failures

    def require_ready(self) -> None:
        """Do nothing if the model passed its self-check.

        Raises:
            NotReady: It failed; the message says which probe, and the usual cause.
        """
        if not self.ready:
            raise NotReady(f"{self.id} failed its self-check: " + "; ".join(map(str, self.report.failures)))

    def embed(self, request: Request) -> Result:
        """Embed and wait. Ctrl-C stops the work at the next step of the program, or after the few rows of a query."""
        future = self.submit(replace(request, blocking=True))
        try:
            return future.result()
        except (KeyboardInterrupt, CancelledError):
            future.cancel()
            raise

    def submit(self, request: Request) -> "Future[Result]":
        """Tokenize on the caller's thread, queue the rows, and return a future of the result.

        Cancelling the future takes the rows out of the queue and stops a batch that nobody else waits for. When all
        rows are in the cache the future is done already.

        Raises:
            InvalidRequest: Something about the input; see `embergem.errors`.
            NotReady: The model failed its self-check; the message says which probe, and the usual cause.
            EngineClosed: After `close`.
            ForkedProcess: In a fork of the process that loaded the model.
            Overloaded: More tokens would wait than `max_queue_tokens`.
            DeadlineExceeded: The request's deadline has passed.
        """
        fork.check()
        try:
            self.require_ready()
            dimensions = self._dimensions(request.dimensions)
            if request.lane not in LANES:
                raise InvalidRequest(f"lane={request.lane!r} is none of: {', '.join(LANES)}", param="lane")
            rows = self.prepare(request)

            def finish(vectors: Vectors, cached: list[int]) -> Result:
                return Result(cut(vectors, dimensions, self._norm_before_cut), rows, cached)

            return self._loop.submit(
                rows,
                finish,
                lane=request.lane,
                tenant=request.tenant,
                deadline=request.deadline,
                blocking=request.blocking,
                admit=request.admit,
            )
        except EmbergemError as error:
            self._loop.counters.failed(error.code)
            raise

    def stats(self) -> Stats:
        """Return what was done since the load, and how much waits now."""
        return self._loop.stats()

    def lengths(self, request: Request) -> list[int]:
        """Tokens of each input, prompt and special tokens included, however many they are."""
        return [row.length for row in self.prepare(replace(request, truncate=True))]

    def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of `text` as it stands, all of them, with the model's special tokens around them if `special`."""
        return self._text.tokenize(text, special=special)

    def detokenize(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Text that the token `ids` spell; special tokens are left out if `skip_special`.

        Raises:
            TokenOutOfRange: An id that the tokenizer does not have.
        """
        return self._text.detokenize(ids, skip_special=skip_special)

    def flops(self, lengths: Sequence[int]) -> int:
        """Return the floating point operations that rows of these lengths take; see `program.flops`."""
        return flops(self._program, lengths)

    def profile(self, lengths: Sequence[int]) -> list[tuple[Step, float, int]]:
        """Run random rows of these lengths, and return each step with its seconds and its operations."""
        random = np.random.default_rng(0)
        ids = random.integers(0, self.vocab_size, sum(lengths)).astype(np.uint32)
        seconds = self._model.profile(ids, np.cumsum([0, *lengths]).astype(np.uint32))
        steps = zip(self._program.steps, seconds, strict=True)
        return [(step, time, step_flops(self._program, step, lengths)) for step, time in steps]

    def peak(self, seconds: float) -> float:
        """Measure for so long how many float32 operations a second this engine's threads can do at most."""
        return self._model.peak(seconds)

    def close(self, *, drain: bool = False) -> None:
        """Stop the engine. Requests in work fail with `EngineClosed`, or with `drain` are finished first.

        In a forked process there is nothing to stop.
        """
        if not fork.forked():
            self._loop.close(drain=drain)
            if self._throughput:
                self._throughput.flush()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @cached_property
    def start(self) -> int | None:
        """The special token that the tokenizer puts before every text, if it puts some before and some after."""
        ((ids, _),) = self._text.prepare([""])
        return int(ids[0]) if len(ids) > 1 else None

    def prepare(self, request: Request) -> list[Row]:
        """Tokenize a request as `submit` does, and compute nothing."""
        if request.texts is not None:
            pairs = self._text.prepare(
                request.texts, task=request.task, titles=request.titles, truncate=request.truncate
            )
        else:
            pairs = self._text.prepare_ids(request.ids or (), truncate=request.truncate)
        return [Row(ids, length) for ids, length in pairs]

    def prompt(self, task: str) -> str | None:
        """Return what `task` puts around a text, as a pattern with `{content}` and, where it takes one, `{title}`.

        Raises:
            InvalidTask: The model has no such task.
        """
        return self._text.pattern(task)

    def _dimensions(self, wanted: int | None) -> int:
        if wanted is None:
            return self.dimensions
        if wanted not in self.allowed_dimensions:
            raise InvalidDimensions(
                f"dimensions={wanted} is not possible with {self.id}, which allows: "
                + in_words(self.allowed_dimensions),
                param="dimensions",
            )
        return wanted


def cut(vectors: Vectors, dimensions: int, norm_first: bool) -> Vectors:
    """Keep the first `dimensions` numbers of each vector and scale it to length 1 again (Matryoshka).

    With `norm_first` a layer norm without weights comes before the cut, as in the model's training (Nomic). Only its
    mean matters: whatever divides the whole vector falls out when the kept part is scaled to length 1.
    """
    if dimensions == vectors.shape[1]:
        return vectors
    return native_cut(vectors, dimensions, norm_first)


def in_words(sizes: Sequence[int]) -> str:
    """List sizes, largest first; a long run of neighbours by its ends."""
    if len(sizes) > 16 and sizes[0] - sizes[-1] == len(sizes) - 1:
        return f"{sizes[-1]} to {sizes[0]}"
    return ", ".join(str(size) for size in sizes)
