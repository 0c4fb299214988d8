"""Load a checkpoint into memory: read its files, map and pack its weights, and check the result."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from embergem import _native, paths
from embergem._native import LEAST_BATCH_BUDGET, CancelToken, FileStates, Model, TextPipeline
from embergem._native import LoadProgress as NativeProgress
from embergem.checkpoint import packed
from embergem.checkpoint.checkpoint import Checkpoint, Location
from embergem.checkpoint.compiled import Manifest
from embergem.checkpoint.read import read_checkpoint
from embergem.engine.calibration import cosines, load_as
from embergem.engine.prepare import Prepared, prepare, text_pipeline
from embergem.errors import CorruptCheckpoint
from embergem.free_memory import return_free_memory
from embergem.options import DEFAULT_DTYPE, DEFAULTS, LoadOptions
from embergem.program.program import Program
from embergem.progress import LoadProgress
from embergem.selfcheck import CheckContext, Report
from embergem.selfcheck import check as self_check
from embergem.types import pack

log = logging.getLogger(__name__)

LEAST_COSINE_FLOAT32 = 0.99999
LEAST_COSINE_OTHER = 0.9
"""Least cosine of a compiled model's vectors to those stored with it: machines round differently, and integer dtypes
are less exact. The vectors of a damaged model are far below either bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model in memory, with what its files and its checks say about it.

    Attributes:
        name: Name of the model.
        prepared: What is known about the model besides its files.
        model: The native model.
        text: The tokenizer and the prompts.
        fingerprint: Name of the vector space: sha256 in hex.
        cosine: Least cosine of this dtype's vectors to those of float32.
        context: The model as the self-check takes it.
        report: Findings of the self-check.
        options: The options of the load.
        max_batch_tokens: Most tokens in a batch: as in the options, as measured before, or the least budget.
        measure_budget: Measures `max_batch_tokens` for these files; None if it is known.
    """

    name: str
    prepared: Prepared
    model: Model
    text: TextPipeline
    fingerprint: str
    cosine: float
    context: CheckContext
    report: Report
    options: LoadOptions
    max_batch_tokens: int
    measure_budget: Callable[[CancelToken], int] | None


def load(location: Location, options: LoadOptions) -> Loaded:
    """Load the model at `location` and run its self-check.

    A failed self-check is no error here: the engine of such a model refuses every request.

    Raises:
        UnsupportedOption: An option does not apply to this model.
        LoadError: The checkpoint is damaged, incomplete or of an unsupported kind.
        InsufficientMemory: The weights or the tokenizer do not fit into memory.
    """
    checkpoint = read_checkpoint(location, options)
    prepared = prepare(checkpoint, location.id, options)
    weights = [path for _, path in checkpoint.weights]
    states = FileStates([*weights, checkpoint.tokenizer])
    progress, packing = LoadProgress(location.id), NativeProgress()
    # Reading a large tokenizer takes about as long as packing the weights, and one thread hashes the embedding table.
    with ThreadPoolExecutor(2) as pool:
        reading = pool.submit(text_pipeline, checkpoint, prepared)
        hashing = pool.submit(fingerprint, checkpoint, prepared.program)
        with progress.stage("reading and packing the weights", packing.read):
            model, cosine = _load_model(checkpoint, prepared.program, location, options, packing)
            text = reading.result()
        if checkpoint.compiled:
            with progress.stage("hashing the files"):
                own_space = hashing.result()
                if options.tokenizer is not None:
                    own_space = fingerprint(read_checkpoint(location), prepared.program)
                _check_compiled(model, checkpoint.compiled, own_space)
        states.require_unchanged()  # weights and tokenizer are of one state of the files
        context = _check_context(location, options, checkpoint, prepared, model, text, cosine)
        with progress.stage("checking the model"):
            report = _self_check(context)
        with progress.stage("hashing the files"):
            space = hashing.result()
    states.require_unchanged()  # and so is the fingerprint
    # A model that failed its check refuses all requests, so the size of its batches does not matter.
    known = options.max_batch_tokens or model.known_batch_budget(weights, paths.cache_root())
    measure = partial(model.batch_budget, weights, prepared.limit, paths.cache_root())
    return_free_memory()  # a first load packs the weights in buffers of some hundred MiB
    progress.finish()
    return Loaded(
        name=location.id,
        prepared=prepared,
        model=model,
        text=text,
        fingerprint=space,
        cosine=cosine,
        context=context,
        report=report,
        options=options,
        max_batch_tokens=known or LEAST_BATCH_BUDGET,
        measure_budget=None if known else measure,
    )


def _load_model(
    checkpoint: Checkpoint, program: Program, location: Location, options: LoadOptions, packing: NativeProgress
) -> tuple[Model, float]:
    """Map and pack the weights; return the model and its least cosine to float32."""
    source = program.to_json()
    _native.require_all_read(source, checkpoint.files)

    def load_model(dtype: str) -> Model:
        return Model.load(
            source,
            checkpoint.files,
            threads=options.threads,
            dtype=dtype,
            notes=str(paths.cache_root()),
            packed=packed.enabled_directory(),
            packed_limit=packed.limit(),
            progress=packing,
        )

    def measure(model: Model) -> float:
        return model.least_cosine(source, checkpoint.files, notes=str(paths.cache_root()), progress=packing)

    return load_as(options.dtype or DEFAULT_DTYPE, load_model, measure, location.id)


def fingerprint(checkpoint: Checkpoint, program: Program) -> str:
    """Return the name of a model's vector space: a sha256 in hex over weights, tokenizer and program.

    Every byte of the weights is read, unless the digests of the files in their present state are stored in the cache.
    """
    return _native.fingerprint(
        program.to_json(), checkpoint.files, str(checkpoint.tokenizer), notes=str(paths.cache_root())
    )


def fingerprint_of(location: Location, options: LoadOptions = DEFAULTS) -> str:
    """Return the fingerprint of the model at `location` without loading the model.

    Raises:
        LoadError: The checkpoint is damaged, incomplete or of an unsupported kind.
    """
    checkpoint = read_checkpoint(location, options)
    return fingerprint(checkpoint, prepare(checkpoint, location.id, options).program)


def _check_compiled(model: Model, manifest: Manifest, fingerprint: str) -> None:
    """Compare a compiled model with the fingerprint and the vectors that were stored when it was compiled.

    Raises:
        CorruptCheckpoint: They differ.
    """
    if fingerprint != manifest.fingerprint:
        raise CorruptCheckpoint(
            f"The weights, program or tokenizer of the compiled model changed since it was compiled (fingerprint "
            f"{fingerprint[:16]}… instead of {manifest.fingerprint[:16]}…). Compile it again."
        )
    stored = manifest.golden.vectors
    fits = len(stored) == len(manifest.golden.ids) and all(len(vector) == model.dimensions for vector in stored)
    least = float(np.min(cosines(model.run(*pack(manifest.golden.ids)), np.array(stored)))) if fits else -1.0
    bound = LEAST_COSINE_FLOAT32 if model.dtype == "float32" else LEAST_COSINE_OTHER
    if not least >= bound:  # also true for NaN
        raise CorruptCheckpoint(
            f"The compiled model does not give the vectors that are stored with it (least cosine {least:.6f}): one of "
            "its files is damaged or belongs to another model. Compile it again."
        )


def _check_context(
    location: Location,
    options: LoadOptions,
    checkpoint: Checkpoint,
    prepared: Prepared,
    model: Model,
    text: TextPipeline,
    cosine: float,
) -> CheckContext:
    return CheckContext(
        run=model.run,
        text=text,
        model_type=prepared.model_type,
        config=prepared.config,
        head=None if checkpoint.compiled else checkpoint.head,
        limit=prepared.limit,
        dimensions=model.dimensions,
        dtype=model.dtype,
        cosine=cosine,
        entry=prepared.entry,
        base=prepared.base,
        name=location.id,
        hub_id=checkpoint.hub_id,
        files=(*(path for _, path in checkpoint.weights), checkpoint.tokenizer),
        variant=(
            prepared.program.digest,
            model.dtype,
            model.instruction_set,
            str(prepared.limit),
            checkpoint.prompts or "",
        ),
        window=options.window,
        dense_optional=options.allow_missing_dense,
    )


def _self_check(context: CheckContext) -> Report:
    """Run the self-check of a loaded model and log its failures and warnings; see `embergem.selfcheck`."""
    report = self_check(context)
    for finding in (*report.failures, *report.warnings):
        log.log(logging.ERROR if finding.status == "error" else logging.WARNING, "%s: %s", context.name, finding)
    return report
