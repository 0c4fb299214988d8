"""`Assembly`: writes the output on a thread of its own, and while rows are still computed if the format allows it."""

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from embergem.bulk.job_identity import finished_part
from embergem.bulk.job_store import JobStore, raise_for
from embergem.bulk.writers import Describe, FinishedPart

Write = Callable[[Iterator[FinishedPart], Describe], None]
"""Writes an output from its parts."""


class _Stopped(Exception):
    """The job ended before all parts were finished."""


class Assembly:
    """Writes the output of a job from its parts as they are finished. A format that asks for the metadata first waits.

    Args:
        store: The job.
        width: Numbers of a vector.
        output: The output, for errors.
        write: Writes the output; it leaves nothing behind if its parts raise an error.
        describe: Returns the metadata, once all parts are finished.
    """

    def __init__(self, store: JobStore, width: int, output: Path, write: Write, describe: Describe) -> None:
        self._store = store
        self._width = width
        self._output = output
        self._write = write
        self._describe = describe
        self._changed = threading.Condition()
        self._complete = self._stopped = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="embergem bulk assembly", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look for new parts: one was finished."""
        with self._changed:
            self._changed.notify_all()

    def check(self) -> None:
        """Raise the error of the thread."""
        if self._failure is not None:
            raise self._failure

    def finish(self) -> None:
        """Say that all parts are finished, and wait for the output; raises the error of the thread."""
        self._complete = True
        self.wake()
        self._thread.join()
        self.check()

    def stop(self) -> None:
        """End without an output, and wait for the thread."""
        self._stopped = True
        self.wake()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._write(self._parts(), self._described)
        except _Stopped:
            pass
        except OSError as error:
            try:
                raise_for(error, self._output)
            except Exception as reason:
                self._failure = reason
        except BaseException as error:  # raised again on the thread of the job
            self._failure = error

    def _parts(self) -> Iterator[FinishedPart]:
        records = self._store.records
        number = 0
        while True:
            self._wait(number + 1)
            if number == len(records):
                return
            yield finished_part(self._store, records[number], self._width)
            number += 1

    def _described(self) -> Mapping[str, Any]:
        self._wait(None)
        return self._describe()

    def _wait(self, count: int | None) -> None:
        """Wait until so many parts are finished, or all of them."""

        def ready() -> bool:
            return self._stopped or self._complete or (count is not None and len(self._store.records) >= count)

        with self._changed:
            self._changed.wait_for(ready)
        if self._stopped:
            raise _Stopped
