"""Run the probes: all of them at the first load, a short check at later loads.

A passed check is stored for the state of the files, the build, the instruction set and the dtype. The Rust SDK
(`crates/embergem/src/selfcheck`) runs the same probes on the same texts and reads and writes the same notes.
"""

import json
import logging
from collections.abc import Callable, Sequence

import numpy as np

from embergem import paths
from embergem._native import BUILDS, Note, __version__
from embergem.selfcheck import published, settings, texts, vectors
from embergem.selfcheck.context import CheckContext, Observation, observe
from embergem.selfcheck.report import PROBES, Finding, Report
from embergem.selfcheck.texts import tokens
from embergem.types import Ids

log = logging.getLogger(__name__)

VECTOR_PROBES: tuple[Callable[[CheckContext, Observation], Finding], ...] = (
    vectors.norms,
    vectors.batch_invariance,
    vectors.distinct,
)
MODEL_PROBES: tuple[Callable[[CheckContext], Finding], ...] = (
    settings.config,
    settings.dense_layers,
    texts.limit,
    texts.special_tokens,
    texts.prompts,
    vectors.exactness,
)
WHOLE_PROBES: tuple[Callable[[CheckContext], Finding], ...] = (texts.truncation, published.golden)


def check(context: CheckContext, *, whole: bool = False) -> Report:
    """Check a model. A check that passed is stored; a model that failed is checked whole again at each load.

    With `whole` every probe runs, also if a check of the same files has passed before.
    """
    note = Note(paths.cache_root(), "selfcheck", context.files, [__version__, *BUILDS, *context.variant])
    before = None if whole else _digest(note)
    findings = [probe(context) for probe in MODEL_PROBES]
    observed = observe(context, distinct_rows(context, PROBES.short_texts), alone=1)
    if before is None:
        findings += _probe_vectors(context, observe(context, rows(context), alone=2))
        findings += [] if observed.fault else [probe(context) for probe in WHOLE_PROBES]
    else:
        findings += _probe_vectors(context, observed)
        findings += [] if observed.fault else [vectors.same_bits(observed, before)]
    report = Report(tuple(findings), whole=before is None)
    if before is None and not report.failures:
        note.write(json.dumps({"vectors": vectors.digest(observed)}))
    return report


def rows(context: CheckContext) -> list[Ids]:
    """Return the rows of the whole check: one that is longer than the window, then rows of many kinds of text."""
    short = distinct_rows(context, PROBES.whole_texts)
    reach = getattr(context.config, "radius", None) or PROBES.default_reach
    length = min(reach + PROBES.tokens_past_window, context.limit)
    body = np.concatenate([row[1:-1] for row in short])
    long = np.concatenate([short[-1][:1], np.resize(body, max(length - 2, 1)), short[-1][-1:]])
    return [long.astype(np.uint32), *short]


def distinct_rows(context: CheckContext, texts: Sequence[str]) -> list[Ids]:
    """Return the different rows of ids that `texts` have, without empty rows.

    Two texts may have the same ids in a small vocabulary.
    """
    found = {tuple(ids.tolist()): ids for ids in (tokens(context, text) for text in texts) if len(ids)}
    return list(found.values())


def _probe_vectors(context: CheckContext, observed: Observation) -> list[Finding]:
    first = vectors.finite(context, observed)
    return [first] if first.status == "error" else [first, *(probe(context, observed) for probe in VECTOR_PROBES)]


def _digest(note: Note) -> str | None:
    """Return the digest of the vectors of a passed check, or None if there is none or the note is damaged."""
    try:
        return str(json.loads(note.read() or "{}")["vectors"])
    except (ValueError, KeyError, TypeError):
        log.debug("the whole self-check runs")
        return None
