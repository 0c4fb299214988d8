"""Refuses to use an engine in a forked child process, which has the engine's memory but none of its threads.

Without the check, a request in the child would wait for ever.

Separate because the state belongs to the process, not to an engine, and loading and submitting both check it.
"""

import os

from embergem.errors import ForkedProcess

_owner_pid: int | None = None
"""Process that loaded the first engine and has the compute threads; None before that."""


def claim() -> None:
    """Record that this process has the compute threads.

    Raises:
        ForkedProcess: This process was forked, and its parent has the threads.
    """
    global _owner_pid
    check()
    _owner_pid = os.getpid()


def check() -> None:
    """Refuse to continue in a process that was forked from one that had loaded a model.

    Raises:
        ForkedProcess: This process was forked from such a process.
    """
    if _owner_pid is not None and _owner_pid != os.getpid():
        raise ForkedProcess(
            f"process {os.getpid()} was forked from process {_owner_pid} after that process had loaded a model; the "
            "compute threads exist in the parent only. Load models after the fork, or start processes with the "
            '"spawn" method: multiprocessing.get_context("spawn")'
        )


def forked() -> bool:
    """Return whether this process was forked from one that had loaded a model."""
    return _owner_pid is not None and _owner_pid != os.getpid()
