"""Whether a request comes from a program on the server's own machine: who may be its admin without a key."""

from ipaddress import ip_address

from starlette.requests import Request as HttpRequest

from embergem.server.api_keys import Forbidden

MAKE_ONE = "make one with `embergem keys new NAME --admin`"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
PROXIED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""Headers that proxies add."""


def require_local(http: HttpRequest, host: str) -> None:
    """Refuse what does not come from a program on this machine, as far as can be told without a key.

    A name that was made to point here (DNS rebinding) is in `Host`, a page in a browser in `Origin`, whether CORS lets
    it ask or not. A proxy on this machine is seen by the headers that most of them add; see docs/operations.md.

    Raises:
        Forbidden: Saying what it is.
    """
    headers, peer = http.headers, http.client.host if http.client else ""
    name, origin = headers.get("host", ""), headers.get("origin")
    proxied = next((header for header in PROXIED if header in headers), None)
    if host not in LOOPBACK:
        why = f"listens on {host}"
    elif not is_loopback(peer):
        why = f"was asked from {peer}"
    elif not is_loopback(without_port(name)):
        why = f"was asked as {name!r}"
    elif origin is not None and origin != f"http://{name}":
        why = f"was asked by a page of {origin!r}"
    elif proxied is not None:
        why = f"was asked through a proxy (it sent {proxied})"
    else:
        return
    raise Forbidden(f"this server has no keys and {why}, so this is not its admin; {MAKE_ONE}")


def is_loopback(host: str) -> bool:
    """Whether a name or address always means this machine."""
    try:
        return host.lower() == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def without_port(host: str) -> str:
    """The name or address in a `Host` header.

    >>> without_port("localhost:1234"), without_port("[::1]:1234"), without_port("::1")
    ('localhost', '::1', '::1')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host if host.count(":") > 1 else host.partition(":")[0]
