"""API keys: creating a key, and looking up the key of a request by its hash."""

import hashlib
import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping
from hmac import compare_digest

from embergem.config import Key
from embergem.errors import EmbergemError

PREFIX = "eg-"


class Unauthorized(EmbergemError):
    """The request has no API key, or an unknown one."""

    status = 401
    code = "invalid_api_key"


class Forbidden(EmbergemError):
    """The client may not use this operation."""

    status = 403
    code = "admin_key_required"


def new_key() -> tuple[str, str]:
    """Create a key; return the key, which its owner keeps, and its hash, which the server keeps.

    A key has 256 random bits, so its plain SHA-256 cannot be inverted by trying keys.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    return key, hash_key(key)


def hash_key(key: str) -> str:
    """Return the SHA-256 of a key as hex digits."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class KeyStore:
    """The API keys of a server. A server that never had a key is open: it accepts requests without one.

    A server that had keys never becomes open again: after `replace` with an empty list it rejects every request.

    Keys are indexed by the first eight digits of their hash, and the rest of the hash is compared in constant time.
    Timing can therefore reveal at most 32 bits of a hash, which do not help to find the other 224.

    Attributes:
        open: Whether the store never had a key.
    """

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self.open = True
        self._by_prefix: dict[str, list[Key]] = {}
        self._by_name: dict[str, Key] = {}
        self.replace(keys)

    def replace(self, keys: Iterable[Key]) -> None:
        """Use these keys instead of the present ones."""
        by_prefix: dict[str, list[Key]] = defaultdict(list)
        by_name: dict[str, Key] = {}
        for key in keys:
            by_name[key.name] = key
            by_prefix[key.sha256[:8].lower()].append(key)
        self._by_prefix, self._by_name = dict(by_prefix), by_name
        self.open = self.open and not by_prefix

    def named(self, name: str) -> Key | None:
        """Return the key with a name; None if there is none."""
        return self._by_name.get(name)

    def default_tasks(self) -> set[str]:
        """Return the default tasks of all keys."""
        return {key.task for keys in self._by_prefix.values() for key in keys if key.task is not None}

    def identify(self, headers: Mapping[str, str]) -> Key | None:
        """Return the key in the headers of a request; None on an open server.

        Raises:
            Unauthorized: The headers have no key, or an unknown one.
        """
        if self.open:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            given = headers.get("x-api-key", "")
        if not given.strip():
            raise Unauthorized("This server needs an API key. Send the header `Authorization: Bearer KEY`.")
        digest = hash_key(given.strip())
        for key in self._by_prefix.get(digest[:8], []):
            if compare_digest(key.sha256.lower().encode(), digest.encode()):
                return key
        raise Unauthorized("This server does not know the API key of the request. Ask its administrator for a key.")
