"""From a location to all that an engine answers with: read, checked, measured."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from embergem._native import Model, TextPipeline
from embergem.checkpoint import packed
from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.read import read
from embergem.engine import calibration, fork
from embergem.engine.calibration import DTYPES, load_as
from embergem.engine.fingerprint import fingerprint
from embergem.engine.prepare import check, prepare, self_check
from embergem.errors import UnsupportedOption
from embergem.hub import file_state
from embergem.program.program import Program
from embergem.selfcheck import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model in memory, and what its files and its checks say about it; see `Engine` for the fields."""

    name: str
    model_type: str
    model: Model
    program: Program
    text: TextPipeline
    limit: int
    trained_dimensions: Sequence[int]
    norm_before_cut: bool
    fingerprint: str
    cosine: float
    report: Report
    max_batch_tokens: int


def load(
    location: Location,
    *,
    dtype: str,
    threads: int | None,
    device: str | None,
    max_batch_tokens: int | None,
    tokenizer: Path | None,
    arch: str,
    window: int | None,
) -> Loaded:
    """Load the model at `location` and let it check itself; `Engine.load` says what the options are, and the errors."""
    _check_options(dtype, threads, device)
    require_positive(max_batch_tokens=max_batch_tokens)
    fork.claim()
    stored = read(location)
    checkpoint = stored if tokenizer is None else replace(stored, tokenizer=tokenizer)
    kind = prepare(checkpoint, location.id, arch=arch, window=window)
    limit, files = kind.limit, checkpoint.files
    fresh = not file_state.remembered(checkpoint.weights)
    with ThreadPoolExecutor(1) as beside:  # a large tokenizer takes about as long as the weights
        text = beside.submit(
            TextPipeline,
            str(checkpoint.tokenizer),
            limit=limit,
            vocab_size=kind.vocab_size,
            prompts=checkpoint.prompts,
            builtin_prompts=kind.builtin_prompts,
            bare=kind.bare,
        )
        program = kind.program
        source = program.to_json()
        model, least = load_as(
            dtype,
            lambda dtype: Model.load(
                source,
                files,
                threads=threads,
                dtype=dtype,
                scan=fresh,
                packed=packed.place(),
                packed_limit=packed.limit(),
            ),
            checkpoint.weights,
            location.id,
        )
    space = fingerprint(checkpoint, program)
    if stored.compiled:
        check(model, stored.compiled, space if tokenizer is None else fingerprint(stored, program))
    if fresh:
        file_state.remember(checkpoint.weights)
    report = self_check(checkpoint, kind, location, model, text.result(), least, window)
    if max_batch_tokens is None:  # what a model that does not answer would do is not worth measuring
        broken = bool(report.failures)
        max_batch_tokens = (
            calibration.BATCH_SIZES[0] if broken else calibration.best_batch_size(model, checkpoint.weights, limit)
        )
    return Loaded(
        name=location.id,
        model_type=kind.model_type,
        model=model,
        program=program,
        text=text.result(),
        limit=limit,
        trained_dimensions=kind.trained_dimensions,
        norm_before_cut=kind.norm_before_cut,
        fingerprint=space,
        cosine=least,
        report=report,
        max_batch_tokens=max_batch_tokens,
    )


def _check_options(dtype: str, threads: int | None, device: str | None) -> None:
    if dtype not in DTYPES:
        why = " (its largest number is 65,504, which activations of Gemma models pass)" if dtype == "float16" else ""
        raise UnsupportedOption(
            f"dtype={dtype!r} is not available{why}. This version has: {', '.join(DTYPES)}", param="dtype"
        )
    if device not in (None, "cpu"):
        raise UnsupportedOption(f"device={device!r} is not available; this version runs on the cpu", param="device")
    if threads is not None and threads < 1:
        raise UnsupportedOption(f"threads={threads} is not possible; give 1 or more, or None for all", param="threads")


def require_positive(**bounds: int | None) -> None:
    """Do nothing if each is None or at least 1.

    Raises:
        UnsupportedOption: One is not; the message names it.
    """
    for name, value in bounds.items():
        if value is not None and value < 1:
            raise UnsupportedOption(f"{name}={value} is not possible; give 1 or more, or None", param=name)
