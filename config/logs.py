"""The structlog setup: constant event names, the export's id on every line, and no secrets or personal data."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO

import structlog

from config.redaction import redact
from config.settings import Settings

#: Loggers that are limited to warnings. At INFO, Celery and httpx log every task and request, which costs 15 % of throughput
#: (measured). Alembic logs its own steps, and asyncssh every connection with its address.
NOISY: Final = ("alembic", "asyncssh", "celery", "kombu", "amqp", "httpx", "httpcore", "uvicorn.access")

#: Characters that begin a line or move a terminal's cursor.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def keep_to_one_line(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape characters that would make one text log record look like several, and indent the lines of a traceback.

    JSON records do not need this.
    """
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
    """Send the logs of the service and of the libraries to `stream`, default standard error, one record per line."""
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
            # Redaction runs here, where the records of the service and of the libraries have all their members.
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in ("uvicorn", "uvicorn.access"):
        # If uvicorn was started by its own command, its handlers would print tracebacks that bypass this one.
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(settings.log_level)))
    if settings.message_broker == "memory":
        # Kombu warns at every connection that memory:// has no host.
        logging.getLogger("kombu.connection").setLevel(logging.ERROR)
