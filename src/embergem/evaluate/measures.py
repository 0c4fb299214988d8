"""Quality measures with bootstrap intervals: correlations by scipy, nDCG and recall by trec_eval (pytrec_eval).

scipy and pytrec_eval are the extra `eval`. trec_eval is the program that BEIR and MTEB measure with, so figures can be
compared with theirs. The alternatives: ranx compiles its measures with numba for seconds at each start, and ir-measures
calls pytrec_eval. A resample is
stored as the number of times that it has each item, because scipy's bootstrap would rank every resample again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

import msgspec
import numpy as np
from numpy.typing import NDArray

from embergem.errors import UnsupportedOption
from embergem.evaluate.storage import Places
from embergem.keywords import checked_class

Floats = NDArray[np.float64]

NDCG_CUTOFF = 10
"""Length of the ranking that nDCG scores, as in BEIR."""


class Estimate(msgspec.Struct, frozen=True):
    """A measured value and its bootstrap interval; the bounds are None where resamples leave the value undefined."""

    value: float
    low: float | None
    high: float | None


Measures = tuple[dict[str, Estimate], dict[str, Estimate]]
"""Values of one form of vectors, and its losses, by the names of the measures."""


@checked_class
@dataclass(frozen=True)
class Bootstrap:
    """How intervals are computed: the percentile bootstrap over pairs, or over queries.

    All forms of vectors share the resamples, so the interval of a loss is that of the paired difference.

    Attributes:
        resamples: Number of resamples.
        confidence: Share of resamples within the interval, between 0 and 1.
        seed: Seed of the resamples.
    """

    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 100:
            raise UnsupportedOption(
                f"resamples={self.resamples} is too few for an interval. Give 100 or more.", param="resamples"
            )
        if not 0 < self.confidence < 1:
            raise UnsupportedOption(
                f"confidence={self.confidence:g} is not between 0 and 1. Give a share such as 0.95.", param="confidence"
            )
        if self.seed < 0:
            raise UnsupportedOption(f"seed={self.seed} is negative. Give 0 or more.", param="seed")


def require_libraries() -> tuple[ModuleType, ModuleType]:
    """Return the modules scipy.stats and pytrec_eval.

    Raises:
        UnsupportedOption: A package is not installed.
    """
    try:
        import pytrec_eval
        import scipy.stats
    except ImportError as error:
        raise UnsupportedOption(
            f"The evaluation needs the package {error.name}. Install it: pip install 'embergem[eval]'"
        ) from error
    return scipy.stats, pytrec_eval


def correlations(similarities: Floats, scores: Floats, bootstrap: Bootstrap) -> list[Measures]:
    """Correlate similarities with the scores of people, by Pearson and by Spearman.

    Args:
        similarities: Similarity of each pair in each form of vectors, (forms, pairs); the first form is the full one.
        scores: Score of each pair, (pairs,).
        bootstrap: How intervals are computed.

    Returns:
        For each form its values and its losses by the names of the measures. A loss is the value of the first form
        minus that of this form.

    Raises:
        UnsupportedOption: All similarities of a form are equal.
    """
    stats, _ = require_libraries()
    if np.any(np.ptp(similarities, axis=1) == 0):
        raise UnsupportedOption("All pairs have the same similarity, so there is no correlation. Give different texts.")
    measured = {
        "pearson": [stats.pearsonr(row, scores).statistic for row in similarities],
        "spearman": [stats.spearmanr(row, scores).statistic for row in similarities],
    }

    samples = _resamples(len(scores), bootstrap)
    judged_ranks = _ranks(scores, samples)
    resampled = np.empty((2, len(similarities), len(samples)))
    for form, found in enumerate(similarities):
        resampled[0, form] = _pearson(found, scores, samples)
        resampled[1, form] = _pearson(_ranks(found, samples), judged_ranks, samples)
    return _estimates(measured, resampled, bootstrap)


def ranking_measures(
    rankings: Sequence[Sequence[Places]],
    relevance: Sequence[Mapping[int, int]],
    cutoffs: Sequence[int],
    bootstrap: Bootstrap,
) -> list[Measures]:
    """Score rankings by nDCG@10 and by the recall at each cutoff, averaged over queries.

    Args:
        rankings: For each form of vectors the ranked documents of each query; the first form is the full one.
        relevance: For each query the relevance of its judged documents, by the place of the document.
        cutoffs: Lengths of the rankings whose recall is measured.
        bootstrap: How intervals are computed.

    Returns:
        As `correlations`.
    """
    _, pytrec_eval = require_libraries()
    names = {f"ndcg@{NDCG_CUTOFF}": f"ndcg_cut_{NDCG_CUTOFF}", **{f"recall@{k}": f"recall_{k}" for k in cutoffs}}
    judged = {
        str(query): {str(place): grade for place, grade in grades.items()} for query, grades in enumerate(relevance)
    }
    wanted = {f"ndcg_cut.{NDCG_CUTOFF}", *(f"recall.{k}" for k in cutoffs)}
    evaluator = pytrec_eval.RelevanceEvaluator(judged, wanted)
    scored = []
    for ranking in rankings:
        # trec_eval sorts by score and breaks ties by id; scores that fall from place to place keep this order.
        run = {
            str(query): {str(place): float(-rank) for rank, place in enumerate(places)}
            for query, places in enumerate(ranking)
        }
        found = evaluator.evaluate(run)
        scored.append([[found[str(query)][name] for query in range(len(judged))] for name in names.values()])
    values: Floats = np.array(scored).transpose(1, 0, 2)
    measured = dict(zip(names, values.mean(axis=-1).tolist(), strict=True))

    resampled = values @ _resamples(len(judged), bootstrap).T / len(judged)
    return _estimates(measured, resampled, bootstrap)


def _resamples(count: int, bootstrap: Bootstrap) -> Floats:
    """Return how often each of `count` items is in each resample, (resamples, count)."""
    random = np.random.default_rng(bootstrap.seed)
    return random.multinomial(count, np.full(count, 1 / count), bootstrap.resamples).astype(np.float64)


def _estimates(measured: Mapping[str, Sequence[float]], resampled: Floats, bootstrap: Bootstrap) -> list[Measures]:
    """Make the estimates of each form from values (measure -> forms) and resamples (measures, forms, resamples)."""
    tail = (1 - bootstrap.confidence) / 2

    def bounds(samples: Floats) -> Floats:
        return np.quantile(samples, [tail, 1 - tail], axis=-1)

    intervals, differences = bounds(resampled), bounds(resampled[:, :1] - resampled)
    found = []
    for form in range(resampled.shape[1]):
        values: dict[str, Estimate] = {}
        losses: dict[str, Estimate] = {}
        for measure, (name, by_form) in enumerate(measured.items()):
            values[name] = _estimate(by_form[form], intervals[:, measure, form])
            losses[name] = _estimate(by_form[0] - by_form[form], differences[:, measure, form])
        found.append((values, losses))
    return found


def _estimate(value: float, interval: Floats) -> Estimate:
    low, high = (None if np.isnan(bound) else float(bound) for bound in interval)
    return Estimate(float(value), low, high)


def _pearson(first: Floats, second: Floats, samples: Floats) -> Floats:
    """Return the correlation in each resample, (resamples,); values are the same in all resamples, or one row each."""
    count = samples.shape[1]

    def mean(values: Floats) -> Floats:
        found: Floats = (samples * values).sum(axis=1, keepdims=True) / count
        return found

    x, y = first - mean(first), second - mean(second)
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample of equal values has no correlation
        found: Floats = (mean(x * y) / np.sqrt(mean(x * x) * mean(y * y)))[:, 0]
    return found


def _ranks(values: Floats, samples: Floats) -> Floats:
    """Return the rank that each value has in each resample, (resamples, values); equal values share their mean rank."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.add.reduceat(samples[:, order], starts, axis=1)  # of each group of equal values
    ranks: Floats = (np.cumsum(sizes, axis=1) - (sizes - 1) / 2)[:, group]
    return ranks
