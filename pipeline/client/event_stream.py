"""Following an export's log as server-sent events: the position in the log, and how to handle a broken stream."""

import time
from typing import Any, Final

import httpx
from pydantic import ValidationError

from pipeline.client.errors import ApiProblem, ApiUnreachable, StillRunning
from pipeline.client.request import encode_segment
from pipeline.client.retry import parse_refusal
from pipeline.exports.schemas.export import EventView

#: Seconds of silence before the stream is opened again; the service sends a heartbeat more often.
READ_TIMEOUT_SECONDS: Final = 30.0
RECONNECT_SECONDS: Final = 0.5
#: How often in a row the stream may break.
MAX_FAILURES: Final = 10
_CONNECT_SECONDS: Final = 10.0
_TRANSIENT_STATUSES: Final = frozenset({408, 429})


class EventFollower:
    """Follows one log: it gets lines and errors, and gives events and pauses; `finished` when no more events follow."""

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
        """Return the options for httpx to open the stream after the last event."""
        self._data.clear()
        left = READ_TIMEOUT_SECONDS
        if self._deadline is not None:
            left = max(0.05, min(left, self._deadline - time.monotonic()))
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self._last_seq)}
        return {"headers": headers, "timeout": httpx.Timeout(min(_CONNECT_SECONDS, left), read=left)}

    def on_response(self, response: httpx.Response) -> None:
        """Check the head of an answer; raises its error if it is not a stream. The body of an error must have been read."""
        if not response.is_success:
            raise parse_refusal(response)
        if response.status_code == httpx.codes.NO_CONTENT:
            self.finished = True
        elif not response.headers.get("Content-Type", "").startswith("text/event-stream"):
            raise ApiUnreachable(f"{response.url} answers with something other than events")

    def feed_line(self, line: str) -> EventView | None:
        """Take a line of the stream and return the event that it completes, else None; raises StillRunning after the deadline."""
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
            raise ApiUnreachable("the stream holds something other than events of this version") from error
        self._last_seq = event.seq
        self._failures = 0
        return event

    def on_error(self, error: httpx.RequestError | ApiUnreachable | ApiProblem) -> None:
        """Handle a broken stream; raises if opening it again cannot help, or has failed too often."""
        if isinstance(error, ApiProblem) and 400 <= error.status < 500 and error.status not in _TRANSIENT_STATUSES:
            raise error
        # Silence is not a failure: an export may have no events for a while.
        self._failures += not isinstance(error, httpx.ReadTimeout)
        if self._failures > MAX_FAILURES:
            raise ApiUnreachable(f"the stream of events broke: {str(error) or type(error).__name__}") from error
        self._retry_after_seconds = error.retry_after_seconds or 0 if isinstance(error, ApiProblem) else 0

    def next_pause(self) -> float:
        """Return how many seconds to wait before the stream is opened again; raises StillRunning if no time is left."""
        pause = max(RECONNECT_SECONDS, self._retry_after_seconds)
        self._check_deadline(self._retry_after_seconds)
        self._retry_after_seconds = 0
        return pause

    def _check_deadline(self, seconds: float = 0) -> None:
        if self._deadline is not None and time.monotonic() + seconds > self._deadline:
            raise StillRunning(f"{self._export} was still running after {self._timeout_seconds:g} s")
