"""structlog set-up: constant event names, the export's id on every line, no secret and no personal datum on any."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO

import structlog

from config.redaction import redact
from config.settings import Settings

#: Celery and httpx tell of every task and request at INFO, at a measured 15 % of throughput; Alembic of every /readyz; asyncssh
#: of every connection, by its address.
NOISY: Final = ("alembic", "asyncssh", "celery", "kombu", "amqp", "httpx", "httpcore", "uvicorn.access")

#: What would begin a line, or move a terminal's cursor.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def keep_to_one_line(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape what would make a text look like more records than one; the lines of a traceback are indented. JSON needs none."""
    for name, value in event.items():
        if not isinstance(value, str):
            continue
        if name == "exception":
            lines = value.split("\n")
            event[name] = "\n".join("    " + _CONTROL.sub(_escape, line) for line in lines)
        else:
            event[name] = _CONTROL.sub(_escape, value)
    return event


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def configure_logs(settings: Settings, stream: TextIO | None = None) -> None:
    """Send our logs and the libraries' to `stream`, or to standard error, one record a line."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    last: list[structlog.types.Processor] = (
        [structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        else [keep_to_one_line, structlog.dev.ConsoleRenderer(colors=False)]
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
            # Here our records and the libraries' are one stream, with all that is on the line.
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in ("uvicorn", "uvicorn.access"):
        # Started by its own command, uvicorn has handlers by now that would print tracebacks past this one.
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(settings.log_level)))
    if settings.message_broker == "memory":
        # It warns at every connection that memory:// names no host.
        logging.getLogger("kombu.connection").setLevel(logging.ERROR)
