"""Write a model as one directory that loads without knowledge of its family. docs/format.md describes the format."""

import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from embergem._native import Model, Tensors
from embergem.checkpoint import compiled
from embergem.checkpoint.checkpoint import PROMPTS_FILE, WEIGHTS_FILE, Checkpoint
from embergem.checkpoint.compiled import FORMAT, INT8_FORMAT, MANIFEST, Golden, Manifest
from embergem.checkpoint.files import sha256
from embergem.checkpoint.read import read_checkpoint
from embergem.checkpoint.writer import (
    INTEGER_MAX,
    Dtype,
    Floats,
    OutputTensor,
    quantised,
    transformed,
    write_safetensors,
)
from embergem.engine.calibration import cosines
from embergem.engine.load import fingerprint
from embergem.engine.prepare import prepare
from embergem.errors import InvalidRequest, UnsupportedOption
from embergem.hub.resolve import resolve
from embergem.loader import load
from embergem.models.corrections import corrections
from embergem.ops.int8 import GROUP
from embergem.ops.trace import Source
from embergem.options import LoadOptions
from embergem.program.program import Program
from embergem.suggestions import did_you_mean
from embergem.types import pack

DTYPES: dict[str, Dtype] = {"float32": "F32", "bfloat16": "BF16", "int16": "I16", "int8": "I8"}
Exponents = dict[str, NDArray[np.int8]]
"""Exponents of the columns of matrices, by the name of the tensor."""
PIECE = 1 << 22
"""Most numbers of a tensor in memory at the same time."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """The result of a compilation.

    Attributes:
        manifest: Manifest of the written directory.
        cosine: Least cosine of its vectors to those of the original; None if the weights were not rounded.
    """

    manifest: Manifest
    cosine: float | None


def compile_model(options: LoadOptions, into: Path, dtype: str | None = None) -> Compiled:
    """Write a model into the directory `into`, with its weights as stored or rounded to `dtype`.

    Raises:
        LoadError: The model cannot be read.
        NotReady: The model fails its self-check, which needs the config that a compiled model no longer has.
        UnsupportedOption: Weights cannot be written as `dtype`.
        InvalidRequest: `into` is a file, or a directory with other files.
    """
    stored = stored_dtype(dtype)
    location = resolve(options)
    _require_room(into, location.path, rewritten=stored is not None)
    require_self_check(options)
    checkpoint = read_checkpoint(location, options)
    ready = prepare(checkpoint, location.id, options)
    if stored is not None and any({"mapping", "integers"} & {*s.weights, *s.parameters} for s in ready.program.steps):
        raise UnsupportedOption(
            f"dtype={dtype!r} does not apply to {location.id}: its table has whole numbers or shared rows, and is "
            "already small. Leave out dtype.",
            param="dtype",
        )
    into.mkdir(parents=True, exist_ok=True)
    exponents: Exponents = {}
    if stored is None:
        weights = [(prefix, _beside(file, into / _place(prefix, file))) for prefix, file in checkpoint.weights]
    else:
        if stored == "I8":
            exponents = exponents_of(checkpoint, ready.program)
        write_safetensors(into / WEIGHTS_FILE, list(tensors(checkpoint, ready.program, stored, exponents)))
        weights = [("", into / WEIGHTS_FILE)]
    _beside(checkpoint.tokenizer, into / "tokenizer.json")
    if checkpoint.prompts is not None:
        (into / PROMPTS_FILE).write_text(checkpoint.prompts, encoding="utf-8")
    source = ready.program.to_json()
    (into / "program.json").write_text(source, encoding="utf-8")
    model = Model.load(source, [(prefix, str(file)) for prefix, file in weights])
    manifest = Manifest(
        format=INT8_FORMAT if exponents else FORMAT,
        id=location.id,
        model_type=ready.model_type,
        program="program.json",
        weights=tuple(_entry(prefix, file, into) for prefix, file in weights),
        tokenizer="tokenizer.json",
        text=compiled.TextSettings(
            limit=ready.limit,
            vocab_size=ready.vocab_size,
            prompts=None if checkpoint.prompts is None else PROMPTS_FILE,
            builtin_prompts=ready.builtin_prompts,
            bare=ready.bare,
            keep_unknown=ready.keep_unknown,
        ),
        vectors=compiled.VectorSettings(model.dimensions, ready.trained_dimensions, ready.norm_before_cut),
        dtype=dtype or "stored",  # type: ignore[arg-type]  # checked above
        fingerprint=fingerprint(replace(checkpoint, weights=tuple(weights)), ready.program),
        golden=golden_of(model, ready.limit),
        corrections=len(corrections()),
    )
    (into / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    require_self_check(LoadOptions(model=into))  # the written files must load
    if stored is None:
        return Compiled(manifest, None)
    original = Model.load(source, [(prefix, str(file)) for prefix, file in checkpoint.weights])
    vectors = [np.array(golden.vectors) for golden in (golden_of(original, ready.limit), manifest.golden)]
    return Compiled(manifest, float(np.min(cosines(*vectors))))


def require_self_check(options: LoadOptions) -> None:
    """Load a model, which runs its self-check.

    Raises:
        LoadError: The model cannot be read.
        NotReady: The self-check failed.
    """
    with load(replace(options, max_batch_tokens=4096)) as engine:  # with a size given, none is measured
        engine.require_ready()


def stored_dtype(dtype: str | None, choices: Collection[str] = DTYPES) -> Dtype | None:
    """Return the name of `dtype`, one of `choices`, in safetensors; None keeps the weights as they are stored.

    Raises:
        UnsupportedOption: Weights cannot be written as `dtype`.
    """
    if dtype is None or dtype in choices:
        return None if dtype is None else DTYPES[dtype]
    why = " (it overflows in Gemma models)" if dtype == "float16" else ""
    raise UnsupportedOption(
        f"Weights cannot be written as dtype={dtype!r}{why}.{did_you_mean(str(dtype), choices)} Choose one of: "
        f"{', '.join(choices)}, or leave dtype out.",
        param="dtype",
    )


def exponents_of(checkpoint: Checkpoint, program: Program) -> Exponents:
    """Return the exponents of smoothing of each tensor that only int8 products read, all with the same exponents.

    They are those of a load in int8. The other matrices are embedding tables, matrices after pooling, those that layers
    share but multiply with different activations, and those whose last group of columns is not full.
    """
    files = [(prefix, str(file)) for prefix, file in checkpoint.weights]
    by_step = Model.load(program.to_json(), files, dtype="int8").smoothing_exponents
    found: dict[str, list[NDArray[np.int8] | None]] = {}
    for number, step in enumerate(program.steps):
        for role, index in step.weights.items():
            weight = program.weights[index]
            exponents = by_step.get(number) if role == "weight" and not weight.add else None
            for source in weight.sources:
                found.setdefault(source.tensor, []).append(exponents)
    shared = {name: first for name, (first, *others) in found.items() if all(_equal(first, other) for other in others)}
    return {name: first for name, first in shared.items() if first is not None and len(first) % GROUP == 0}


def tensors(checkpoint: Checkpoint, program: Program, dtype: Dtype, exponents: Exponents) -> Iterator[OutputTensor]:
    """Yield every tensor that the program reads: matrices as `dtype` (integers with scales), vectors as float32.

    Matrices with `exponents` are stored as the kernels of int8 multiply them.
    """
    found = Tensors([(prefix, str(file)) for prefix, file in checkpoint.weights], prefixes=program.prefixes)
    sources = {source.tensor: source for weight in program.weights for source in weight.sources}
    for name, source in sorted(sources.items()):
        kind = dtype if len(source.shape) == 2 else "F32"
        matrix = OutputTensor(name, source.shape, kind, partial(pieces, found, source))
        if name in exponents:
            yield from transformed(matrix, exponents[name])
        else:
            yield from quantised(matrix) if kind in INTEGER_MAX else (matrix,)


def pieces(found: Tensors, source: Source) -> Iterator[Floats]:
    """Yield the rows of a tensor in pieces of at most `PIECE` numbers, to bound the memory."""
    rows = source.shape[0]
    step = rows if len(source.shape) < 2 else max(1, PIECE // max(1, source.shape[1]))
    for start in range(0, rows, step):
        yield found.rows(source.tensor, start, min(rows, start + step))


def golden_of(model: Model, limit: int) -> Golden:
    """Return fixed random rows of ids and the vectors that `model` computes for them."""
    random = np.random.default_rng(0)
    lengths = [length for length in (1, 3, 17, 40) if length <= limit]
    rows = [random.integers(0, model.vocab_size, length).tolist() for length in lengths]
    return Golden(tuple(map(tuple, rows)), tuple(map(tuple, model.run(*pack(rows)).tolist())))


def _equal(first: NDArray[np.int8] | None, other: NDArray[np.int8] | None) -> bool:
    return first is not None and other is not None and np.array_equal(first, other)


def _place(prefix: str, file: Path) -> str:
    return f"{prefix.rstrip('.')}/{file.name}" if prefix else file.name


def _beside(file: Path, target: Path) -> Path:
    """Copy a file to `target`, unless it is there already.

    A hard link would take no space. But it changes the state of the original, so that a process that is loading it
    fails, and whoever overwrites the original would change the compiled model.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    original = file.resolve()
    if target.exists() and target.samefile(original):
        return target
    target.unlink(missing_ok=True)
    shutil.copyfile(original, target)
    return target


def _entry(prefix: str, file: Path, into: Path) -> compiled.WeightFile:
    name = file.relative_to(into).as_posix()
    return compiled.WeightFile(prefix=prefix, file=name, size=file.stat().st_size, sha256=sha256(file))


def _require_room(into: Path, source: Path, *, rewritten: bool) -> None:
    if into.exists() and not into.is_dir():
        raise InvalidRequest(f"{into} is a file. Name a directory.", param="output")
    same = into.exists() and into.resolve() == source.resolve()
    if same and rewritten:
        raise InvalidRequest(
            f"{into} is the directory of the original weights. Name another directory for the rounded ones.",
            param="output",
        )
    if into.is_dir() and not same and any(into.iterdir()) and not compiled.is_compiled(into):
        raise InvalidRequest(
            f"{into} is not empty. Name a new directory, or one that an earlier compilation wrote.", param="output"
        )
