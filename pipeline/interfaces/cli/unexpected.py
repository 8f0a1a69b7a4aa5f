"""The report of an error that no command expects: one sentence and a remedy, not a traceback."""

from __future__ import annotations

import json
import sys
from typing import Final

from config.redaction import hide_secrets

_REMEDY: Final = "Run `exports doctor`. With `exports --debug` before the command, you see where the error happened; report it with that."


def report_unexpected(error: Exception, *, as_json: bool) -> None:
    """Print the error on standard error, or as JSON on standard output; a process that keeps a log also logs it."""
    structlog = sys.modules.get("structlog")
    if structlog is not None and structlog.is_configured():
        structlog.get_logger(__name__).critical("command_failed", exc_info=error)
    # Only the first line: SQLAlchemy's others repeat the values of the statement.
    detail = hide_secrets(str(error).partition("\n")[0])
    message = f"unexpected {type(error).__name__}" + (f": {detail}" if detail else "")
    if as_json:
        problem = {"errorCode": "UNEXPECTED", "message": message, "remedy": _REMEDY}
        sys.stdout.write(json.dumps(problem, indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stderr.write(f"error {message} (UNEXPECTED)\n  {_REMEDY}\n")
