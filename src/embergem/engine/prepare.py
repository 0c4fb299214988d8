"""From a checkpoint to what the engine loads: the program, and how texts are read. Made anew, or read as compiled."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from embergem import catalog
from embergem._native import Model, TextPipeline
from embergem.checkpoint.checkpoint import Checkpoint, Location
from embergem.checkpoint.compiled import Golden, Manifest
from embergem.engine.calibration import cosines
from embergem.errors import CorruptCheckpoint, UnsupportedOption
from embergem.models import expect, family, family_name
from embergem.program.build import build
from embergem.program.program import Program
from embergem.selfcheck import CheckContext, Report, kin
from embergem.selfcheck import check as probe
from embergem.types import pack

log = logging.getLogger(__name__)

LEAST_COSINE = {"float32": 0.99999}
OTHERWISE = 0.9
"""To the stored vectors of a compiled model. Machines round differently and integers coarsely; damage is far below."""


@dataclass(frozen=True)
class Prepared:
    """What the engine needs besides files; see `models.Family` for the fields."""

    model_type: str
    trace: Callable[[], Program]
    limit: int
    vocab_size: int
    builtin_prompts: str | None
    bare: bool
    trained_dimensions: tuple[int, ...]
    norm_before_cut: bool
    config: Any = None
    entry: catalog.Entry | None = None
    kin: catalog.Entry | None = None

    @cached_property
    def program(self) -> Program:
        """The program, traced when it is first asked for: a tokenizer can be read meanwhile."""
        return self.trace()


def prepare(checkpoint: Checkpoint, name: str, *, arch: str = "auto", window: int | None = None) -> Prepared:
    """Trace the model of a checkpoint, or take the program of a compiled one. The catalog may know more by its `name`.

    `arch` and `window` are as for `models.family`.

    Raises:
        UnsupportedModel, CorruptCheckpoint: Its config is not one that embergem has, or its program is damaged.
        UnsupportedOption: There is no such `arch`, or no window to choose.
    """
    if compiled := checkpoint.compiled:
        model_type = family_name(compiled.model_type)
        expect(model_type, arch)
        if window is not None:
            raise UnsupportedOption(
                "the window of a compiled model is in its program; leave out window", param="window"
            )
        return Prepared(
            model_type=model_type,
            trace=lambda: Program.from_json(checkpoint.program),
            limit=compiled.text.limit,
            vocab_size=compiled.text.vocab_size,
            builtin_prompts=compiled.text.builtin_prompts,
            bare=compiled.text.bare,
            trained_dimensions=compiled.vectors.trained_dimensions,
            norm_before_cut=compiled.vectors.norm_before_cut,
        )
    kind = family(checkpoint.config, arch=arch, window=window)
    entry = catalog.known(checkpoint.hub_id or name, kind.model_type)
    related = kin(kind.model_type, kind.config, entry, checkpoint.declared_names)
    limits = [checkpoint.limit, kind.places, None if checkpoint.limit_declared or not related else related.limit]
    return Prepared(
        model_type=kind.model_type,
        trace=lambda: build(kind, checkpoint.head),
        limit=min(limit for limit in limits if limit),
        vocab_size=kind.config.vocab_size,
        builtin_prompts=(related and related.prompts) or kind.builtin_prompts,
        bare=kind.bare,
        trained_dimensions=tuple(entry.allowed_dimensions if entry else kind.trained_dimensions),
        norm_before_cut=kind.norm_before_cut,
        config=kind.config,
        entry=entry,
        kin=related,
    )


def self_check(
    checkpoint: Checkpoint, kind: Prepared, location: Location, model: Model, text: TextPipeline, cosine: float,
    window: int | None,
) -> Report:  # fmt: skip
    """Let a loaded model prove itself; see `embergem.selfcheck`. What it finds wrong is logged."""
    context = CheckContext(
        run=model.run,
        text=text,
        model_type=kind.model_type,
        config=kind.config,
        head=None if checkpoint.compiled else checkpoint.head,
        limit=kind.limit,
        dtype=model.dtype,
        cosine=cosine,
        entry=kind.entry,
        kin=kind.kin,
        name=location.id,
        hub_id=checkpoint.hub_id,
        files=(*(path for _, path in checkpoint.weights), checkpoint.tokenizer),
        variant=f"{kind.program.key} {model.dtype} {model.instruction_set} {kind.limit} {checkpoint.prompts}",
        window=window,
        dense_optional=location.allow_missing_dense,
    )
    report = probe(context)
    for finding in (*report.failures, *report.warnings):
        log.log(logging.ERROR if finding.status == "error" else logging.WARNING, "%s: %s", location.id, finding)
    return report


def golden_of(model: Model, limit: int) -> Golden:
    """Return fixed random rows of ids and the vectors that `model` gives for them."""
    random = np.random.default_rng(0)
    lengths = [length for length in (1, 3, 17, 40) if length <= limit]
    rows = [random.integers(0, model.vocab_size, length).tolist() for length in lengths]
    return Golden(tuple(map(tuple, rows)), tuple(map(tuple, model.run(*pack(rows)).tolist())))


def check(model: Model, compiled: Manifest, fingerprint: str) -> None:
    """Hold a loaded model, whose space is `fingerprint`, against what was stored with it.

    Raises:
        CorruptCheckpoint: They are not the same.
    """
    if fingerprint != compiled.fingerprint:
        raise CorruptCheckpoint(
            f"the weights, program or tokenizer of the compiled model are not those that it was made with (fingerprint "
            f"{fingerprint[:16]}… instead of {compiled.fingerprint[:16]}…). Compile it again"
        )
    found = model.run(*pack(compiled.golden.ids))
    least = float(np.min(cosines(found, np.array(compiled.golden.vectors))))
    if not least >= LEAST_COSINE.get(model.dtype, OTHERWISE):
        raise CorruptCheckpoint(
            f"the compiled model doesn't give the vectors that are stored with it (least cosine {least:.6f}): one of "
            "its files is damaged or from another model. Compile it again"
        )
