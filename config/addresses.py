"""The addresses of the settings: which kinds of servers the service can use."""

from __future__ import annotations

import re


def check_addresses(database: str, broker: str, artifacts: str, collector: str | None) -> None:
    """Raise ValueError if an address has a scheme that the service does not know; an empty collector means none."""
    checks = (
        ("DATABASE_URL", database, ("sqlite:", "postgresql:", "postgres:", "postgresql+psycopg:")),
        ("BROKER_URL", broker, ("memory:", "redis:", "rediss:", "amqp:", "amqps:")),
        ("ARTIFACTS_URL", artifacts, ("file:", "memory:", "s3:", "gs:", "az:")),
    )
    for name, url, schemes in checks:
        if not url.startswith(schemes):
            given = url.split(":", 1)[0]
            raise ValueError(f"{name} must begin with one of {', '.join(schemes)}, not with {given!r}")
    if collector is not None and not re.match("https?://.|$", collector):
        raise ValueError("OTEL_EXPORTER_OTLP_ENDPOINT must begin with http:// or https://")
