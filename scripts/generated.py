"""Generated pages: write one, or with --check compare the file with what would be written."""

import sys
from pathlib import Path


def write_or_check(page: Path, text: str, target: str) -> int:
    """Write `text` to `page` and return 0. With --check on the command line write nothing; return 1 if `page` differs.

    `target` is the make target that writes the page, for the message.
    """
    if "--check" not in sys.argv[1:]:
        page.write_text(text, encoding="utf-8")
        return 0
    stale = not page.exists() or page.read_text(encoding="utf-8") != text
    print(f"{page.name} is {f'stale: run `make {target}`' if stale else 'up to date'}")
    return int(stale)
