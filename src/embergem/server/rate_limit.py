"""Rate limits of API keys: requests a minute, tokens a minute, and concurrent requests.

The number of tokens is known after tokenization, so tokens are charged then, before the request is queued. One request
can therefore overdraw a key's minute; the key's next requests are rejected until the debt is paid back. Tokens of
queued requests are charged whether the client waits for the response or not.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from embergem.config import Key
from embergem.errors import TryLater


class RateLimited(TryLater):
    """The key has reached one of its limits."""

    status = 429
    code = "rate_limit_exceeded"


@dataclass(slots=True)
class TokenBucket:
    """A bucket that fills at `per_minute`, up to the amount of one minute; its level may become negative."""

    per_minute: int
    level: float
    updated: float

    def seconds_until(self, least: float, now: float) -> float:
        """Fill the bucket up to the time `now`; return the seconds until it holds `least`."""
        self.level = min(float(self.per_minute), self.level + (now - self.updated) * self.per_minute / 60)
        self.updated = now
        return max(0.0, (least - self.level) * 60 / self.per_minute)


@dataclass(slots=True)
class _Account:
    requests: TokenBucket | None
    tokens: TokenBucket | None
    running: int = 0
    limits: tuple[int | None, int | None] = (None, None)


class RateLimiter:
    """Counts what each API key uses. Thread-safe, because tokens are charged on the thread that tokenizes.

    A key whose limits change (SIGHUP) starts with full buckets.

    Args:
        clock: Returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    def acquire(self, key: Key) -> None:
        """Admit a request of `key`; each admitted request must `release`.

        Raises:
            RateLimited: The key has reached one of its limits.
        """
        with self._lock:
            account, now = self._account(key), self._clock()
            if key.concurrency is not None and account.running >= key.concurrency:
                raise RateLimited(
                    f"The API key {key.name!r} has {account.running} requests running, the most that it may have. Send "
                    "this request when one of them is done.",
                    # When a running request ends is unknown, so the header gives the shortest wait it can express.
                    retry_after=1,
                )
            _require(key, account.requests, "requests", 1.0, now)
            _require(key, account.tokens, "tokens", 0.0, now)
            if account.requests is not None:
                account.requests.level -= 1
            account.running += 1

    def charge(self, key: Key, tokens: int, *, spare: float = 0.0) -> None:
        """Charge the tokens of a request, all of them if the key has no debt.

        `spare` is the share of a minute's tokens that must be left for other requests before this one.

        Raises:
            RateLimited: Other requests overdrew the key's minute since this request was admitted, or too few are left.
        """
        with self._lock:
            account = self._account(key)
            least = spare * key.tokens_per_minute if key.tokens_per_minute else 0.0
            _require(key, account.tokens, "tokens", least, self._clock())
            if account.tokens is not None:
                account.tokens.level -= tokens

    def release(self, key: Key) -> None:
        """Count one running request less: its response was sent, or it has none."""
        with self._lock:
            account = self._account(key)
            account.running = max(0, account.running - 1)

    def _account(self, key: Key) -> _Account:
        limits = (key.requests_per_minute, key.tokens_per_minute)
        account = self._accounts.get(key.name)
        if account is None or account.limits != limits:
            now = self._clock()
            requests, tokens = (TokenBucket(limit, float(limit), now) if limit else None for limit in limits)
            running = account.running if account is not None else 0
            account = self._accounts[key.name] = _Account(requests, tokens, running, limits)
        return account


def _require(key: Key, bucket: TokenBucket | None, unit: str, least: float, now: float) -> None:
    if bucket is not None and (wait := bucket.seconds_until(least, now)) > 0:
        raise RateLimited(
            f"The API key {key.name!r} has used its {bucket.per_minute} {unit} a minute. Try again in "
            f"{math.ceil(wait)} s.",
            retry_after=wait,
        )
