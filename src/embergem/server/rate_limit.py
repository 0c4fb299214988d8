"""What one key may ask for: requests and tokens a minute, and requests at once.

Tokens are charged when they are known, which is when a text was tokenized and before it is queued: a key may overdraw
its minute by one request, and then waits until the debt is paid. What was queued is paid for, whatever becomes of it.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from embergem.config import Key
from embergem.errors import TryLater


class RateLimited(TryLater):
    """The key's own limit."""

    status = 429
    code = "rate_limit_exceeded"


@dataclass(slots=True)
class Bucket:
    """Fills at `per_minute`, up to a minute's worth; what is taken may make it negative."""

    per_minute: int
    level: float
    since: float

    def wait(self, now: float, least: float) -> float:
        """Fill it up, and return how many seconds are missing until it holds `least`."""
        self.level = min(float(self.per_minute), self.level + (now - self.since) * self.per_minute / 60)
        self.since = now
        return max(0.0, (least - self.level) * 60 / self.per_minute)


@dataclass(slots=True)
class _Account:
    requests: Bucket | None
    tokens: Bucket | None
    running: int = 0
    limits: tuple[int | None, int | None] = (None, None)


class Limiter:
    """Accounts of keys, by name; a change of a key's limits opens a new one. Thread-safe: texts are tokenized on any.

    Args:
        clock: Seconds of a clock that only goes forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    def begin(self, key: Key) -> None:
        """Let a request of `key` begin; each that began must `end`.

        Raises:
            RateLimited: It is too much or too soon.
        """
        with self._lock:
            account, now = self._account(key), self._clock()
            if key.concurrency is not None and account.running >= key.concurrency:
                raise RateLimited(
                    f"the key {key.name!r} has {account.running} requests running, as many as it may; wait for one of "
                    "them",
                    # When one ends nobody knows: it may be a stream of another server, or wait behind other keys. One
                    # second is the shortest wait that the header can say.
                    retry_after=1,
                )
            _require(key, account.requests, "requests", now, 1.0)
            _require(key, account.tokens, "tokens", now, 0.0)
            if account.requests is not None:
                account.requests.level -= 1
            account.running += 1

    def charge(self, key: Key, tokens: int) -> None:
        """Take tokens that a request is about to cost, all of them if none are owed.

        Raises:
            RateLimited: Others overdrew the minute since this request began.
        """
        with self._lock:
            account = self._account(key)
            _require(key, account.tokens, "tokens", self._clock(), 0.0)
            if account.tokens is not None:
                account.tokens.level -= tokens

    def end(self, key: Key) -> None:
        """Note that a request that began is over: its answer was sent, or there will be none."""
        with self._lock:
            account = self._account(key)
            account.running = max(0, account.running - 1)

    def _account(self, key: Key) -> _Account:
        limits = (key.requests_per_minute, key.tokens_per_minute)
        account = self._accounts.get(key.name)
        if account is None or account.limits != limits:
            now = self._clock()
            requests, tokens = (Bucket(limit, float(limit), now) if limit else None for limit in limits)
            running = account.running if account is not None else 0
            account = self._accounts[key.name] = _Account(requests, tokens, running, limits)
        return account


def _require(key: Key, bucket: Bucket | None, what: str, now: float, least: float) -> None:
    if bucket is not None and (wait := bucket.wait(now, least)) > 0:
        raise RateLimited(
            f"the key {key.name!r} has used its {bucket.per_minute} {what} a minute; ask again in {math.ceil(wait)} s",
            retry_after=wait,
        )
