"""Whether a server traces its requests with OpenTelemetry, and where the spans go: the setting `otel` and OTEL_*.

The packages of OpenTelemetry are the extra `otel`. They are imported only where tracing is on.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from embergem import __version__
from embergem.config import Settings
from embergem.errors import InvalidConfig, UnsupportedOption

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from embergem.server.tracing import Tracing

REQUESTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER")
"""Standard variables that turn tracing on."""

PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
"""Standard variables of the protocol, the one with priority first."""

EXPORTERS = ("otlp", "console")


def application_tracing(settings: Settings) -> "Tracing | None":
    """Return the tracing of an application that the caller serves: with the provider of the process, if `otel` is set.

    Raises:
        UnsupportedOption: OpenTelemetry is not installed.
    """
    if not settings.otel:
        return None
    try:
        from embergem.server.tracing import Tracing
    except ImportError:
        raise _packages_missing("The setting otel") from None
    return Tracing()


def tracing_asked_by(settings: Settings, environ: Mapping[str, str]) -> str | None:
    """Return the name of the setting or variable that turns tracing on; None if it is off.

    The setting has priority over the variables, except that `OTEL_SDK_DISABLED=true` turns tracing off in any case.

    >>> tracing_asked_by(Settings(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"})
    'OTEL_EXPORTER_OTLP_ENDPOINT'
    """
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if settings.otel is False or disabled or environ.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    if settings.otel:
        return "The setting otel"
    return next((name for name in REQUESTS if environ.get(name)), None)


@contextmanager
def exporting(settings: Settings, environ: Mapping[str, str]) -> "Iterator[Tracing | None]":
    """Export the spans of a server until the block ends; yields its tracing, or None if tracing is off.

    The packages of OpenTelemetry read their own variables (`OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`, ...) from the
    environment of the process.

    Raises:
        UnsupportedOption: OpenTelemetry is not installed, or a variable names an exporter or protocol that is not
            supported.
        InvalidConfig: OpenTelemetry refuses the value of a variable.
    """
    asked = tracing_asked_by(settings, environ)
    if asked is None:
        yield None
        return
    try:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise _packages_missing(asked) from None
    from embergem.server.tracing import Tracing

    exporter = _exporter(asked, environ)
    resource = Resource.create({"service.name": "embergem", "service.version": __version__})
    provider = TracerProvider(resource=resource.merge(OTELResourceDetector().detect()))
    try:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    except ValueError as error:
        raise InvalidConfig(f"A variable OTEL_BSP_... has an invalid value: {error}") from None
    try:
        yield Tracing(provider)
    finally:
        provider.shutdown()  # exports the last spans


def _exporter(asked: str, environ: Mapping[str, str]) -> "SpanExporter":
    name = environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if name not in EXPORTERS:
        raise UnsupportedOption(
            f'OTEL_TRACES_EXPORTER is {name!r}. embergem has the exporters {", ".join(EXPORTERS)}; "none" turns '
            "tracing off."
        )
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    variable = next((name for name in PROTOCOLS if environ.get(name)), None)
    if variable is not None and environ[variable] != "http/protobuf":
        raise UnsupportedOption(
            f"{variable} is {environ[variable]!r}. embergem sends spans as http/protobuf only. Remove the variable, "
            "and give the collector's HTTP port in OTEL_EXPORTER_OTLP_ENDPOINT; it is usually 4318."
        )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise _packages_missing(asked) from None
    return OTLPSpanExporter()


def _packages_missing(asked: str) -> UnsupportedOption:
    return UnsupportedOption(
        f"{asked} asks for tracing, but the packages of OpenTelemetry are not installed. Install them with "
        "`pip install 'embergem[otel]'`, or turn tracing off with --no-otel or EMBERGEM_OTEL=false.",
        param="otel",
    )
