"""The command `embergem`: one module a subcommand. Numeric and hub libraries are imported when a command runs."""

import shutil
import signal
import sys


def main() -> None:
    """Run the command line. An error is printed as one line on stderr; `embergem --help` lists the exit codes."""
    if sys.argv[1:2] == ["serve"] and hasattr(signal, "SIGHUP"):
        # The system would end the process. Until the server has read its keys, there is nothing to reload.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    from embergem.cli.app import assemble, fit_help, report

    program = assemble(sys.argv[1:])
    fit_help(program, shutil.get_terminal_size().columns)
    try:
        program(standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        sys.exit(report(error))
