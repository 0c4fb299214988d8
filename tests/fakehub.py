"""A stand-in for the Hugging Face hub: an HTTP server with the routes that `huggingface_hub` uses."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git_id(data):
    return hashlib.sha1(b"blob %d\0%b" % (len(data), data)).hexdigest()


class FakeHub:
    """A hub on a free port of this machine.

    Attributes:
        repos: {model id: {path: bytes}}, the default branch.
        revisions: {model id: {branch or tag: (commit, {path: bytes})}}, in addition to the default branch.
        gated: Ids of models whose files need the token.
        waiting: Tokens of accounts that asked for access and are not accepted yet.
        refused: Tokens that are wrong.
        served: {path: bytes} that is sent in place of the declared content.
        hold: (part of a path, event that is set when a matching file is requested, event that the response waits for).
        requests: (method, path, headers) of each request.
    """

    def __init__(self):
        self.repos, self.gated, self.served, self.revisions = {}, set(), {}, {}
        self.waiting, self.refused = set(), set()
        self.token = "hf_right"
        self.requests = []
        self.hold = None
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                hub.answer(self, body=True)

            def do_HEAD(self):
                hub.answer(self, body=False)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def downloads(self, part):
        return [path for method, path, _ in self.requests if method == "GET" and "/resolve/" in path and part in path]

    def answer(self, request, *, body):
        path = urlsplit(request.path).path
        self.requests.append((request.command, path, dict(request.headers)))
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token in self.refused:
            return self._refuse(request, 401, None, "Invalid credentials in Authorization header")
        if path.startswith("/api/models/"):
            model, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            if model not in self.repos:
                return self._refuse(request, 404, "RepoNotFound")
            if (found := self._at(model, revision)) is None:
                return self._refuse(request, 404, "RevisionNotFound")
            return self._send(request, json.dumps(self._info(model, *found)).encode(), "info", body)
        model, _, rest = path[1:].partition("/resolve/")
        revision, _, name = rest.partition("/")
        commit, files = self._at(model, revision) or (COMMIT, {})
        if model in self.gated and token != self.token:
            return self._refuse(request, 403 if token in self.waiting else 401, "GatedRepo")
        if name not in files:
            return self._refuse(request, 404, "EntryNotFound")
        if self.hold and body and self.hold[0] in name:
            self.hold[1].set()
            self.hold[2].wait(60)
        data = files[name]
        return self._send(request, self.served.get(name, data), hashlib.sha256(data).hexdigest(), body, commit)

    def _at(self, model, revision):
        """Return the commit and the files of a revision; None if there is none."""
        if unquote(revision) in ("", "main", COMMIT):
            return COMMIT, self.repos.get(model, {})
        named = self.revisions.get(model, {})
        by_commit = {commit: (commit, files) for commit, files in named.values()}
        return (named | by_commit).get(unquote(revision))

    def _info(self, model, commit, files):
        siblings = []
        for name, data in files.items():
            sibling = {"rfilename": name, "size": len(data), "blobId": git_id(data)}
            if name.endswith((".safetensors", ".bin", "tokenizer.json")):
                sibling["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            siblings.append(sibling)
        return {"id": model, "modelId": model, "sha": commit, "siblings": siblings}

    def _send(self, request, data, etag, body, commit=COMMIT):
        if span := request.headers.get("Range"):  # "bytes=first-last", as the Rust library requests
            first, _, last = span.removeprefix("bytes=").partition("-")
            size, data = len(data), data[int(first) : int(last or len(data)) + 1]
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {first}-{int(first) + len(data) - 1}/{size}")
        else:
            request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.send_header("ETag", f'"{etag}"')
        request.send_header("X-Repo-Commit", commit)
        request.end_headers()
        if body:
            request.wfile.write(data)

    def _refuse(self, request, status, code, message=None):
        request.send_response(status)
        for name, value in (("X-Error-Code", code), ("X-Error-Message", message)):
            if value is not None:
                request.send_header(name, value)
        request.send_header("Content-Length", "0")
        request.end_headers()
