"""Check the sizes of modules: print those over 300 lines and the total; fail if a module has more than 500 lines."""

import subprocess
import sys
from pathlib import Path

WARN, LIMIT = 300, 500


def main() -> int:
    """Count the lines of every tracked source file."""
    listed = subprocess.run(["git", "ls-files", "*.py", "*.rs"], capture_output=True, text=True, check=True)
    counts = {name: len(Path(name).read_text().splitlines()) for name in listed.stdout.split() if Path(name).exists()}
    for name, lines in sorted(counts.items(), key=lambda item: -item[1]):
        if lines > WARN:
            print(f"{lines:5} {name}{' (too long)' if lines > LIMIT else ''}")
    print(f"{sum(counts.values()):5} lines in {len(counts)} files")
    return int(any(lines > LIMIT for lines in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
