"""Retries of failed calls: bounded in number and time, at random times, and never sooner than the service asks."""

import random
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx
from pydantic import ValidationError

from pipeline.client.errors import ApiProblem, ApiUnreachable
from pipeline.client.request import Call, RetryWhen
from pipeline.core.problems import Problem

#: The request was not sent, so the service did nothing.
_NOT_SENT_ERRORS: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_TRANSIENT_STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504})
#: A first request with the same key is still in progress; its answer will be available soon.
_IN_PROGRESS: Final = "IDEMPOTENCY_IN_PROGRESS"


@dataclass(frozen=True)
class Retries:
    """How often and how long a call is tried.

    Each pause is random, up to a limit that doubles from `first_pause_seconds` to `max_pause_seconds`. After
    `total_seconds` no further attempt begins. A `Retry-After` beyond the remaining time ends the call at once.
    """

    tries: int = 4
    first_pause_seconds: float = 0.25
    max_pause_seconds: float = 8
    total_seconds: float = 60


#: Every call is made once.
NO_RETRIES: Final = Retries(tries=1)


@dataclass
class RetryState:
    """The attempts of one call so far; after each failure it returns how long to pause, or raises the error."""

    call: Call[Any]
    policy: Retries
    began: float = field(default_factory=time.monotonic)
    attempts: int = 0

    def on_error(self, error: httpx.RequestError) -> float:
        """Return how many seconds to wait after an attempt without an answer; raises ApiUnreachable after the last."""
        may_retry = self.call.retry_when is RetryWhen.ALWAYS or (
            self.call.retry_when is RetryWhen.NOT_SENT and isinstance(error, _NOT_SENT_ERRORS)
        )
        return self._next_pause(to_unreachable(error), may_retry=may_retry)

    def on_response(self, response: httpx.Response) -> float:
        """Return how many seconds to wait after an error answer; raises its error after the last attempt."""
        refusal = parse_refusal(response)
        status = response.status_code
        may_retry = self.call.retry_when is RetryWhen.ALWAYS and (
            status in _TRANSIENT_STATUSES or (isinstance(refusal, ApiProblem) and refusal.code == _IN_PROGRESS)
        )
        # The service answers "too many requests" before it does anything.
        may_retry = may_retry or (
            self.call.retry_when is RetryWhen.NOT_SENT and status == httpx.codes.TOO_MANY_REQUESTS
        )
        return self._next_pause(refusal, may_retry=may_retry)

    def _next_pause(self, error: ApiProblem | ApiUnreachable, *, may_retry: bool) -> float:
        self.attempts += 1
        if not may_retry or self.attempts >= self.policy.tries:
            raise error
        longest_pause = min(self.policy.max_pause_seconds, self.policy.first_pause_seconds * 2 ** (self.attempts - 1))
        pause = random.uniform(0, longest_pause)  # noqa: S311 - the times must differ, not be unpredictable
        if isinstance(error, ApiProblem) and error.retry_after_seconds is not None:
            pause += error.retry_after_seconds
        if time.monotonic() + pause > self.began + self.policy.total_seconds:
            raise error
        return pause


def to_unreachable(error: httpx.RequestError) -> ApiUnreachable:
    """Return the error for a request without an answer."""
    where = error.request.url.copy_with(path="/", query=None)
    unreachable = ApiUnreachable(f"{where} does not respond: {str(error) or type(error).__name__}")
    unreachable.__cause__ = error
    return unreachable


def parse_refusal(response: httpx.Response) -> ApiProblem | ApiUnreachable:
    """Return the error in an error answer; its body must have been read."""
    try:
        problem = Problem.model_validate_json(response.content, extra="ignore")
    except ValidationError:
        return ApiUnreachable(f"{response.url} answered {response.status_code} without a problem document")
    return ApiProblem(problem, retry_after_seconds=_parse_retry_after(response))


def _parse_retry_after(response: httpx.Response) -> float | None:
    """Return what `Retry-After` asks for (RFC 9110, 10.2.3), in seconds; an instant counts from the answer's `Date`.

    None if there is no valid value.
    """
    header_value = response.headers.get("Retry-After", "").strip()
    if header_value.isascii() and header_value.isdigit() and len(header_value) < 10:
        return int(header_value)
    try:
        remaining = parsedate_to_datetime(header_value) - parsedate_to_datetime(response.headers.get("Date", ""))
    except (TypeError, ValueError):
        return None
    return max(0.0, remaining.total_seconds())
