"""The default model by its catalog name, with its published similarities, in every dtype."""

import numpy as np
import pytest

from embergem.checkpoint.packed import VARIABLE
from embergem.engine import Request
from embergem.hub.resolve import resolve
from embergem.loader import load
from embergem.options import DTYPES, LoadOptions
from embergem.selfcheck.published import sway


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_default_model_is_ready(tmp_path, monkeypatch, dtype):
    location = resolve(LoadOptions())
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path))  # an empty cache, so that the whole check runs
    monkeypatch.setenv(VARIABLE, "0")
    with load(LoadOptions(dtype=dtype), location=location) as engine:
        assert engine.report.whole
        assert engine.ready, engine.report.failures
        [golden] = [finding for finding in engine.report.findings if finding.name == "golden"]
        assert "similarities are those published" in golden.message
        assert engine.embed(Request(texts=["a"])).vectors.shape == (1, 384)


@pytest.mark.parametrize("cosine", [1.0, 0.99999, 0.9996, 0.97])
def test_the_bound_on_the_change_of_a_similarity(cosine):
    random = np.random.default_rng(0)
    sine = np.sqrt(1 - cosine**2)

    def turned(vector, toward):
        aside = toward - (toward @ vector) * vector
        return cosine * vector + sine * aside / np.linalg.norm(aside)

    furthest = 0.0
    for size in (2, 3, 64):
        for _ in range(300):
            a, b, c, d = (x / np.linalg.norm(x) for x in random.normal(size=(4, size)))
            for away in (-b, b, c):  # a moves away from b, towards b, or randomly
                for other in (-a, a, d):
                    furthest = max(furthest, abs(turned(a, away) @ turned(b, other) - a @ b))
    assert furthest <= sway(cosine) + 1e-12
    assert furthest >= 0.99 * sway(cosine)
