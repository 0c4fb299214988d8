"""The pictures in docs/ are those that the scripts draw, and can be read in both themes without outside assets."""

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "benchmarks")]

import pictures  # noqa: E402 - the scripts are no package
import plot  # noqa: E402
from svg import STYLE  # noqa: E402

DRAWN = sorted([*(ROOT / "docs" / "pictures").glob("*.svg"), *(ROOT / "docs" / "plots").glob("*.svg")])


def test_pictures_are_not_stale(tmp_path):
    pictures.main(tmp_path / "pictures")
    plot.main(plot.shown(), tmp_path / "plots")
    drawn = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.svg")}
    kept = {path.relative_to(ROOT / "docs").as_posix(): path.read_text() for path in DRAWN}
    assert kept == drawn, "run `make pictures`"


@pytest.mark.parametrize("path", DRAWN, ids=lambda path: path.name)
def test_a_picture_is_well_formed_and_within_its_frame(path):
    root = ElementTree.parse(path).getroot()
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for element in root.iter():
        for name in ("x", "cx"):
            assert 0 <= float(element.get(name, 0)) <= width
        for name in ("y", "cy"):
            assert 0 <= float(element.get(name, 0)) <= height
    assert re.findall(r"https?://", path.read_text()) == ["http://"]  # the name space, which nothing loads


def test_every_class_has_a_colour_in_the_dark_theme():
    light, dark = STYLE.split("@media (prefers-color-scheme: dark)")
    coloured = re.findall(r"^\.?([\w-]+) \{[^}]*#[0-9a-f]{6}", light, flags=re.MULTILINE)
    assert [name for name in coloured if not re.search(rf"\b{name} \{{", dark)] == []


def test_every_picture_is_shown_on_a_page():
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    assert [path.name for path in DRAWN if f"({path.parent.name}/{path.name})" not in pages] == []
