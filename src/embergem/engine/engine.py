"""`Engine`: a loaded model that turns requests into vectors."""

import os
from collections.abc import Sequence
from concurrent.futures import CancelledError
from functools import cached_property, partial
from types import TracebackType

import numpy as np
from msgspec.structs import replace

from embergem._native import BUILDS, CancelToken, __version__
from embergem._native import cut as native_cut
from embergem.engine import finalizers
from embergem.engine.load import Loaded
from embergem.engine.loop import Loop
from embergem.engine.pending import PendingRequest
from embergem.engine.scheduler import Limits
from embergem.engine.stats import Stats, ThroughputLog
from embergem.engine.vector_cache import VectorCache
from embergem.errors import (
    EmbergemError,
    ForkedProcess,
    InvalidDimensions,
    InvalidRequest,
    InvalidTask,
    ModelFailed,
    NotReady,
)
from embergem.packed_rows import PackedRows
from embergem.program.cost import flops, query_bytes, step_flops, weight_bytes
from embergem.program.program import Step
from embergem.suggestions import did_you_mean
from embergem.types import LANES, AlignedToken, Request, Result, Row, Vectors

ALIGNED_CHARACTERS = 65_536
"""Most characters of the texts of a request that `Engine.align` takes: it uses up to 2 KiB of memory for each."""


class Engine:
    """A loaded model. Thread-safe.

    `close` frees its threads and its weights. They are also freed soon after the engine is garbage-collected.

    Attributes:
        id: Name of the model.
        dimensions: Full size of the vectors.
        allowed_dimensions: Values that `Request.dimensions` may have, largest first.
        limit: Most tokens of one input, special tokens included.
        tasks: Values that `Request.task` may have; empty for a model without prompts.
        dtype: Arithmetic of the matrix products: one of `options.DTYPES` except "auto".
        instruction_set: Kernels in use, such as "avx2".
        threads: Most threads of a run.
        vocab_size: Number of token ids; each id is below this.
        fingerprint: Name of the space that the vectors are in, 64 hex digits. It is the same on every machine, for
            every layout of the same weights, and in every arithmetic; see `docs/structure.md`.
        cosine: Least cosine of this model's vectors to their float32 form, measured at the first load.
        model_type: `model_type` of config.json, such as "gemma3_text".
        weight_bytes: Memory of the packed weights; embedding tables are mapped from the file and are not included.
        report: Findings of the self-check.
        ready: Whether the self-check had no failure. Otherwise the engine refuses all requests with `NotReady`.
    """

    def __init__(self, loaded: Loaded, *, cache: VectorCache | None = None) -> None:
        model, prepared, text = loaded.model, loaded.prepared, loaded.text
        program, options = prepared.program, loaded.options
        self.id = loaded.name
        self.report = loaded.report
        self.ready = not loaded.report.failures
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
        self._process = os.getpid()
        self._model = model
        self._program = program
        self._text = text
        self._throughput = ThroughputLog(loaded.name) if options.throughput_logging else None
        self._loop = Loop(
            self._throughput.wrap(model.run) if self._throughput else model.run,
            partial(cut, norm_first=prepared.norm_before_cut),
            Limits(loaded.max_batch_tokens, options.max_batch_rows, options.max_queue_tokens),
            loaded.name,
            measure_budget=loaded.measure_budget,
            cache=cache,
            # Everything besides the token ids that determines the bits of a vector. The fingerprint and the key of the
            # program stay the same when the arithmetic of a family is corrected; the digest of the program does not.
            space=" ".join(
                (self.fingerprint, program.digest, model.dtype, model.instruction_set, __version__, BUILDS[0])
            ).encode(),
        )
        finalizers.close_with(self, self._loop)

    @property
    def max_batch_tokens(self) -> int:
        """Most tokens of a batch. If it was not measured before, a large request has it measured; see `Loop`."""
        return self._loop.limits.max_batch_tokens

    @property
    def failure(self) -> str | None:
        """Why the engine refuses all requests; None if its files are those that were loaded."""
        return self._model.failure

    def require_ready(self) -> None:
        """Do nothing if the model passed its self-check and its files have not changed since.

        Raises:
            NotReady: It failed; the message names the probe and the usual cause.
            ModelFailed: A file of the model was overwritten or cut short.
        """
        if (failure := self.failure) is not None:
            raise ModelFailed(failure)
        if not self.ready:
            raise NotReady(f"{self.id} failed its self-check: " + "; ".join(map(str, self.report.failures)))

    def embed(self, request: Request) -> Result:
        """Embed and wait for the result; see `submit` for the errors.

        Ctrl-C stops the computation at the next step of the program, or at the end of a small request.
        """
        future = self.submit(replace(request, blocking=True))
        try:
            return future.result()
        except (KeyboardInterrupt, CancelledError):
            future.cancel()
            raise

    def submit(self, request: Request, cancel: CancelToken | None = None) -> PendingRequest:
        """Tokenize on this thread, queue the rows, and return the future of the result.

        Cancelling the future takes its rows out of the queue, and stops a batch that no other request waits for. The
        future is already done if all vectors were in the cache, or if a small blocking request was computed here.
        `cancel` stops the tokenizing of long texts.

        Raises:
            Cancelled: `cancel` was set while the texts were tokenized.
            InvalidRequest: The request is invalid; the subclass and the message say why.
            NotReady: The model failed its self-check; the message names the probe and the usual cause.
            ModelFailed: A file of the model was overwritten or cut short.
            EngineClosed: The engine was closed.
            ForkedProcess: This process was forked from the one that loaded the model.
            Overloaded: The queue of the lane is full (`max_queue_tokens`).
            DeadlineExceeded: The deadline has passed already.
        """
        return self._submit(request, None, cancel)

    def submit_rows(self, request: Request, rows: Sequence[Row]) -> PendingRequest:
        """Queue rows that `prepare` returned, and return the future of the result; `request` needs no inputs.

        This is `submit` for callers that need the token ids before they decide what to compute. The errors are those of
        `submit`.
        """
        return self._submit(request, rows)

    def _submit(
        self, request: Request, rows: Sequence[Row] | None, cancel: CancelToken | None = None
    ) -> PendingRequest:
        if self._process != os.getpid():
            raise ForkedProcess(
                f"{self.id} was loaded by process {self._process}, from which this process was forked. The compute "
                "threads exist there only. Load the model in this process: make a new Embedder."
            )
        try:
            self.require_ready()
            if request.dimensions is not None and request.dimensions not in self.allowed_dimensions:
                raise InvalidDimensions(
                    f"dimensions={request.dimensions} is not possible with {self.id}. Choose one of: "
                    f"{describe_sizes(self.allowed_dimensions)}.",
                    param="dimensions",
                )
            if request.lane not in LANES:
                raise InvalidRequest(
                    f"lane={request.lane!r} is not possible. Choose one of: {', '.join(LANES)}.", param="lane"
                )
            pending = self._loop.submit(request, self.prepare(request, cancel) if rows is None else rows)
        except EmbergemError as error:
            self._loop.counters.failed(error.code)
            raise
        pending.engine = self
        return pending

    def stats(self) -> Stats:
        """Return counters since the load, and gauges such as the tokens in the queue."""
        return self._loop.stats()

    def lengths(self, request: Request) -> list[int]:
        """Return the tokens of each input before truncation, prompt and special tokens included."""
        return [row.length for row in self.prepare(replace(request, truncate=True), count=True)]

    def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """Return the token ids of `text` without a prompt or limit, between the special tokens if `special`."""
        return self._text.tokenize(text, special=special)

    def detokenize(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Return the text of token ids, without the special tokens if `skip_special`.

        Raises:
            TokenOutOfRange: The tokenizer does not have an id.
        """
        return self._text.detokenize(ids, skip_special=skip_special)

    def flops(self, lengths: Sequence[int]) -> int:
        """Return the floating point operations of a batch of rows of these lengths; see `program.cost.flops`."""
        return flops(self._program, lengths)

    def query_bytes(self, tokens: int) -> int:
        """Return the bytes of weights that one row of `tokens` tokens reads."""
        return query_bytes(self._program, self.dtype, tokens)

    def profile(self, lengths: Sequence[int]) -> list[tuple[Step, float, int]]:
        """Run random rows of these lengths; return each step with its seconds and its floating point operations."""
        random = np.random.default_rng(0)
        ids = random.integers(0, self.vocab_size, sum(lengths)).astype(np.uint32)
        seconds = self._model.profile(ids, np.cumsum([0, *lengths]).astype(np.uint32))
        steps = zip(self._program.steps, seconds, strict=True)
        return [(step, time, step_flops(self._program, step, lengths)) for step, time in steps]

    def peak(self, seconds: float) -> float:
        """Measure for `seconds` the most float32 operations a second of this engine's threads, and return them."""
        return self._model.peak(seconds)

    def close(self, *, drain: bool = False) -> None:
        """Stop the engine. Pending requests fail with `EngineClosed`; with `drain` they are completed first.

        In a forked process this does nothing, because the threads are in the parent.
        """
        if self._process == os.getpid():
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
    def start_token(self) -> int | None:
        """The special token before every text; None unless the tokenizer adds tokens before and after a text."""
        ((ids, _),) = self._text.prepare([""])
        return int(ids[0]) if len(ids) > 1 else None

    def prepare(self, request: Request, cancel: CancelToken | None = None, *, count: bool = False) -> list[Row]:
        """Tokenize the inputs of a request as `submit` does, without computing anything.

        `count` counts all tokens of texts that are cut, `cancel` stops the tokenizing of long texts.

        Raises:
            InvalidRequest: The request is invalid; the subclass and the message say why.
            Cancelled: `cancel` was set.
        """
        if request.texts is None:
            pairs = self._text.prepare_ids(request.ids or (), truncate=request.truncate)
        else:
            prepare = partial(self._text.prepare, request.texts, task=request.task, titles=request.titles)
            prepare = partial(prepare, truncate=request.truncate, cancel=cancel)
            try:
                pairs = prepare()
            except InvalidTask as error:
                if request.task is None or request.task in self.tasks:
                    raise
                raise InvalidTask(error.message + did_you_mean(request.task, self.tasks), param="task") from None
            if count and any(length > len(ids) for ids, length in pairs):
                pairs = prepare(count=True)  # the lengths of texts that are not cut are known already
        return [Row(ids, length) for ids, length in pairs]

    def prepare_packed(self, request: Request) -> PackedRows:
        """Tokenize many texts as `prepare` does, cut to the limit; the errors are those of `prepare`."""
        if request.texts is None or not request.truncate:
            raise InvalidRequest("Packed rows are for texts that may be cut. Use `prepare`.")
        return PackedRows.of(self.prepare(request))

    def align(self, request: Request) -> list[tuple[str, list[AlignedToken]]]:
        """Return each text of a request with its prompt, and all its tokens with their positions in it.

        Raises:
            InvalidRequest: The request has token ids, or more than `ALIGNED_CHARACTERS` characters; or as in `prepare`.
        """
        texts, titles = request.texts, request.titles
        if texts is None:
            raise InvalidRequest(
                "`return_tokens` needs texts, and `input` has token ids. Send the texts, or omit `return_tokens`.",
                param="return_tokens",
            )
        characters = sum(map(len, texts)) + sum(len(title or "") for title in titles or ())
        if characters > ALIGNED_CHARACTERS:
            raise InvalidRequest(
                f"The texts have {characters:,} characters, and `return_tokens` allows {ALIGNED_CHARACTERS:,} a "
                "request. Send fewer or shorter texts, or omit `return_tokens`.",
                param="return_tokens",
            )
        aligned = self._text.align(texts, task=request.task, titles=titles)
        return [(text, [AlignedToken(*token) for token in tokens]) for text, tokens in aligned]

    def prompt(self, task: str) -> str | None:
        """Return the prompt of a task as a pattern with `{content}` and, where the task takes a title, `{title}`.

        Raises:
            InvalidTask: The model has no such task.
        """
        return self._text.pattern(task)


def cut(vectors: Vectors, dimensions: int, norm_first: bool) -> Vectors:
    """Keep the first `dimensions` numbers of each vector and scale it to length 1 again (Matryoshka).

    Args:
        vectors: Shape `(rows, full size)`. Returned unchanged if `dimensions` is the full size.
        dimensions: The size to keep.
        norm_first: Apply a layer norm without weights before the cut, as in the training of Nomic's models. Only the
            subtraction of the mean matters: the division cancels out when the vector is scaled to length 1.
    """
    if dimensions == vectors.shape[1]:
        return vectors
    return native_cut(vectors, dimensions, norm_first)


def describe_sizes(sizes: Sequence[int]) -> str:
    """List sizes for a message; more than 16 consecutive ones, largest first, as a range.

    >>> describe_sizes((768, 512)), describe_sizes(range(64, 31, -1))
    ('768, 512', '32 to 64')
    """
    if len(sizes) > 16 and sizes[0] - sizes[-1] == len(sizes) - 1:
        return f"{sizes[-1]} to {sizes[0]}"
    return ", ".join(str(size) for size in sizes)
