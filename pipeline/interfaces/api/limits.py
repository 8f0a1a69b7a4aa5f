"""Limits of one process: how long a request waits, and bytes of bodies."""

import time
from typing import Final

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.core import deadline
from pipeline.core.errors import BodyTooSlow, Busy, InvalidRequest, NotFound, PayloadTooLarge, Refused
from pipeline.interfaces.api.errors import build_busy, problem_response
from pipeline.interfaces.api.places import BODY_SECONDS

#: Short, so that a caller learns soon that the database is busy; the request's own work takes time as well.
REQUEST_WAIT_SECONDS: Final = 3.0


class UnaskedWaits:
    """Counts the requests that wait for an export without having asked for it; more than a maximum do not wait.

    Each holds a connection and reads the database a few times a second. Only the event loop uses it.
    """

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self._waiting = 0

    def begin(self) -> bool:
        """Count one more waiting request and return True; return False if there are as many as allowed."""
        if self._waiting >= self.maximum:
            return False
        self._waiting += 1
        return True

    def end(self) -> None:
        """Count one waiting request less."""
        self._waiting -= 1


class RequestDeadline:
    """Limits the waits of a request to REQUEST_WAIT_SECONDS in all; the time that its caller takes to send it does not count."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def receive_message() -> Message:
            started_at = time.monotonic()
            message = await receive()
            deadline.extend(time.monotonic() - started_at)
            return message

        deadline.set_deadline(REQUEST_WAIT_SECONDS)
        await self.app(scope, receive_message, send)


class BodyLimit:
    """Counts the bytes of bodies as they arrive, whatever Content-Length says; rejects compressed ones and zero characters.

    `max_bytes` limits one body. `max_total_bytes` limits all bodies that are held at one time, because they must fit
    into memory together. A body that is not complete `seconds` after the first wait for it is rejected.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_total_bytes: int, seconds: float) -> None:
        self.app = app
        self.seconds = seconds
        self.max_bytes = max_bytes
        self.max_total_bytes = max_total_bytes
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refused = _refuse_zero_characters(scope) or self._refuse_by_headers(Headers(scope=scope))
        if refused is not None:
            await problem_response(scope, refused)(scope, receive, send)
            return
        size = 0
        refusal: Refused | None = None
        receive_in_time = _receive_within(receive, min(self.seconds, scope.get(BODY_SECONDS, self.seconds)))

        async def receive_counted() -> Message:
            nonlocal size, refusal
            try:
                message = await receive_in_time()
            except BodyTooSlow as slow:
                refusal = slow
                raise
            if message["type"] == "http.request":
                size += len(message.get("body", b""))
                self._held_bytes += len(message.get("body", b""))
                if size > self.max_bytes:
                    refusal = self._too_large()
                elif self._held_bytes > self.max_total_bytes:
                    refusal = self._too_many()
                if refusal is not None:
                    raise refusal
            return message

        async def send_or_refuse(message: Message) -> None:
            # Whatever the app made of the interrupted body, the caller gets the true reason.
            if refusal is None:
                await send(message)
            elif message["type"] == "http.response.start":
                await problem_response(scope, refusal)(scope, receive, send)

        try:
            await self.app(scope, receive_counted, send_or_refuse)
        finally:
            self._held_bytes -= size

    def _refuse_by_headers(self, headers: Headers) -> Refused | None:
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            return InvalidRequest("the body must not be compressed; send it without Content-Encoding")
        length = headers.get("content-length", "")
        if length.isdigit() and int(length[:20]) > self.max_bytes:
            return self._too_large()
        if length.isdigit() and self._held_bytes + int(length[:20]) > self.max_total_bytes:
            return self._too_many()
        return None

    def _too_large(self) -> PayloadTooLarge:
        # The rest of the body is not read, so the connection cannot be used again.
        return PayloadTooLarge(
            f"the body is larger than {self.max_bytes} bytes; split the plan", headers={"Connection": "close"}
        )

    def _too_many(self) -> Busy:
        return build_busy("this process holds its maximum of bytes of request bodies", Connection="close")


def _receive_within(receive: Receive, seconds: float) -> Receive:
    """Return what receives a body; it raises BodyTooSlow if the body is not complete `seconds` after the first wait for it."""
    until: float | None = None
    arrived = False

    async def receive_message() -> Message:
        nonlocal until, arrived
        if arrived:
            return await receive()  # returns when the caller disconnects, which has no deadline
        until = until or time.monotonic() + seconds
        try:
            with anyio.fail_after(until - time.monotonic()):
                message = await receive()
        except TimeoutError:
            raise BodyTooSlow(
                f"the body must arrive within {seconds:g} s; send it faster, or split the plan",
                headers={"Connection": "close"},
            ) from None
        arrived = not message.get("more_body", False)
        return message

    return receive_message


def _refuse_zero_characters(scope: Scope) -> Refused | None:
    # PostgreSQL stores no zero character, so no stored name has one.
    if "\x00" in scope["path"]:
        return NotFound("there is nothing at this address; remove the zero character")
    if b"%00" in scope["query_string"]:
        return InvalidRequest("a parameter must not hold a zero character; remove %00")
    return None
