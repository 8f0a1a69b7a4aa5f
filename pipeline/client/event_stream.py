"""Following a log or a feed as server-sent events: the last event, and how to handle a broken stream."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

import httpx
from pydantic import ValidationError

from pipeline.client.errors import ApiProblem, ApiUnreachable, StillRunning
from pipeline.client.request import check_header, encode_segment
from pipeline.client.retry import parse_refusal
from pipeline.exports.schemas.export import EventView
from pipeline.exports.schemas.feed import FeedEventView

E = TypeVar("E", bound=EventView)

#: Seconds of silence before the stream is opened again; the service sends a heartbeat more often.
READ_TIMEOUT_SECONDS: Final = 30.0
RECONNECT_SECONDS: Final = 0.5
#: How often in a row the stream may break.
MAX_FAILURES: Final = 10
_CONNECT_SECONDS: Final = 10.0
_TRANSIENT_STATUSES: Final = frozenset({408, 429})


class EventFollower(Generic[E]):
    """Follows one stream: it gets lines and errors, and gives events and pauses; `finished` when no more events follow.

    A broken stream continues after the event that `cursor_of` names.
    """

    def __init__(
        self,
        path: str,
        model: type[E],
        cursor_of: Callable[[E], str],
        after: str | None,
        *,
        what: str,
        timeout_seconds: float | None = None,
        params: Mapping[str, Sequence[str]] = {},
    ) -> None:
        self.path = path
        self.finished = False
        self._model = model
        self._cursor_of = cursor_of
        self._after = after
        self._what = what
        self._params = params
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
        headers = {"Accept": "text/event-stream"} | ({} if self._after is None else {"Last-Event-ID": self._after})
        timeout = httpx.Timeout(min(_CONNECT_SECONDS, left), read=left)
        return {"headers": headers, "params": dict(self._params), "timeout": timeout}

    def on_response(self, response: httpx.Response) -> None:
        """Check the head of an answer; raises its error if it is not a stream. The body of an error must have been read."""
        if not response.is_success:
            raise parse_refusal(response)
        if response.status_code == httpx.codes.NO_CONTENT:
            self.finished = True
        elif not response.headers.get("Content-Type", "").startswith("text/event-stream"):
            raise ApiUnreachable(f"{response.url} answers with something other than events")

    def feed_line(self, line: str) -> E | None:
        """Take a line of the stream and return the event that it completes, else None; raises StillRunning after the deadline."""
        self._check_deadline()
        if line.startswith("data:"):
            self._data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and self._data:
            return self._parse_event()
        return None

    def _parse_event(self) -> E:
        data = "\n".join(self._data)
        self._data.clear()
        try:
            event = self._model.model_validate_json(data, extra="ignore")
        except ValidationError as error:
            raise ApiUnreachable("the stream holds something other than events of this version") from error
        self._after = self._cursor_of(event)
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
            raise StillRunning(f"{self._what} was still running after {self._timeout_seconds:g} s")


def build_export_follower(export: str, after: int, timeout_seconds: float | None) -> EventFollower[EventView]:
    """Return the follower of an export's log, after the event with the `seq` `after`."""
    path = f"api/exports/{encode_segment(export)}/events"
    return EventFollower(
        path, EventView, lambda event: str(event.seq), str(after), what=export, timeout_seconds=timeout_seconds
    )


def build_feed_follower(after: str | None, types: Sequence[str]) -> EventFollower[FeedEventView]:
    """Return the follower of the account's feed, after the event with the id `after`, or from the first."""
    cursor = None if after is None else check_header("after", after)
    params = {"type": [*types]} if types else {}
    return EventFollower("api/events", FeedEventView, lambda event: event.id, cursor, what="the feed", params=params)
