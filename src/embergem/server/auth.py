"""Authorisation of admin operations: an admin key, or on a server without keys a program on the same machine.

A server without keys lets programs on the same machine use the admin operations. Web pages and clients behind a proxy
can also reach a loopback address, so `require_local` checks the `Host` and `Origin` headers and the headers of proxies.
"""

from ipaddress import ip_address

from starlette.requests import Request as HttpRequest

from embergem.server.api_keys import Forbidden
from embergem.server.state import RequestContext

CREATE_ADMIN_KEY = "Create an admin key with `embergem keys new NAME --admin`."
LOOPBACK = ("127.0.0.1", "::1", "localhost")
PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""Headers that proxies add."""


class WrongMediaType(Forbidden):
    """An admin request without the content type of JSON, which a web page could send without a CORS preflight."""

    status = 415
    code = "unsupported_media_type"


def require_admin(context: RequestContext) -> None:
    """Reject a request for an admin operation unless its client is an admin.

    Raises:
        Forbidden: The API key is not an admin key; or the server has no keys and the client is not local.
        WrongMediaType: The request does not have the content type of JSON. A browser asks the server (CORS preflight)
            before it sends that content type for a page of another origin.
    """
    http, key = context.http, context.key
    if key is None:
        require_local(http, context.state.settings.host or LOOPBACK[0])
    elif not key.admin:
        raise Forbidden(f"The API key {key.name!r} is not an admin key. {CREATE_ADMIN_KEY}")
    media_type = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if http.method == "POST" and media_type != "application/json":
        raise WrongMediaType("Send the header `Content-Type: application/json`.")


def require_local(http: HttpRequest, host: str) -> None:
    """Reject a request that does not come from a program on this machine.

    `host` is the address that the server listens on. The `Host` header reveals a host name that an attacker points to
    this machine (DNS rebinding). The `Origin` header reveals a web page, even if CORS allows the page. Headers that
    most proxies add reveal a proxy on this machine; docs/operations.md says what to do about other proxies.

    Raises:
        Forbidden: The message says which check failed.
    """
    headers, peer = http.headers, http.client.host if http.client else ""
    name, origin = headers.get("host", ""), headers.get("origin")
    proxy_header = next((header for header in PROXY_HEADERS if header in headers), None)
    if host not in LOOPBACK:
        reason = f"the server listens on {host}"
    elif not is_loopback(peer):
        reason = f"the request comes from {peer}"
    elif not is_loopback(without_port(name)):
        reason = f"the Host header is {name!r}"
    elif origin is not None and origin != f"{http.url.scheme}://{name}":
        reason = f"the request comes from a web page of {origin!r}"
    elif proxy_header is not None:
        reason = f"the request comes through a proxy (it has the header {proxy_header})"
    else:
        return
    raise Forbidden(
        f"This server has no API keys, so only programs on the same machine may manage models, and {reason}. "
        f"{CREATE_ADMIN_KEY}"
    )


def is_loopback(host: str) -> bool:
    """Return whether a host name or address always means this machine."""
    try:
        return host.lower() == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def without_port(host: str) -> str:
    """Return the host name or address of a `Host` header.

    >>> without_port("localhost:1234"), without_port("[::1]:1234"), without_port("::1")
    ('localhost', '::1', '::1')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host if host.count(":") > 1 else host.partition(":")[0]


class ForeignPage(Forbidden):
    """A web page of another origin sent a request that changes something, to a server without keys."""

    code = "foreign_origin"


def require_same_origin(context: RequestContext) -> None:
    """Reject what a web page of another origin sends to a server without keys, unless `cors` allows the page.

    A browser sends forms to other origins without asking the server first, so any page could fill the disk.

    Raises:
        ForeignPage: The request comes from such a page.
    """
    http, allowed = context.http, context.state.settings.cors
    origin = http.headers.get("origin")
    own = f"{http.url.scheme}://{http.headers.get('host', '')}"
    if context.key is None and origin is not None and origin != own and not {"*", origin} & {*allowed}:
        raise ForeignPage(
            f"The request comes from a web page of {origin[:200]!r}. Allow the page with --cors, or use API keys."
        )
