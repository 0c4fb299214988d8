"""scripts/check_site.py finds the faults of a built site; `make docs` runs it on the real one."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from check_site import faults  # noqa: E402 - the scripts are no package


@pytest.fixture
def site(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "plot.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"></svg>')
    (tmp_path / "site.css").write_text("a { background: url(plot.svg) }  /* https://example.org */")
    (tmp_path / "docs" / "http.html").write_text('<h2 id="limits">Limits</h2><a href="../index.html#top">up</a>')
    (tmp_path / "index.html").write_text(
        '<link rel="stylesheet" href="site.css"><p id="top"><img src="plot.svg" alt="Speed by length">'
        '<a href="docs/http.html#limits">limits</a> <a href="https://example.org">elsewhere</a>'
    )
    return tmp_path


def test_a_site_in_order_has_no_faults(site):
    assert faults(site) == []


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        (
            "index.html",
            '<a href="docs/gone.html">',
            "index.html: the link docs/gone.html is broken: there is no such file.",
        ),
        ("index.html", '<a href="#gone">', "index.html: the link #gone is broken: the page has no such anchor."),
        (
            "index.html",
            '<a href="docs/http.html#gone">',
            "index.html: the link docs/http.html#gone is broken: the page has no such anchor.",
        ),
        ("index.html", '<img src="plot.svg">', "index.html: the image plot.svg has no alternative text."),
        (
            "index.html",
            '<img src="gone.svg" alt="a">',
            "index.html: the link gone.svg is broken: there is no such file.",
        ),
        ("index.html", '<script src="//cdn.example/a.js">', "index.html: //cdn.example/a.js is on another server."),
        (
            "index.html",
            '<link rel="preconnect" href="https://fonts.example">',
            "index.html: https://fonts.example is on another server.",
        ),
        (
            "index.html",
            "<style>@import url('https://fonts.example/a.css')</style>",
            "index.html: a style or script loads from another server.",
        ),
        ("site.css", "@font-face { src: url(https://fonts.example/a.woff2) }", "site.css loads from another server."),
        ("search.js", 'fetch("https://search.example/")', "search.js loads from another server."),
        ("plot.svg", '<svg><image href="http://example.org/a.png"/></svg>', "plot.svg loads from another server."),
    ],
)
def test_a_fault_is_found(site, name, text, fault):
    path = site / name
    path.write_text((path.read_text() if path.exists() else "") + text)
    assert faults(site) == [fault]


def test_an_empty_directory_is_no_site(tmp_path):
    assert faults(tmp_path) == [f"{tmp_path} has no HTML page."]


def test_the_navigation_has_every_page():
    """Sphinx warns of a page outside the navigation, too; this test needs no Sphinx."""
    conf = ast.parse((ROOT / "docs" / "site" / "conf.py").read_text(encoding="utf-8"))
    [navigation] = [
        ast.literal_eval(statement.value)
        for statement in conf.body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "NAVIGATION"
    ]
    pages = [page for group in navigation.values() for page in group]
    found = [f"docs/{path.stem}" for path in (ROOT / "docs").glob("*.md") if path.name != "index.md"]
    found += [path.stem for path in ROOT.glob("*.md")]
    assert len(pages) == len(set(pages))
    assert [page for page in found if page not in pages] == []
