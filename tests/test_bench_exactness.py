"""`make exactness`: the neighbours that it compares, and the file of its results."""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from exactness import Loaded, compare, keep, nearest


def unit(*angles):
    radians = np.radians(angles)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def test_nearest_leaves_out_the_document_itself():
    found = nearest(unit(*range(0, 24, 2)))
    assert found.shape == (12, 10)
    assert all(index not in row for index, row in enumerate(found))
    assert found[0].tolist() == list(range(1, 11))


def test_equal_vectors_are_exact_and_one_other_neighbour_is_a_tenth(lee):
    documents = unit(*range(0, 24, 2))
    moved = documents.copy()
    moved[11] = unit(180)
    judged = unit(*range(50))
    exact = Loaded(documents, judged, documents, "avx2")
    same = compare("m", "int8", exact, exact)
    assert (round(same.least, 12), same.pearson_change, same.neighbours_kept) == (1, 0, 1)
    other = compare("m", "int8", exact, Loaded(moved, judged, moved, "avx2"))
    assert other.least < 0
    # Documents 6 to 10 now have document 0 in place of 11. Document 11 keeps 10 to 1, in this order.
    assert np.isclose(other.neighbours_kept, 1 - 5 * 0.1 / 12)


def test_a_result_replaces_the_one_of_its_model_and_dtype(tmp_path):
    file = tmp_path / "results.json"
    for model, dtype, least in (("a", "int8", 0.1), ("a", "int16", 0.2), ("b", "int8", 0.3), ("a", "int8", 0.4)):
        keep(file, {"model": model, "dtype": dtype, "least": least})
    assert [each["least"] for each in json.loads(file.read_text())] == [0.2, 0.3, 0.4]
