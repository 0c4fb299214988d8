"""Correlations, nDCG and recall, and their bootstrap intervals, compared with scipy and with figures worked by hand."""

import builtins
import math

import numpy as np
import pytest
import scipy.stats

from embergem.errors import UnsupportedOption
from embergem.evaluate import Bootstrap
from embergem.evaluate.measures import _pearson, _ranks, _resamples, correlations, ranking_measures, require_libraries


def pairs(count=200, forms=(0.3, 0.8), digits=1):
    """Return similarities (forms, count) and scores with many equal values."""
    random = np.random.default_rng(4)
    scores = random.random(count).round(digits)
    return np.stack([scores + noise * random.normal(size=count) for noise in forms]), scores


def test_values_are_those_of_scipy():
    similarities, scores = pairs()
    for row, (values, _) in zip(similarities, correlations(similarities, scores, Bootstrap()), strict=True):
        assert values["pearson"].value == scipy.stats.pearsonr(row, scores).statistic
        assert values["spearman"].value == scipy.stats.spearmanr(row, scores).statistic


def test_a_resample_has_the_correlation_of_the_pairs_that_it_repeats():
    similarities, scores = pairs(60)
    samples = _resamples(60, Bootstrap(resamples=100))
    ranked = _pearson(_ranks(similarities[0], samples), _ranks(scores, samples), samples)
    plain = _pearson(similarities[0], scores, samples)
    for place, counts in enumerate(samples.astype(int)):
        assert counts.sum() == 60
        drawn = np.repeat(similarities[0], counts), np.repeat(scores, counts)
        assert plain[place] == pytest.approx(scipy.stats.pearsonr(*drawn).statistic, abs=1e-12)
        assert ranked[place] == pytest.approx(scipy.stats.spearmanr(*drawn).statistic, abs=1e-12)


def test_intervals_agree_with_those_of_scipy():
    similarities, scores = pairs(forms=(0.5,))
    [(values, _)] = correlations(similarities, scores, Bootstrap(resamples=4000))
    expected = scipy.stats.bootstrap(
        (similarities[0], scores),
        lambda x, y: scipy.stats.pearsonr(x, y).statistic,
        paired=True, n_resamples=1000, method="percentile", vectorized=False, rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert values["pearson"].low == pytest.approx(expected.low, abs=0.02)
    assert values["pearson"].high == pytest.approx(expected.high, abs=0.02)


def test_the_seed_fixes_the_intervals_and_another_seed_changes_them():
    similarities, scores = pairs()
    first, again, other = (correlations(similarities, scores, Bootstrap(seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first[1][0]["spearman"].low != other[1][0]["spearman"].low


def test_a_loss_is_a_paired_difference():
    """The two forms differ by little, so the loss has a far smaller interval than the values."""
    similarities, scores = pairs(forms=(0.5,))
    nearly = np.stack([similarities[0], similarities[0] + 0.01 * np.random.default_rng(0).normal(size=len(scores))])
    (_, none), (values, losses) = correlations(nearly, scores, Bootstrap())
    assert (none["pearson"].value, none["pearson"].low, none["pearson"].high) == (0, 0, 0)
    width = values["pearson"].high - values["pearson"].low
    assert 0 < losses["pearson"].high - losses["pearson"].low < width / 10


def test_an_interval_is_unknown_where_resamples_have_equal_scores_only():
    scores = np.array([0.0] * 9 + [1.0])  # a third of the resamples lack the one pair with another score
    [(values, losses)] = correlations(np.arange(10.0)[None], scores, Bootstrap())
    assert values["pearson"].value > 0
    assert values["pearson"].low is values["pearson"].high is losses["pearson"].high is None


def test_similarities_that_are_all_equal_are_refused():
    with pytest.raises(UnsupportedOption, match="All pairs have the same similarity"):
        correlations(np.ones((1, 5)), np.arange(5.0), Bootstrap())


def test_ndcg_and_recall_worked_by_hand():
    relevance = [{7: 2, 3: 1, 5: 0}, {1: 1}]
    full = [np.array([3, 7, 5]), np.array([4, 2, 1])]
    worse = [np.array([5, 4, 3]), np.array([4, 2, 6])]
    (values, _), (_, losses) = ranking_measures([full, worse], relevance, [1, 3], Bootstrap())
    ideal = 2 + 1 / math.log2(3)
    first = (1 + 2 / math.log2(3)) / ideal
    assert values["ndcg@10"].value == pytest.approx((first + 1 / math.log2(4)) / 2)
    assert values["recall@1"].value == pytest.approx((1 / 2 + 0) / 2)
    assert values["recall@3"].value == pytest.approx(1)
    assert losses["ndcg@10"].value == pytest.approx((first + 1 / 2 - 1 / math.log2(4) / ideal) / 2)
    assert losses["recall@3"].value == pytest.approx(1 - (1 / 2 + 0) / 2)
    # Two queries: a resample has one of them twice, or both.
    assert (values["recall@1"].low, values["recall@1"].high) == (0, 0.5)


def test_the_order_of_the_ranking_counts_and_not_the_name_of_the_document():
    """trec_eval would put equal scores into the order of their ids."""
    for ranking, gain in (([10, 9], 1.0), ([9, 10], 1 / math.log2(3))):
        [(values, _)] = ranking_measures([[np.array(ranking)]], [{10: 1}], [1], Bootstrap())
        assert values["ndcg@10"].value == pytest.approx(gain)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"resamples": 99}, "resamples=99 is too few"),
        ({"confidence": 1.0}, "confidence=1 is not between 0 and 1"),
        ({"confidence": 0.0}, "confidence=0 is not between 0 and 1"),
        ({"seed": -1}, "seed=-1 is negative"),
    ],
)
def test_impossible_bootstraps_are_refused(options, words):
    with pytest.raises(UnsupportedOption, match=words):
        Bootstrap(**options)


@pytest.mark.parametrize("package", ["scipy", "pytrec_eval"])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, package):
    load = builtins.__import__

    def without(name, *given, **options):
        if name.partition(".")[0] == package:
            raise ImportError(f"No module named {name!r}", name=name)
        return load(name, *given, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UnsupportedOption, match=rf"needs the package {package}.*pip install 'embergem\[eval\]'"):
        require_libraries()
