"""Which setting or variable switches tracing on, what it needs, and that spans reach a collector."""

import os
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from serving import QUIET, serving

import embergem
from embergem.config import Settings
from embergem.errors import InvalidConfig, UnsupportedOption
from embergem.server.app import create_app
from embergem.server.otel import exporting, tracing_asked_by
from embergem.server.state import ServerState


@pytest.mark.parametrize(
    ("otel", "environ", "asked"),
    [
        (None, {}, None),
        (True, {}, "The setting otel"),
        (False, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, None),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None),
        (None, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a/b"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        (None, {"OTEL_TRACES_EXPORTER": "console"}, "OTEL_TRACES_EXPORTER"),
        (True, {"OTEL_TRACES_EXPORTER": "none"}, None),
        (True, {"OTEL_SDK_DISABLED": "True"}, None),
        (None, {"OTEL_SERVICE_NAME": "search"}, None),
    ],
)
def test_the_setting_has_priority_over_the_standard_variables(otel, environ, asked):
    assert tracing_asked_by(Settings(otel=otel), environ) == asked


@pytest.mark.parametrize(
    ("environ", "error", "message"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, UnsupportedOption, "OTEL_TRACES_EXPORTER is 'zipkin'"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, UnsupportedOption, "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "0"}, InvalidConfig, "OTEL_BSP_.*max_queue_size"),
    ],
)
def test_variables_that_cannot_be_used_end_the_start(monkeypatch, environ, error, message):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(error, match=message), exporting(Settings(otel=True), os.environ):
        pass


@pytest.mark.parametrize(
    "missing", ["opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter"]
)
def test_tracing_without_its_packages_ends_the_start(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    asked = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}
    message = r"OTEL_EXPORTER_OTLP_ENDPOINT asks.*'embergem\[otel\]'"
    with pytest.raises(UnsupportedOption, match=message), exporting(Settings(), asked):
        pass


def test_a_mounted_application_without_the_packages_is_refused(monkeypatch, registry):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "embergem.server.tracing")
    with pytest.raises(UnsupportedOption, match=r"otel asks.*'embergem\[otel\]'"):
        create_app(registry, Settings(otel=True))


def test_nothing_of_opentelemetry_is_imported_while_tracing_is_off():
    code = (
        "import os, sys\n"
        "from embergem.config import Settings\n"
        "from embergem.server.run import build_state, make_server\n"
        "from embergem.server.otel import exporting\n"
        "with exporting(Settings(), os.environ) as tracing: make_server(build_state(Settings(), [], []))\n"
        "assert tracing is None; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_example_of_the_documentation_prints_spans(tiny):
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    (command,) = re.findall(r"^OTEL_TRACES_EXPORTER=\S+ embergem serve$", page, re.MULTILINE)
    variable, _, arguments = command.partition(" embergem ")
    name, value = variable.split("=")
    process = subprocess.Popen(
        [sys.executable, "-m", "embergem", *arguments.split(), "-p", "0", "-m", str(tiny)],
        env=os.environ | {name: value},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        url = re.search(r"http://[\d.:]+", process.stdout.readline())[0]
        while httpx.get(f"{url}/ready").status_code != 200:
            time.sleep(0.02)
        httpx.post(f"{url}/v1/embeddings", json={"input": "a text of a traced request"})
        process.terminate()
        printed, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    for span in ("POST /v1/embeddings", "tokenize", "queue", "compute", "encode"):
        assert f'"name": "{span}"' in printed
    assert '"service.name": "embergem"' in printed
    assert re.search(r"trace=[0-9a-f]{32}", errors)


@contextmanager
def collector():
    """A collector of OpenTelemetry; yields its address and the exported requests."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append((self.path, ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{served.server_port}", received
        finally:
            served.shutdown()
            thread.join()


def test_spans_reach_the_collector_that_the_environment_names(registry, monkeypatch):
    with collector() as (address, received):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "search")
        with (
            exporting(Settings(), os.environ) as tracing,
            serving(ServerState(registry, QUIET, tracing=tracing)) as url,
        ):
            httpx.post(f"{url}/v1/embeddings", json={"input": "a text of a traced request"})
    ((path, request),) = received
    assert path == "/v1/traces"
    (resource,) = request.resource_spans
    named = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert (named["service.name"], named["service.version"]) == ("search", embergem.__version__)
    names = {span.name for scope in resource.scope_spans for span in scope.spans}
    assert names == {"POST /v1/embeddings", "tokenize", "queue", "compute", "encode"}
