"""Check a built documentation site: python scripts/check_site.py build/docs.

Each internal link leads to a file and an anchor that exist, each image has an alternative text, and no page, style
sheet, script or picture loads anything from another server. The site then works on a machine without a network.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ASSETS = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
"""Attributes that a browser loads. A link element counts unless its `rel` is one of the next line."""
NOT_LOADED = {"canonical", "next", "prev", "search", "index", "author", "help", "license"}
LOADS = re.compile(
    r"""(?:url\(\s*|@import\s+(?:url\()?|\b(?:src|href)\s*=\s*|\b(?:fetch|import|Worker)\s*\(\s*)["']?(?:https?:)?//"""
)
"""An address on another server in a style sheet, a script or an SVG."""


class Page(HTMLParser):
    """The anchors, links, loaded addresses and images of an HTML page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.without_alt: list[str] = []
        self.inline = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record what an element refers to."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        self.inline += values.get("style", "") + "\n"
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "img" and not values.get("alt", "").strip():
            self.without_alt.append(values.get("src", ""))
        if tag in ASSETS and values.get(ASSETS[tag]) and values.get("rel") not in NOT_LOADED:
            self.loaded.append(values[ASSETS[tag]])

    def handle_data(self, data: str) -> None:
        """Keep the text of style and script elements."""
        if self.cdata_elem:
            self.inline += data


def faults(site: Path) -> list[str]:
    """Return a sentence for each fault of the site in the directory `site`."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = [] if pages else [f"{site} has no HTML page."]
    for path, page in pages.items():
        name = path.relative_to(site)
        found += [f"{name}: the image {image} has no alternative text." for image in page.without_alt]
        found += [f"{name}: {address} is on another server." for address in page.loaded if outside(address)]
        found += [f"{name}: a style or script loads from another server." for _ in LOADS.findall(page.inline)]
        for link in page.links + [address for address in page.loaded if not outside(address)]:
            if reason := broken(link, path, pages):
                found.append(f"{name}: the link {link} is broken: {reason}.")
    for path in sorted(site.rglob("*")):
        if path.suffix in (".css", ".js", ".svg") and LOADS.search(path.read_text(encoding="utf-8")):
            found.append(f"{path.relative_to(site)} loads from another server.")
    return found


def outside(address: str) -> bool:
    """Return whether an address is on another server."""
    return bool(urlsplit(address).netloc)


def broken(link: str, path: Path, pages: dict[Path, Page]) -> str:
    """Return why a link of the page at `path` is broken, or "" if it is not, or if it leaves the site."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return ""
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return "there is no such file"
    anchor = unquote(parts.fragment)
    return "the page has no such anchor" if anchor and target in pages and anchor not in pages[target].anchors else ""


def main(site: Path) -> int:
    """Print the faults of the site; return 1 if there is one."""
    found = faults(site.resolve())
    print("\n".join(found) or f"{site}: links, alternative texts and assets are in order")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
