"""The outermost middleware: each request's id and metrics, and an answer if the code failed."""

from __future__ import annotations

import time
from asyncio import CancelledError
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.core import ids, tenancy
from pipeline.core.errors import NotReady
from pipeline.core.tenancy import NO_ACCOUNT
from pipeline.exports import events
from pipeline.interfaces.api.errors import internal_error, problem_response

log = structlog.get_logger(__name__)

#: Headers of every answer that does not set them: the answer is not a page, and no cache stores it.
_SECURITY: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}


class RequestMetrics:
    """The metrics of requests."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "exports_http_requests", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "exports_http_request_seconds",
            "Time to the first byte of the answer",
            ["method", "route"],
            registry=registry,
            buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 30),
        )


class RequestContext:
    """Gives every request an id for its logs and its answer; answers 500 after an error, and 503 at a shutdown."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = ids.safe_request_id(Headers(scope=scope).get("x-request-id", ""), "req")
        scope["exports.request_id"] = request_id
        started_at = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in _SECURITY.items():
                    headers.setdefault(name, value)
                for name, value in scope.get("exports.headers", ()):
                    headers[name] = value
                self._count(scope, status, time.perf_counter() - started_at)
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            # No account's rows are visible until a credential names the account.
            with tenancy.account_scope(NO_ACCOUNT), events.request_id_bound(request_id):
                await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            log.info("client_disconnected", method=scope["method"], route=_route(scope))
        except CancelledError:
            # The process ends before the request is done. Without this, the server would answer 500.
            log.warning("request_interrupted", method=scope["method"], route=_route(scope))
            if status:
                raise
            await problem_response(scope, _shutdown_refusal())(scope, receive, send_with_id)
        except Exception:
            log.exception("request_failed", method=scope["method"], route=_route(scope))
            if status:
                raise
            await problem_response(scope, internal_error())(scope, receive, send_with_id)
        finally:
            structlog.contextvars.clear_contextvars()

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = _route(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self.metrics.requests.labels(method, route, str(status)).inc()
        self.metrics.seconds.labels(method, route).observe(seconds)


def _shutdown_refusal() -> NotReady:
    return NotReady(
        "this process stopped before the request was done; try again in 1 s",
        headers={"Retry-After": "1", "Connection": "close"},
    )


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _route(scope: Scope) -> str:
    # The template, not the address: each id would create a time series.
    return str(getattr(scope.get("route"), "path", "unknown"))
