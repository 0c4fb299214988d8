"""`GET /` and `/ui/{name}`: the playground, a web page to try the models.

The files are built from `web/` by `make web`. The page is open to all, and the API operations that it calls need a key
on a server with keys. The content security policy allows scripts and styles from this server only, and trusted types
keep the page from making HTML of a text.
"""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import PurePath

from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from embergem import __version__
from embergem.protocol import Root
from embergem.server.encode import json_response
from embergem.server.state import RequestContext

INDEX = "index.html"
MEDIA_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""The media type of each kind of file. Those of the `mimetypes` module depend on files of the system."""

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types embergem",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the page.

    Attributes:
        content: The bytes.
        compressed: The bytes as gzip.
        media_type: The media type.
        etag: A name of the content for caches.
    """

    content: bytes
    compressed: bytes
    media_type: str
    etag: str

    @classmethod
    def read(cls, name: str, content: bytes) -> "Asset":
        """Build the asset of a file."""
        media_type = MEDIA_TYPES[PurePath(name).suffix]
        digest = hashlib.sha256(content).hexdigest()[:32]
        return cls(content, gzip.compress(content, mtime=0), media_type, f'"{digest}"')


async def root(context: RequestContext) -> Response:
    """Answer a browser with the playground, and other clients with name and version of this server."""
    if context.state.settings.ui and "text/html" in context.http.headers.get("accept", ""):
        response = send(context.http, index(), "no-cache")
    else:
        response = json_response(Root(version=__version__))
    response.headers["vary"] = "accept, accept-encoding"
    return response


async def asset(context: RequestContext) -> Response:
    """Return a script or a style of the playground."""
    found = assets().get(context.http.path_params["name"]) if context.state.settings.ui else None
    if found is None:
        raise HTTPException(404)
    response = send(context.http, found, "public, max-age=31536000, immutable")
    response.headers["vary"] = "accept-encoding"
    return response


def send(http: HttpRequest, found: Asset, cache_control: str) -> Response:
    """Return a response with a file, or 304 if the client has the file already."""
    headers = {**HEADERS, "etag": found.etag, "cache-control": cache_control}
    known = http.headers.get("if-none-match", "")
    if known == "*" or found.etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return Response(status_code=304, headers=headers)
    if accepts_gzip(http.headers.get("accept-encoding", "")):
        headers |= {"content-encoding": "gzip", "etag": f"W/{found.etag}"}
        return Response(found.compressed, headers=headers, media_type=found.media_type)
    return Response(found.content, headers=headers, media_type=found.media_type)


def accepts_gzip(header: str) -> bool:
    """Return whether a header `Accept-Encoding` allows gzip.

    >>> accepts_gzip("br, gzip"), accepts_gzip("gzip;q=0, br"), accepts_gzip("")
    (True, False, False)
    """
    for entry in header.lower().split(","):
        coding, _, weight = entry.partition(";")
        if coding.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


@cache
def index() -> Asset:
    """Return the page."""
    return Asset.read(INDEX, files("embergem.server").joinpath("ui", INDEX).read_bytes())


@cache
def assets() -> Mapping[str, Asset]:
    """Return the scripts, styles and pictures by name, which contains a hash of the content.

    A name outside this mapping, such as a path, is not found.
    """
    found = [file for file in files("embergem.server").joinpath("ui").iterdir() if file.name != INDEX]
    return {file.name: Asset.read(file.name, file.read_bytes()) for file in found}
