"""`SteadyClock`: the time of day, for what must not happen too early when the clock of the machine jumps.

Separate because the tests of expiry replace it.
"""

import time


class SteadyClock:
    """Seconds since 1970: of the clock, but never more than have passed since the start of this process.

    A clock that is set forward by mistake would delete files. With this one they are kept until the time has passed, or
    the server is started again.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        """Return the time."""
        return min(time.time(), self._offset + time.monotonic())
