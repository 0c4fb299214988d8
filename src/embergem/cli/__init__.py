"""The command `embergem`: one module a subcommand, each loading what it needs when it runs."""

import sys


def main() -> None:
    """Run the command line. Errors are one line on stderr; exit codes are those of `embergem --help`."""
    from embergem.cli.app import app, report

    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        sys.exit(report(error))
