"""The addresses of the settings: which kinds of servers the service can use."""

from __future__ import annotations

import re
from typing import Final

#: An address of PostgreSQL with several servers, as libpq reads it.
_SEVERAL_SERVERS: Final = re.compile(
    r"(?P<scheme>postgres[a-z+]*)://(?P<user>[^/?]*@)?(?P<servers>[^@/?,]*(?:,[^@/?,]*)+)(?P<name>/[^?]*)?(?P<query>\?.*)?"
)

#: The remedies for two message brokers, by how their address begins.
_OF_SEVERAL: Final = {
    "amqp": "separate the addresses by semicolons, as in amqp://exports:PASSWORD@mq1//;amqp://exports:PASSWORD@mq2//",
    "redis": "the service follows only one Redis: give an address that moves to the new primary, or use RabbitMQ",
}


def list_servers(database: str) -> str:
    """Return a database's address with several servers, as in postgresql://a:5432,b:5432/exports, as SQLAlchemy reads it.

    Transactions write, so it asks for the server that is the primary, unless the address says otherwise. Another address
    is returned unchanged.
    """
    found = _SEVERAL_SERVERS.fullmatch(database)
    if found is None:
        return database
    given = (found["query"] or "?")[1:]
    hosts = [f"host={server}" for server in found["servers"].split(",")]
    primary = [] if "target_session_attrs=" in given else ["target_session_attrs=read-write"]
    query = "&".join([*hosts, *primary, *filter(None, [given])])
    return f"{found['scheme']}://{found['user'] or ''}{found['name'] or '/'}?{query}"


def _check_broker_servers(broker: str) -> None:
    kind = "amqp" if broker.startswith("amqp") else "redis"
    if broker.startswith(("sentinel:", "redis+", "rediss+")) or (kind == "redis" and ";" in broker):
        raise ValueError(f"BROKER_URL names several Redis servers; {_OF_SEVERAL['redis']}")
    if "," in re.sub(r"^\w+://", "", broker).split("/", 1)[0].rpartition("@")[2]:
        raise ValueError(f"BROKER_URL names several servers by commas; {_OF_SEVERAL[kind]}")


def check_addresses(database: str, broker: str, artifacts: str, collector: str | None) -> None:
    """Raise ValueError if an address has a scheme that the service does not know; an empty collector means none."""
    _check_broker_servers(broker)
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
