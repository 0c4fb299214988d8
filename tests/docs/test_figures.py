"""README.md and docs/performance.md have the figures of one benchmark run, of the file that performance.md names."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PERFORMANCE = (ROOT / "docs/performance.md").read_text()


def section(heading):
    """Return the text of a section and the run that it names."""
    text = PERFORMANCE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    run = json.loads((ROOT / re.search(r"`(benchmarks/results/\S+\.json)`", text)[1]).read_text())
    return text, run["models"]


HEADINGS = "Beside other engines", "On a processor with VNNI", "On a processor with AMX"
SECTIONS = {heading: section(heading) for heading in HEADINGS}
README = (ROOT / "README.md").read_text().split("## Speed")[1].split("\n## ")[0]
LOADS = "queries", "documents"
NAMES = {'embergem `dtype="int16"`': "embergem int16", "mistral.rs f32": "mistralrs f32"}
"""Names of rows in README.md that have another name in the run."""


def tables(text):
    """Return the tables of a text, each as {name of the row: its other cells}."""
    blocks = re.findall(r"(?:^\|.*\n)+", text + "\n", re.MULTILINE)
    rows = [
        [[cell.strip() for cell in line.strip("|").split(" | ")] for line in block.splitlines()] for block in blocks
    ]
    return [{name.strip("| "): [*map(str.strip, cells)] for name, *cells in table[2:]} for table in rows]


def require_rate(shown, measured):
    assert int(shown.replace(",", "")) == pytest.approx(measured, abs=0.51)


def require_error(shown, measured):
    if shown == "0":
        assert measured < 1e-15  # the spacing of float64
    else:
        digits = len(shown.partition("e")[0].replace(".", ""))
        assert float(shown) == float(f"{measured:.{digits - 1}e}")


@pytest.mark.parametrize("heading", SECTIONS)
@pytest.mark.parametrize(("place", "model"), [(0, "gemma"), (1, "minilm")])
def test_the_performance_page_has_the_figures_of_the_run(place, model, heading):
    text, run = SECTIONS[heading]
    table = tables(text)[place]
    assert table.keys() == run[model].keys()
    for name, (queries, documents, mixed, latency, cosine, error) in table.items():
        found = run[model][name]
        for shown, load in ((queries, "queries"), (documents, "documents"), (mixed, "mixed")):
            require_rate(shown, found["loads"][load]["tokens_per_second"])
        shown = [float(number) for number in latency.removesuffix(" ms").split(", ")]
        assert shown == pytest.approx([found["query_ms_p50"], found["query_ms_p99"]], abs=0.051)
        assert float(cosine) == pytest.approx(1 - found["cosine_error"], abs=0.000051)
        require_error(error, found["cosine_error"])


def test_the_readme_has_the_figures_of_the_same_run():
    [table] = tables(README)
    assert len(table) >= 8
    _, run = SECTIONS["Beside other engines"]
    for name, (queries, documents, latency, error) in table.items():
        found = run["gemma"][NAMES.get(name, name)]
        require_rate(queries, found["loads"]["queries"]["tokens_per_second"])
        require_rate(documents, found["loads"]["documents"]["tokens_per_second"])
        assert float(latency.removesuffix(" ms")) == pytest.approx(found["query_ms_p50"], abs=0.51)
        require_error(error, found["cosine_error"])


@pytest.mark.parametrize(
    ("name", "engines"),
    [
        ("VNNI", ("embergem int8", "OpenVINO int8 (NNCF)", "ONNX Runtime int8")),
        ("AMX", ("embergem int8", "embergem bfloat16", "OpenVINO int8 (NNCF)", "ONNX Runtime int8")),
    ],
)
def test_the_readme_has_the_figures_of_other_processors(name, engines):
    _, run = SECTIONS[f"On a processor with {name}"]
    sentence = next(line for line in README.splitlines() if line.startswith("On two cores") and name in line)
    rates = [run["gemma"][name]["loads"][load]["tokens_per_second"] for name in engines for load in LOADS]
    assert re.findall(r"\d,\d{3}", sentence) == [f"{rate:,.0f}" for rate in rates]
