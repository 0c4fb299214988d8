"""The command `embergem`: one module a subcommand. Numeric and hub libraries are imported when a command runs."""

import sys


def main() -> None:
    """Run the command line. An error is printed as one line on stderr; `embergem --help` lists the exit codes."""
    from embergem.cli.app import app, report

    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        sys.exit(report(error))
