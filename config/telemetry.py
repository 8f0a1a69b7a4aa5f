"""Says whether an installation sends traces; the OpenTelemetry SDK reads the same variables."""

from __future__ import annotations

from config.settings import Settings


def is_traced(settings: Settings) -> bool:
    """Return whether the service sends traces."""
    endpoint = settings.otel_exporter_otlp_endpoint
    off = (
        settings.otel_sdk_disabled.strip().lower() == "true" or settings.otel_traces_exporter.strip().lower() == "none"
    )
    return endpoint is not None and endpoint.get_secret_value() != "" and not off
