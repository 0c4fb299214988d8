"""The whole check once for each state of the files, build, instruction set and dtype; a short one at later starts."""

import json
import logging
from collections.abc import Callable, Sequence

import numpy as np

from embergem import paths
from embergem._native import BUILDS, Note, __version__
from embergem.selfcheck import published, settings, texts, vectors
from embergem.selfcheck.context import CheckContext, Observed, observe
from embergem.selfcheck.report import Finding, Report
from embergem.selfcheck.texts import tokens
from embergem.types import Ids

log = logging.getLogger(__name__)

SHORT = ("a", "graphene is a layer of carbon")
WHOLE = (
    "",
    "What is graphene?",
    "def f(x):\n    return x ** 2",
    "Ünïcödé, 東京 and 🦆!",
    "Русский язык; हिन्दी; العربية; ไทย",
    "nul\0byte",
)
PAST_THE_WINDOW = 40
"""Tokens that the long row has beyond what a window reaches."""

OF_VECTORS: tuple[Callable[[CheckContext, Observed], Finding], ...] = (
    vectors.norms,
    vectors.batch_invariance,
    vectors.distinct,
)
OF_MODEL: tuple[Callable[[CheckContext], Finding], ...] = (
    settings.config,
    settings.dense_layers,
    texts.limit,
    texts.special_tokens,
    texts.prompts,
    vectors.exactness,
)
ONLY_WHOLE: tuple[Callable[[CheckContext], Finding], ...] = (texts.truncation, published.golden)


def check(context: CheckContext) -> Report:
    """Check a model. What passed is remembered; a model that failed is checked whole again each time."""
    note = _note(context)
    before = _read(note)
    findings = [probe(context) for probe in OF_MODEL]
    seen = observe(context, distinct_rows(context, SHORT), alone=1)
    if before is None:
        findings += _probe(context, observe(context, rows(context), alone=2))
        findings += [] if seen.fault else [probe(context) for probe in ONLY_WHOLE]
    else:
        findings += _probe(context, seen)
        findings += [] if seen.fault else [vectors.same_bits(seen, before)]
    report = Report(tuple(findings), whole=before is None)
    if before is None and not report.failures:
        note.write(json.dumps({"vectors": vectors.digest(seen)}))
    return report


def rows(context: CheckContext) -> list[Ids]:
    """The rows of the whole check: one that goes past the window, then many kinds of text."""
    short = distinct_rows(context, WHOLE)
    reach = getattr(context.config, "radius", None) or 64
    length = min(reach + PAST_THE_WINDOW, context.limit)
    body = np.concatenate([row[1:-1] for row in short])
    long = np.concatenate([short[-1][:1], np.resize(body, max(length - 2, 1)), short[-1][-1:]])
    return [long.astype(np.uint32), *short]


def distinct_rows(context: CheckContext, texts: Sequence[str]) -> list[Ids]:
    """Ids of texts, each row of ids once: a small vocabulary may not tell all texts apart. Empty rows are left out."""
    found = {tuple(ids.tolist()): ids for ids in (tokens(context, text) for text in texts) if len(ids)}
    return list(found.values())


def _probe(context: CheckContext, seen: Observed) -> list[Finding]:
    first = vectors.finite(context, seen)
    return [first] if first.status == "error" else [first, *(probe(context, seen) for probe in OF_VECTORS)]


def _note(context: CheckContext) -> Note:
    """Return the note of a passed check; the Rust SDK has the same (`crates/embergem/src/selfcheck`)."""
    return Note(paths.cache_root(), "selfcheck", context.files, [__version__, *BUILDS, *context.variant])


def _read(note: Note) -> str | None:
    try:
        return str(json.loads(note.read() or "{}")["vectors"])
    except (ValueError, KeyError, TypeError):  # not checked yet, or a damaged note: the whole check runs
        log.debug("the whole self-check runs")
        return None
