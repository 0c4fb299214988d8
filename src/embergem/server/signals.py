"""Signals of `embergem serve`: SIGINT and SIGTERM stop the server, SIGHUP reloads its keys and certificate.

uvicorn handles SIGINT and SIGTERM while it serves. Before and after that, Python would end with a traceback, and the
system would end the process at once. This module imports nothing of the server, so that the handlers are installed
before the server's modules are imported.
"""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

RELOAD = getattr(signal, "SIGHUP", None)
"""The signal to reload; None on Windows."""


class Signals:
    """Signal handlers, as a context around all that the server's process does.

    Until `stop_with` is called, SIGINT and SIGTERM end the process with exit code 0: nothing is served yet. A SIGHUP
    that comes before `reload_with` is called is remembered.
    """

    def __init__(self) -> None:
        self._stop: Callable[[], object] | None = None
        self._reload: Callable[[], object] | None = None
        self._reload_pending = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_stop)
        if RELOAD is not None:
            self._before[RELOAD] = signal.signal(RELOAD, self._on_reload)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stop_with(self, stop: Callable[[], object]) -> None:
        """Call `stop` on SIGINT and SIGTERM from now on."""
        self._stop = stop

    def reload_with(self, reload: Callable[[], object] | None) -> None:
        """Call `reload` on SIGHUP from now on, and now if a SIGHUP is pending. None only remembers the signal."""
        self._reload = reload
        if reload is not None and self._reload_pending:
            self._reload_pending = False
            reload()

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        if self._stop is None:
            raise SystemExit(0)
        self._stop()

    def _on_reload(self, number: int, frame: FrameType | None) -> None:
        if self._reload is None:
            self._reload_pending = True
        else:
            self._reload()
