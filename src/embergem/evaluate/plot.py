"""Draws the loss of each form of vectors over its bytes, as SVG or PNG, with matplotlib.

matplotlib is in the extra `eval` and is imported only to draw. It places axes, error bars and labels for any range of
values, in both formats; an SVG writer of our own would have to do the same again.
"""

from pathlib import Path

from embergem.errors import UnsupportedOption
from embergem.evaluate.report import Form, Report
from embergem.keywords import checked_keywords

SUFFIXES = (".svg", ".png")
"""Suffixes of the files that can be written."""

SHIFT = 1.03
"""Factor between the places of two forms of the same size, so that their bars do not cover each other."""


def require_plot(path: Path) -> None:
    """Check that a plot can be written, before anything is computed.

    Raises:
        UnsupportedOption: The suffix is unknown, the directory does not exist, or matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UnsupportedOption(
            f"plot={path}: the format {path.suffix or 'without a suffix'} is not drawn. Use one of: "
            f"{', '.join(SUFFIXES)}.",
            param="plot",
        )
    if not path.absolute().parent.is_dir():
        raise UnsupportedOption(
            f"plot={path}: there is no directory {path.parent}. Create it first: mkdir -p {path.parent}", param="plot"
        )
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UnsupportedOption(
            "plot needs the package matplotlib. Install it: pip install 'embergem[eval]'", param="plot"
        ) from error


@checked_keywords
def draw(report: Report, path: str | Path) -> None:
    """Draw the loss of the main measure over the bytes of a vector; the bars are the bootstrap intervals.

    Equal reports give equal bytes.

    Raises:
        UnsupportedOption: As `require_plot`.
    """
    path = Path(path)
    require_plot(path)
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(dict.fromkeys(form.storage for form in report.forms)):
        forms = sorted((form for form in report.forms if form.storage == name), key=lambda form: form.dimensions)
        sizes = [form.searched_bytes * SHIFT**place for form in forms]
        losses = [form.losses[report.main].value for form in forms]
        axes.errorbar(sizes, losses, yerr=_bars(forms, report.main), marker="o", markersize=4, capsize=2, label=name)
        for form, size, value in zip(forms, sizes, losses, strict=True):
            axes.annotate(str(form.dimensions), (size, value), (4, 4), textcoords="offset points", fontsize=7)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel("bytes of a vector that a search reads (labels: dimensions)")
    axes.set_ylabel(f"loss of {report.main}")
    full = report.full.values[report.main].value
    axes.set_title(f"{report.model}, {report.source}: {report.main} of full float32 vectors {full:.3f}", fontsize=9)
    axes.grid(alpha=0.3)
    figure.legend(fontsize=8, loc="outside right upper")
    svg = path.suffix.lower() == ".svg"
    with mpl.rc_context({"svg.hashsalt": "embergem"}):  # the ids in an SVG file are random without a fixed salt
        figure.savefig(path, dpi=150, metadata={"Date": None} if svg else {"Software": None})


def _bars(forms: list[Form], measure: str) -> list[list[float]]:
    """Return the distances of the bounds from the losses, below and above; 0 where a bound is unknown."""
    estimates = [form.losses[measure] for form in forms]
    below = [0.0 if found.low is None else max(0.0, found.value - found.low) for found in estimates]
    above = [0.0 if found.high is None else max(0.0, found.high - found.value) for found in estimates]
    return [below, above]
