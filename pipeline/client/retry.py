"""When a call that failed is made again: bounded in number and time, apart by chance, and never sooner than the service asks."""

from __future__ import annotations

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

#: The request has not left: nothing was done of it.
_NOT_SENT_ERRORS: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_TRANSIENT_STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504})
#: A first request with the same key is still under way; its answer can be had soon.
_IN_PROGRESS: Final = "IDEMPOTENCY_IN_PROGRESS"


@dataclass(frozen=True)
class Retries:
    """How often and how long a call is tried.

    The pauses double from `first_seconds` up to `longest_seconds`, each of them anything between none and all of that.
    After `total_seconds` no further try begins; a `Retry-After` that is longer than what is left ends the call at once.
    """

    tries: int = 4
    first_pause_seconds: float = 0.25
    max_pause_seconds: float = 8
    total_seconds: float = 60


#: Every call is made once.
NO_RETRIES: Final = Retries(tries=1)


@dataclass
class RetryState:
    """The tries of one call so far: it is told how each failed, and says how long to pause or what to raise."""

    call: Call[Any]
    policy: Retries
    began: float = field(default_factory=time.monotonic)
    attempts: int = 0

    def on_error(self, error: httpx.RequestError) -> float:
        """Return how many seconds to wait after a try without an answer; raises ApiUnreachable where it was the last."""
        may_retry = self.call.retry_when is RetryWhen.ALWAYS or (
            self.call.retry_when is RetryWhen.NOT_SENT and isinstance(error, _NOT_SENT_ERRORS)
        )
        return self._next_pause(to_unreachable(error), may_retry=may_retry)

    def on_response(self, response: httpx.Response) -> float:
        """Return how many seconds to wait after an answer that is not good; raises what it says where it was the last."""
        refusal = parse_refusal(response)
        status = response.status_code
        may_retry = self.call.retry_when is RetryWhen.ALWAYS and (
            status in _TRANSIENT_STATUSES or (isinstance(refusal, ApiProblem) and refusal.code == _IN_PROGRESS)
        )
        # Too many requests is said before anything is done.
        may_retry = may_retry or (
            self.call.retry_when is RetryWhen.NOT_SENT and status == httpx.codes.TOO_MANY_REQUESTS
        )
        return self._next_pause(refusal, may_retry=may_retry)

    def _next_pause(self, error: ApiProblem | ApiUnreachable, *, may_retry: bool) -> float:
        self.attempts += 1
        if not may_retry or self.attempts >= self.policy.tries:
            raise error
        longest_pause = min(self.policy.max_pause_seconds, self.policy.first_pause_seconds * 2 ** (self.attempts - 1))
        pause = random.uniform(0, longest_pause)  # noqa: S311 - callers are to be apart, not unguessable
        if isinstance(error, ApiProblem) and error.retry_after_seconds is not None:
            pause += error.retry_after_seconds
        if time.monotonic() + pause > self.began + self.policy.total_seconds:
            raise error
        return pause


def to_unreachable(error: httpx.RequestError) -> ApiUnreachable:
    """Return what is raised of a request without an answer."""
    where = error.request.url.copy_with(path="/", query=None)
    unreachable = ApiUnreachable(f"{where} does not answer: {str(error) or type(error).__name__}")
    unreachable.__cause__ = error
    return unreachable


def parse_refusal(response: httpx.Response) -> ApiProblem | ApiUnreachable:
    """Return what an answer that is not good says; its body was read."""
    try:
        problem = Problem.model_validate_json(response.content, extra="ignore")
    except ValidationError:
        return ApiUnreachable(f"{response.url} answered {response.status_code}, without saying why")
    return ApiProblem(problem, retry_after_seconds=_parse_retry_after(response))


def _parse_retry_after(response: httpx.Response) -> float | None:
    """Return what `Retry-After` asks for (RFC 9110, 10.2.3): seconds, or an instant, seen from the answer's own `Date`."""
    header_value = response.headers.get("Retry-After", "").strip()
    if header_value.isascii() and header_value.isdigit() and len(header_value) < 10:
        return int(header_value)
    try:
        remaining = parsedate_to_datetime(header_value) - parsedate_to_datetime(response.headers.get("Date", ""))
    except (TypeError, ValueError):
        return None
    return max(0.0, remaining.total_seconds())
