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
from pipeline.client.request import Call, Repeat
from pipeline.core.problems import Problem

#: The request has not left: nothing was done of it.
_UNSENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_PASSING: Final = frozenset({408, 429, 500, 502, 503, 504})
#: A first request with the same key is still under way; its answer can be had soon.
_IN_PROGRESS: Final = "IDEMPOTENCY_IN_PROGRESS"


@dataclass(frozen=True)
class Retries:
    """How often and how long a call is tried.

    The pauses double from `first_seconds` up to `longest_seconds`, each of them anything between none and all of that.
    After `total_seconds` no further try begins; a `Retry-After` that is longer than what is left ends the call at once.
    """

    tries: int = 4
    first_seconds: float = 0.25
    longest_seconds: float = 8
    total_seconds: float = 60


#: Every call is made once.
NO_RETRIES: Final = Retries(tries=1)


@dataclass
class Tries:
    """The tries of one call so far: it is told how each failed, and says how long to pause or what to raise."""

    call: Call[Any]
    policy: Retries
    began: float = field(default_factory=time.monotonic)
    made: int = 0

    def broken(self, error: httpx.RequestError) -> float:
        """Return how many seconds to wait after a try without an answer; raises ApiUnreachable where it was the last."""
        again = self.call.repeat is Repeat.ALWAYS or (self.call.repeat is Repeat.UNSENT and isinstance(error, _UNSENT))
        return self._pause(unanswered(error), again=again)

    def refused(self, response: httpx.Response) -> float:
        """Return how many seconds to wait after an answer that is not good; raises what it says where it was the last."""
        refusal = refusal_of(response)
        status = response.status_code
        again = self.call.repeat is Repeat.ALWAYS and (
            status in _PASSING or (isinstance(refusal, ApiProblem) and refusal.code == _IN_PROGRESS)
        )
        # Too many requests is said before anything is done.
        again = again or (self.call.repeat is Repeat.UNSENT and status == httpx.codes.TOO_MANY_REQUESTS)
        return self._pause(refusal, again=again)

    def _pause(self, error: ApiProblem | ApiUnreachable, *, again: bool) -> float:
        self.made += 1
        if not again or self.made >= self.policy.tries:
            raise error
        longest = min(self.policy.longest_seconds, self.policy.first_seconds * 2 ** (self.made - 1))
        pause = random.uniform(0, longest)  # noqa: S311 - callers are to be apart, not unguessable
        if isinstance(error, ApiProblem) and error.retry_after_seconds is not None:
            pause += error.retry_after_seconds
        if time.monotonic() + pause > self.began + self.policy.total_seconds:
            raise error
        return pause


def unanswered(error: httpx.RequestError) -> ApiUnreachable:
    """Return what is raised of a request without an answer."""
    where = error.request.url.copy_with(path="/", query=None)
    made = ApiUnreachable(f"{where} does not answer: {str(error) or type(error).__name__}")
    made.__cause__ = error
    return made


def refusal_of(response: httpx.Response) -> ApiProblem | ApiUnreachable:
    """Return what an answer that is not good says; its body was read."""
    try:
        problem = Problem.model_validate_json(response.content, extra="ignore")
    except ValidationError:
        return ApiUnreachable(f"{response.url} answered {response.status_code}, without saying why")
    return ApiProblem(problem, retry_after_seconds=_retry_after(response))


def _retry_after(response: httpx.Response) -> float | None:
    """Return what `Retry-After` asks for (RFC 9110, 10.2.3): seconds, or an instant, seen from the answer's own `Date`."""
    asked = response.headers.get("Retry-After", "").strip()
    if asked.isascii() and asked.isdigit() and len(asked) < 10:
        return int(asked)
    try:
        left = parsedate_to_datetime(asked) - parsedate_to_datetime(response.headers.get("Date", ""))
    except (TypeError, ValueError):
        return None
    return max(0.0, left.total_seconds())
