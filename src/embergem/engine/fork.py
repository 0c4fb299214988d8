"""What a fork leaves behind: the child has the engine's memory and none of its threads, and would wait for ever."""

import os

from embergem.errors import ForkedProcess

_threads_of: int | None = None


def claim() -> None:
    """Note that the threads of embergem belong to this process.

    Raises:
        ForkedProcess: They belong to the parent that this process was forked from.
    """
    global _threads_of
    check()
    _threads_of = os.getpid()


def check() -> None:
    """Refuse to go on in a child of the process whose threads would have to do the work."""
    if forked():
        raise ForkedProcess(
            f"process {os.getpid()} was forked from process {_threads_of} after that had loaded a model: the threads "
            "that compute stayed there. Load models after the fork only, or start processes with the 'spawn' method: "
            'multiprocessing.get_context("spawn")'
        )


def forked() -> bool:
    """Whether this process is a fork of one that had loaded a model."""
    return _threads_of is not None and _threads_of != os.getpid()
