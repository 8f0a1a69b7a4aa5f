"""structlog set-up: constant event names, the export's id on every line, no secret and no personal datum on any."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from config.settings import Settings

#: Values that must not be logged under any name: our keys, webhook secrets, credentials inside an address, links that are keys.
_SECRETS = re.compile(
    r"\bexp_(?:live|test)_\w+|\bwhsec_[\w+/=]+|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)|\bBearer\s+\S+"
    r"|(?<=/documents/)[\w.-]{40,}|(?<=/answers/)[\w-]{40,}"
)
_HIDDEN = "[hidden]"


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace every secret in the log record's texts."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = _SECRETS.sub(_HIDDEN, value)
    return event


def configure_logs(settings: Settings, stream: TextIO | None = None) -> None:
    """Send our logs and the libraries' to `stream`, or to standard error, one record a line."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    last: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    # Celery and httpx tell of every task and request at INFO, at a measured 15 % of throughput; Alembic of every /readyz;
    # asyncssh of every connection, by its address.
    for noisy in ("alembic", "asyncssh", "celery", "kombu", "amqp", "httpx", "httpcore", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(settings.log_level)))
    if settings.message_broker == "memory":
        # It warns at every connection that memory:// names no host.
        logging.getLogger("kombu.connection").setLevel(logging.ERROR)
