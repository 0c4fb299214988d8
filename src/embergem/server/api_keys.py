"""API keys: made here, kept as hashes, found without a comparison that takes longer the closer one comes."""

import hashlib
import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping
from hmac import compare_digest

from embergem.config import Key
from embergem.errors import EmbergemError

PREFIX = "eg-"


class Unauthorized(EmbergemError):
    """No key came, or one that is not known."""

    status = 401
    code = "invalid_api_key"


class Forbidden(EmbergemError):
    """The key is known and may not do this."""

    status = 403
    code = "admin_key_required"


def new_key() -> tuple[str, str]:
    """Make a key: what its owner keeps, and the hash that the server keeps.

    A key has 256 random bits, so a plain SHA-256 of it can't be turned back by trying.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    return key, hash_key(key)


def hash_key(key: str) -> str:
    """SHA-256 of a key, in hex."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class KeyRing:
    """The keys of a server; none at all means that it is open. `replace` puts others in their place.

    A server that had keys is never open again: a list that came out empty admits nobody.

    A key is looked for by the first eight digits of its hash, and compared with each that has these in constant time:
    what a timing could tell is 32 bits of a hash, of no use for the other 224.
    """

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._by_start: dict[str, list[Key]] = {}
        self._open = True
        self.replace(keys)

    def replace(self, keys: Iterable[Key]) -> None:
        """Take these keys from now on."""
        found: dict[str, list[Key]] = defaultdict(list)
        for key in keys:
            found[key.sha256[:8].lower()].append(key)
        self._by_start = dict(found)
        self._open = self._open and not found

    @property
    def open(self) -> bool:
        """Whether there never were keys, and anybody may ask."""
        return self._open

    def tasks(self) -> set[str]:
        """Default tasks of all keys."""
        return {key.task for keys in self._by_start.values() for key in keys if key.task is not None}

    def identify(self, headers: Mapping[str, str]) -> Key | None:
        """Return whose key a request brings; None on an open server.

        Raises:
            Unauthorized: There is no key in it, or one that nobody has.
        """
        if self.open:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            given = headers.get("x-api-key", "")
        if not given.strip():
            raise Unauthorized("this server needs an API key: send the header `Authorization: Bearer KEY`")
        digest = hash_key(given.strip())
        matching = [
            key
            for key in self._by_start.get(digest[:8], [])
            if compare_digest(key.sha256.lower().encode(), digest.encode())
        ]
        if not matching:
            raise Unauthorized("this API key is not known here; ask whoever runs the server for one")
        return matching[0]
