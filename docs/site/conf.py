"""Build the documentation site with Sphinx: `make docs`.

The source folder is the repository, so that links between docs/, README.md and CONTRIBUTING.md are checked as links
between pages. The pages are plain Markdown without directives, because they are read on a forge, too. The navigation is
therefore defined here, and added to docs/index.md when the page is read.
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

ROOT = Path(__file__).parents[2]
LOG = logging.getLogger(__name__)

NAVIGATION = {
    "Start": [
        "docs/quickstart",
        "docs/install",
        "docs/prompts",
        "docs/models",
        "docs/migration",
        "docs/troubleshooting",
    ],
    "Use": [
        "docs/playground",
        "docs/cli",
        "docs/python",
        "docs/http",
        "docs/rust",
        "docs/integrations",
        "docs/evaluate",
    ],
    "Run": ["docs/operations", "docs/bulk", "docs/scaling", "docs/performance", "docs/trust"],
    "Look up": ["docs/api", "docs/compatibility", "docs/format", "CHANGELOG"],
    "Develop": ["docs/architecture", "docs/structure", "CONTRIBUTING", "SECURITY", "README"],
}
"""Groups of the sidebar, with the pages of each. A page that is not written yet is left out."""
TITLES = {"docs/compatibility": "Compatibility", "README": "README"}
"""Names in the sidebar of pages whose own titles are long, or say nothing beside the others."""

project = "embergem"
author = "the embergem contributors"
version = re.findall(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(encoding="utf-8"), flags=re.MULTILINE)[0]
release = version

extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md"]
exclude_patterns = [".*", "benchmarks", "build", "crates", "deploy", "dist", "docs/site", "examples", "requirements"]
exclude_patterns += ["scripts", "src", "target", "tests", "web"]

myst_heading_anchors = 6
myst_links_external_new_tab = False
nitpicky = True
smartquotes = False

html_theme = "furo"
html_title = "embergem"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_search_scorer = str(ROOT / "docs" / "site" / "search.js")
html_extra_path = ["extra"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_domain_indices = False
html_use_index = False
highlight_language = "none"
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
html_theme_options = {"top_of_page_buttons": [], "navigation_with_keys": True}


def prepare(app: Sphinx, page: str, source: list[str]) -> None:
    """Add the navigation to the index, and turn links that the site has no page for into their text.

    These are links to directories and to Markdown files outside the site. A link to a file that does not exist stays,
    so that it fails the build.
    """
    folder = (ROOT / page).parent

    def keep_or_unlink(link: re.Match[str]) -> str:
        target = (folder / link["target"]).resolve()
        outside = target.suffix == ".md" and target.exists() and app.project.path2doc(target) not in app.env.found_docs
        return link["text"] if target.is_dir() or outside else link[0]

    source[0] = re.sub(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>(?!\w+:)[^)\s#]+)\)", keep_or_unlink, source[0])
    if page == root_doc:
        for caption, pages in NAVIGATION.items():
            written = [name for name in pages if (ROOT / f"{name}.md").exists()]
            entries = "\n".join(f"{TITLES[name]} </{name}>" if name in TITLES else f"/{name}" for name in written)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```\n"


def require_alternative_texts(app: Sphinx, document: nodes.document) -> None:
    """Warn of each image without an alternative text; a warning fails the build."""
    for image in document.findall(nodes.image):
        if not image.get("alt", "").strip():
            LOG.warning("The image %s has no alternative text.", image["uri"], location=image)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the two functions above."""
    app.connect("source-read", prepare)
    app.connect("doctree-read", require_alternative_texts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
