"""The dependencies of the routes: the runtime, the caller, and what the caller's key allows."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Annotated, Any, Final, Protocol, cast

import structlog
from fastapi import Depends, Query, Request
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool

from pipeline.accounts.api_keys import (
    ADMIN,
    EXECUTE,
    LAST_USED_PRECISION_SECONDS,
    OPERATE,
    READ,
    ROLES,
    Caller,
    find_caller,
    parse_key_id,
    record_key_use,
    role_implies,
)
from pipeline.core import tenancy
from pipeline.core.cache import Kept
from pipeline.core.errors import InvalidApiKey, RateLimited
from pipeline.core.runtime import Runtime
from pipeline.interfaces.api.places import COUNT, KEY_PART
from pipeline.workflow.amendments import AMENDING_ROLES
from pipeline.workflow.idempotency import Acceptance
from pipeline.workflow.steps import TaskMessage, stream_tasks

#: How long a valid key is cached; a revoked key works no longer than this.
_CACHE_SECONDS: Final = 1.0
_MAX_KEYS: Final = 10_000

Monotonic = Callable[[], float]


class TaskPublisher(Protocol):
    """Publishes task messages off the request path; the sweeper publishes what this cannot."""

    def start(self) -> None:
        """Start publishing."""

    def stop(self) -> None:
        """Stop for good."""

    def publish_export(self, export_id: str, queues: Sequence[str]) -> None:
        """Schedule the task messages of a new export and return at once."""

    def publish(self, tasks: Sequence[TaskMessage]) -> None:
        """Schedule task messages and return at once."""


def publish_acceptance(publisher: TaskPublisher, accepted: Acceptance) -> None:
    """Schedule the task messages of an accepted plan: those of a new export, and of the deliveries that it caused."""
    if accepted.created:
        publisher.publish_export(accepted.export_id, accepted.queues)
    publisher.publish(stream_tasks(accepted.streams))


@dataclass
class ApiKeyCache:
    """The valid keys of the last second, and the request tokens left to each key."""

    per_minute: int
    clock: Monotonic = time.monotonic
    asking: dict[str, asyncio.Task[Caller]] = field(default_factory=dict)
    #: By key: its caller, and until when that is known.
    _callers: Kept[str, tuple[Caller, float]] = field(default_factory=lambda: Kept(_MAX_KEYS))
    _buckets: Kept[str, tuple[float, float]] = field(default_factory=lambda: Kept(_MAX_KEYS))
    _touched: Kept[str, float] = field(default_factory=lambda: Kept(_MAX_KEYS))
    _lock: Lock = field(default_factory=Lock)

    def get(self, bearer: str) -> Caller | None:
        """Return the key's caller, or None if the key was not found valid within the last second."""
        caller, until = self._callers.get(bearer) or (None, -math.inf)
        return caller if until > self.clock() else None

    def put(self, bearer: str, caller: Caller) -> None:
        """Cache for a second that the key is valid."""
        self._callers.put(bearer, (caller, self.clock() + _CACHE_SECONDS))

    def should_touch(self, key_id: str) -> bool:
        """Return whether the use of the key must be recorded now: once a minute."""
        with self._lock:
            now = self.clock()
            touched = self._touched.get(key_id)
            if touched is not None and now < touched + LAST_USED_PRECISION_SECONDS:
                return False
            self._touched.put(key_id, now)
            return True

    def take_token(self, key_id: str) -> tuple[int, float]:
        """Take one request token from the key's bucket.

        Return how many are left and, if there was none, the seconds until there is one again (otherwise 0).
        """
        per_second = self.per_minute / 60
        with self._lock:
            now = self.clock()
            tokens, at = self._buckets.get(key_id) or (float(self.per_minute), now)
            tokens = min(float(self.per_minute), tokens + (now - at) * per_second)
            allowed = tokens >= 1
            self._buckets.put(key_id, (tokens - 1 if allowed else tokens, now))
        return (int(tokens - 1), 0.0) if allowed else (0, (1 - tokens) / per_second)


def get_runtime(request: Request) -> Runtime:
    """Return the runtime of the process."""
    return cast("Runtime", request.app.state.runtime)


def get_publisher(request: Request) -> TaskPublisher:
    """Return the publisher of task messages."""
    return cast("TaskPublisher", request.app.state.publisher)


async def get_caller(request: Request) -> Caller:
    """Return the caller of the request.

    Raises InvalidApiKey, and RateLimited if the key has made too many requests.
    """
    caller = await authenticate(request, _bearer(request))
    count_request(request, caller)
    return caller


async def is_still_authorized(request: Request) -> bool:
    """Return whether the key of a long-running request is still valid."""
    try:
        await authenticate(request, _bearer(request))
    except InvalidApiKey:
        return False
    return True


def _bearer(request: Request) -> str:
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    bearer = bearer.strip()
    if scheme.lower() != "bearer" or not bearer:
        raise InvalidApiKey(
            "send your API key as `Authorization: Bearer <key>`", headers={"WWW-Authenticate": 'Bearer realm="exports"'}
        )
    return bearer


async def _find_caller_once(keys: ApiKeyCache, runtime: Runtime, bearer: str) -> Caller:
    """Return the caller that the key identifies; requests that come together ask once, and leave the threads to others."""

    async def ask() -> Caller:
        caller = await run_in_threadpool(find_caller, runtime, bearer)
        keys.put(bearer, caller)
        return caller

    asking = keys.asking.get(bearer)
    if asking is None:
        asking = keys.asking[bearer] = asyncio.create_task(ask())
        asking.add_done_callback(lambda _: keys.asking.pop(bearer, None))
    return await asyncio.shield(asking)


async def authenticate(request: Request, bearer: str) -> Caller:
    """Return the caller that the key identifies; raises InvalidApiKey."""
    keys: ApiKeyCache = request.app.state.keys
    caller = keys.get(bearer)
    if caller is None:
        try:
            parse_key_id(bearer)
            caller = await _find_caller_once(keys, get_runtime(request), bearer)
        except InvalidApiKey as refused:
            raise InvalidApiKey(
                refused.message, headers={"WWW-Authenticate": 'Bearer realm="exports", error="invalid_token"'}
            ) from None
        if keys.should_touch(caller.actor):
            # The request does not wait for it; the end of the process does. The event loop holds only weak references.
            task = asyncio.create_task(run_in_threadpool(record_key_use, get_runtime(request), caller))
            tasks: set[asyncio.Task[None]] = request.app.state.key_use_tasks
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    structlog.contextvars.bind_contextvars(account_id=caller.account_id, key_id=caller.actor)
    tenancy.set_account(caller.account_id)
    return caller


def count_request(request: Request, caller: Caller) -> None:
    """Count the request against the key, and add to the answer how many are left; raises RateLimited.

    Also raises it if the key's account has its maximum of requests in progress.
    """
    keys: ApiKeyCache = request.app.state.keys
    left, wait = keys.take_token(caller.actor)
    headers: list[tuple[str, str]] = request.scope.setdefault("exports.headers", [])
    headers.append(("RateLimit-Policy", f'"key";q={keys.per_minute};w=60'))
    headers.append(("RateLimit", f'"key";r={left};t={max(1, round(wait))}'))
    if wait:
        raise rate_limited(f"this key may make {keys.per_minute} requests in a minute", wait)
    request.scope[COUNT](caller.account_id, caller.actor, KEY_PART)


def rate_limited(what: str, wait: float) -> RateLimited:
    """Return the error for a caller that must wait `wait` seconds; `what` says why."""
    headers = retry_after_header(wait)
    return RateLimited(f"{what}; try again in {headers['Retry-After']} s", headers=headers)


def retry_after_header(wait: float) -> dict[str, str]:
    """Return the header that says when to try again, in whole seconds."""
    return {"Retry-After": str(max(1, int(wait + 0.999)))}


RuntimeDep = Annotated[Runtime, Depends(get_runtime)]
PublisherDep = Annotated[TaskPublisher, Depends(get_publisher)]
CallerDep = Annotated[Caller, Depends(get_caller)]

#: Declares in the OpenAPI document that a call needs a key; get_caller reads the key itself.
BEARER_SCHEME: Final = HTTPBearer(scheme_name="apiKey", auto_error=False)


#: The role of a key of the partner that received the handoff.
PARTNER: Final = "partner"

_ROLES_OF: Final[dict[object, tuple[str, ...]]] = {}


def roles_of(dependency: object) -> tuple[str, ...] | None:
    """Return the roles that a dependency allows, implied ones included; None if it needs no key."""
    return _ROLES_OF.get(dependency)


def roles_allowing(*roles: str) -> tuple[str, ...]:
    """Return every role that is one of these or implies one."""
    return tuple(
        candidate
        for candidate in (*ROLES, PARTNER)
        if candidate in roles or any(role_implies(candidate, role) for role in roles)
    )


def require(*roles: str) -> Any:  # FastAPI declares that Depends returns Any
    """Return the dependency that gives the caller and rejects a key with none of the roles."""

    async def caller_with_role(caller: CallerDep, _: Annotated[object, Depends(BEARER_SCHEME)] = None) -> Caller:
        caller.require(*roles)
        return caller

    _ROLES_OF[caller_with_role] = roles_allowing(*roles)
    return Depends(caller_with_role)


async def _caller_with_any_role(caller: CallerDep, _: Annotated[object, Depends(BEARER_SCHEME)] = None) -> Caller:
    return caller


_ROLES_OF[_caller_with_any_role] = roles_allowing(READ, PARTNER)

#: Any key; the resource itself decides what the key may see.
KeyHolder = Annotated[Caller, Depends(_caller_with_any_role)]
Executor = Annotated[Caller, require(EXECUTE)]
Reader = Annotated[Caller, require(READ)]
Operator = Annotated[Caller, require(OPERATE)]
Amender = Annotated[Caller, require(*AMENDING_ROLES)]
Admin = Annotated[Caller, require(ADMIN)]

#: Where a page of a list begins.
Cursor = Annotated[
    str | None, Query(max_length=128, pattern=r"^[A-Za-z0-9_-]+$", description="`nextCursor` of the page before")
]
