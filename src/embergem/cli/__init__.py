"""The command `embergem`: one module a subcommand. Numeric and hub libraries are imported when a command runs."""

import gc
import shutil
import signal
import sys

COLLECT_AFTER = 50_000
"""New objects after which Python looks for reference cycles, instead of 700. Imports make several times as many, which
all stay."""


def main() -> None:
    """Run the command line. An error is printed as one line on stderr; `embergem --help` lists the exit codes."""
    if sys.argv[1:2] == ["serve"] and hasattr(signal, "SIGHUP"):
        # The system would end the process. Until the server has read its keys, there is nothing to reload.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if sys.argv[1:2] != ["serve"]:  # a server runs so long that its memory counts for more than its start
        gc.set_threshold(COLLECT_AFTER)

    from embergem.cli.app import assemble, fit_help, report

    program = assemble(sys.argv[1:])
    fit_help(program, shutil.get_terminal_size().columns)
    try:
        program(standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        sys.exit(report(error))
    finally:
        gc.freeze()  # the interpreter ends without looking for cycles in all modules
