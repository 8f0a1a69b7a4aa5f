"""Following the log of an export as server-sent events: where it stands, and what a break of the stream means."""

from __future__ import annotations

import time
from typing import Any, Final

import httpx
from pydantic import ValidationError

from pipeline.client.errors import ApiProblem, ApiUnreachable, StillRunning
from pipeline.client.request import encode_segment
from pipeline.client.retry import parse_refusal
from pipeline.exports.schemas.export import EventView

#: How long a stream may be silent before it is opened anew: the service sends a sign of life more often.
READ_TIMEOUT_SECONDS: Final = 30.0
RECONNECT_SECONDS: Final = 0.5
#: How often in a row a stream may break.
MAX_FAILURES: Final = 10
_CONNECT_SECONDS: Final = 10.0
_TRANSIENT_STATUSES: Final = frozenset({408, 429})


class EventFollower:
    """One reader of a log. It is told what comes, and says what to ask for; `settled` once nothing more is to come."""

    def __init__(self, export: str, after: int, timeout_seconds: float | None) -> None:
        self.path = f"api/exports/{encode_segment(export)}/events"
        self.finished = False
        self._export = export
        self._last_seq = after
        self._timeout_seconds = timeout_seconds
        self._deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self._failures = 0
        self._data: list[str] = []
        self._retry_after_seconds: float = 0

    def request_options(self) -> dict[str, Any]:
        """Return what httpx is called with to open the stream where it broke."""
        self._data.clear()
        left = READ_TIMEOUT_SECONDS
        if self._deadline is not None:
            left = max(0.05, min(left, self._deadline - time.monotonic()))
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self._last_seq)}
        return {"headers": headers, "timeout": httpx.Timeout(min(_CONNECT_SECONDS, left), read=left)}

    def on_response(self, response: httpx.Response) -> None:
        """Take the head of an answer; raises what it says where it is no stream. The body of a refusal was read."""
        if not response.is_success:
            raise parse_refusal(response)
        if response.status_code == httpx.codes.NO_CONTENT:
            self.finished = True
        elif not response.headers.get("Content-Type", "").startswith("text/event-stream"):
            raise ApiUnreachable(f"{response.url} answers something else than events")

    def feed_line(self, line: str) -> EventView | None:
        """Take a line of the stream and return the event that it completes; raises StillRunning once the time is up."""
        self._check_deadline()
        if line.startswith("data:"):
            self._data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and self._data:
            return self._parse_event()
        return None

    def _parse_event(self) -> EventView:
        data = "\n".join(self._data)
        self._data.clear()
        try:
            event = EventView.model_validate_json(data, extra="ignore")
        except ValidationError as error:
            raise ApiUnreachable("the stream holds something else than events of this version") from error
        self._last_seq = event.seq
        self._failures = 0
        return event

    def on_error(self, error: httpx.RequestError | ApiUnreachable | ApiProblem) -> None:
        """Take it that the stream broke; raises where opening it again cannot help, or has not helped."""
        if isinstance(error, ApiProblem) and 400 <= error.status < 500 and error.status not in _TRANSIENT_STATUSES:
            raise error
        # Silence is no failure: nothing happens for a while.
        self._failures += not isinstance(error, httpx.ReadTimeout)
        if self._failures > MAX_FAILURES:
            raise ApiUnreachable(f"the stream of events broke: {str(error) or type(error).__name__}") from error
        self._retry_after_seconds = error.retry_after_seconds or 0 if isinstance(error, ApiProblem) else 0

    def next_pause(self) -> float:
        """Return how many seconds to wait before the stream is opened again; raises StillRunning where no time is left."""
        pause = max(RECONNECT_SECONDS, self._retry_after_seconds)
        self._check_deadline(self._retry_after_seconds)
        self._retry_after_seconds = 0
        return pause

    def _check_deadline(self, seconds: float = 0) -> None:
        if self._deadline is not None and time.monotonic() + seconds > self._deadline:
            raise StillRunning(f"{self._export} was still running after {self._timeout_seconds:g} s")
