"""Checks that a copy of a catalog model is the published one, and that this machine computes what was published for it.

Four kinds of evidence are compared: the sha256 of the files, the self-check, the cosine similarities of the model card,
and vectors of the published library. What the catalog has no value for is reported as not verifiable, never as passed.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from embergem import paths
from embergem._native import BUILDS
from embergem.catalog import Entry, Parity
from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.files import sha256
from embergem.diagnostics.doctor.report import System
from embergem.diagnostics.doctor.system import system
from embergem.engine.load import Loaded, load
from embergem.errors import EmbergemError
from embergem.options import LoadOptions
from embergem.selfcheck import CheckContext, check
from embergem.selfcheck.published import similarities, sway
from embergem.selfcheck.report import PROBES
from embergem.selfcheck.texts import tokens
from embergem.types import pack

Status = Literal["passed", "failed", "not verifiable"]
Kind = Literal["file", "load", "self-check", "similarity", "vector"]

BATCH_TOKENS = 4096
"""Most tokens of a batch. It is given so that the load does not measure the best size, which no check needs."""

_FILES = (".safetensors", ".json", ".jinja")
"""Suffixes of the files of a model that are hashed; the README and other formats of the weights are left out."""

_COMPARED_NOTHING = {
    (probe, outcome.message)
    for probe, name in (("config", "unknown"), ("truncation", "untested"), ("prompts", "undeclared"))
    if (outcome := PROBES.outcomes[probe][name])
}
"""Findings of the self-check that are no failures because there was nothing to compare with."""


class Check(msgspec.Struct, frozen=True, omit_defaults=True):
    """One comparison. `value` is what this machine has, `expected` what was published, within `tolerance`."""

    kind: Kind
    name: str
    status: Status
    value: str | float
    expected: str | float | None = None
    tolerance: float | None = None
    note: str | None = None


class Copy(msgspec.Struct, frozen=True):
    """The copy of the model: its directory, where its files came from and how it was loaded, as far as it was."""

    path: str
    revision: str | None
    fingerprint: str | None = None
    dtype: str | None = None
    instruction_set: str | None = None


class PublishedReport(msgspec.Struct, frozen=True):
    """Whether a copy is the published model, with all that an issue about it needs.

    Attributes:
        model: Id of the model.
        verdict: "published" if the weights and the tokenizer have the published digests, something computed was
            compared, and nothing failed; "different" if a check failed; otherwise "not verifiable".
        reason: Why, in one sentence.
        system: This machine.
        builds: Identities of the native code.
        numpy: Version of NumPy.
        copy: The copy that was checked.
        checks: All comparisons.
    """

    model: str
    verdict: Literal["published", "different", "not verifiable"]
    reason: str
    system: System
    builds: tuple[str, ...]
    numpy: str
    copy: Copy
    checks: tuple[Check, ...]


def verify_copy(entry: Entry, location: Location) -> PublishedReport:
    """Compare the copy of a model at `location` with what the catalog has about the model.

    The model is loaded in float32. A copy that cannot be loaded is a failed check, not an error.
    """
    checks = list(check_files(entry, location.path))
    copy = Copy(str(location.path), location.revision)
    try:
        loaded = load(Location(entry.id, location.path), LoadOptions(max_batch_tokens=BATCH_TOKENS))
    except EmbergemError as error:
        checks.append(Check("load", "load", "failed", error.message, "a model that can be loaded"))
    else:
        copy = msgspec.structs.replace(
            copy,
            fingerprint=loaded.fingerprint,
            dtype=loaded.model.dtype,
            instruction_set=loaded.model.instruction_set,
        )
        checks += check_computed(entry, loaded)
    verdict, reason = judge(entry, checks)
    return PublishedReport(entry.id, verdict, reason, system(), tuple(BUILDS), np.__version__, copy, tuple(checks))


def check_files(entry: Entry, root: Path) -> Iterator[Check]:
    """Hash the files of a copy, and compare those that the catalog pins."""
    found = {
        path.relative_to(root).as_posix(): path
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix in _FILES and path.name != paths.MODEL_MANIFEST
    }
    for name in dict.fromkeys([*(pin.path for pin in entry.files), *found]):
        pin = entry.pinned(name)
        if name not in found:
            yield Check("file", name, "failed", "missing", pin.sha256 if pin else None)
            continue
        digest = sha256(found[name])
        if pin is None:
            yield Check("file", name, "not verifiable", digest, note="the catalog has no sha256 of this file")
            continue
        short = len(pin.sha256) < len(digest)
        note = f"only the first {len(pin.sha256)} digits are known" if short else None
        if (size := found[name].stat().st_size) != pin.size:
            note = f"{size:,} bytes instead of {pin.size:,}"
        yield Check("file", name, "passed" if pin.matches(digest) else "failed", digest, pin.sha256, note=note)


def check_computed(entry: Entry, loaded: Loaded) -> Iterator[Check]:
    """Run the whole self-check of a loaded model, and compute what was published for it."""
    if loaded.context.model_type != entry.family:
        yield Check("load", "family", "failed", loaded.context.model_type, entry.family, note="config.json: model_type")
        return
    context = replace(loaded.context, entry=entry, base=entry)  # a directory may have the name of another model
    report = check(context, whole=True)
    for finding in report.findings:
        if finding.name == "golden":
            continue  # each similarity is a check of its own below
        status: Status = "passed" if finding.status == "ok" else "failed"
        if (finding.name, finding.message) in _COMPARED_NOTHING:
            status = "not verifiable"
        yield Check("self-check", finding.name, status, finding.message, note=finding.suggestion)
    for compare in (check_similarities, check_vectors):
        try:
            yield from compare(entry, context)
        except EmbergemError as error:  # a NaN, or a task that the checkpoint does not have
            kind: Kind = "similarity" if compare is check_similarities else "vector"
            yield Check(kind, "all", "failed", error.message)


def check_similarities(entry: Entry, context: CheckContext) -> Iterator[Check]:
    """Compare the cosine similarity of each published query and document."""
    golden = entry.golden
    if golden is None:
        yield Check("similarity", "all", "not verifiable", "none published", note="the catalog has no similarities")
        return
    tolerance = golden.tolerance + sway(context.cosine)
    for row, (computed, published) in enumerate(zip(similarities(context, golden), golden.similarities, strict=True)):
        for column, (value, expected) in enumerate(zip(computed.tolist(), published, strict=True)):
            name = f"query {row}, document {column}"
            yield Check("similarity", name, _within(value - expected, tolerance), value, expected, tolerance)


def check_vectors(entry: Entry, context: CheckContext) -> Iterator[Check]:
    """Compare the vector of each published text: its largest difference in any component."""
    parity = entry.parity
    if parity is None:
        yield Check("vector", "all", "not verifiable", "none published", note="the catalog has no vectors")
        return
    for index, expected in enumerate(stored_vectors(parity)):
        name = f"text {index}, largest difference"
        [vector] = context.run(*pack([tokens(context, parity.texts[index], parity.task)])).astype(np.float64)
        if vector.shape != expected.shape:
            yield Check("vector", name, "failed", f"{vector.size} numbers", f"{expected.size} numbers")
            continue
        difference = float(np.abs(vector - expected).max())
        yield Check("vector", name, _within(difference, parity.tolerance), difference, 0.0, parity.tolerance)


def stored_vectors(parity: Parity) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Return the published vectors, one for each text."""
    return [np.frombuffer(data, "<f4").astype(np.float64) for data in parity.vectors]


def judge(entry: Entry, checks: list[Check]) -> tuple[Literal["published", "different", "not verifiable"], str]:
    """Return the verdict over all checks, and the reason for it."""
    failed = [check for check in checks if check.status == "failed"]
    if failed:
        names = ", ".join(f"{check.kind} {check.name}" for check in failed[:3])
        more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
        return "different", f"{len(failed)} of {len(checks)} checks failed: {names}{more}"
    hashed = {check.name for check in checks if check.kind == "file" and check.status == "passed"}
    unhashed = [
        check.name
        for check in checks
        if check.kind == "file" and check.name not in hashed and Path(check.name).suffix == ".safetensors"
    ]
    computed = any(check.kind in ("similarity", "vector") and check.status == "passed" for check in checks)
    evidence = {
        f"no sha256 of {', '.join(unhashed) or 'the weights'}": bool(hashed) and not unhashed,
        "no sha256 of tokenizer.json": "tokenizer.json" in hashed,
        "no published similarity or vector": computed,
    }
    missing = [lack for lack, present in evidence.items() if not present]
    if missing:
        return "not verifiable", f"nothing differs, but the catalog has {', '.join(missing)} of {entry.id}"
    passed = sum(check.status == "passed" for check in checks)
    return "published", f"{passed} checks passed, {len(checks) - passed} could not be verified, none failed"


def _within(difference: float, tolerance: float) -> Status:
    return "passed" if math.isfinite(difference) and abs(difference) <= tolerance else "failed"
