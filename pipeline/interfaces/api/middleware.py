"""The outermost middleware: each request's id and metrics, and an answer if the code failed."""

import time
from asyncio import CancelledError
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.core import ids, tenancy, tracing
from pipeline.core.errors import NotReady
from pipeline.core.spans import Span
from pipeline.core.tenancy import NO_ACCOUNT
from pipeline.exports import events
from pipeline.interfaces.api.denials import Denials
from pipeline.interfaces.api.errors import internal_error, problem_response
from pipeline.interfaces.api.headers import parse_headers

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

#: What load balancers and Prometheus ask every few seconds.
_UNTRACED: Final = frozenset({"/livez", "/readyz", "/metrics"})


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
        self.denials = Denials(registry)


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
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            with _trace_request(scope) as span:
                await self._answer(scope, receive, send, request_id, span)
        finally:
            structlog.contextvars.clear_contextvars()

    async def _answer(self, scope: Scope, receive: Receive, send: Send, request_id: str, span: Span) -> None:
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
                self.metrics.denials.record(scope, _method(scope), _route(scope), status)
                span.end_request(_method(scope), _route(scope), status)
            await send(message)

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

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = _route(scope)
        method = _method(scope)
        self.metrics.requests.labels(method, route, str(status)).inc()
        self.metrics.seconds.labels(method, route).observe(seconds)


def _trace_request(scope: Scope) -> AbstractContextManager[Span]:
    if scope["path"] in _UNTRACED:
        return nullcontext(Span())
    # The path would be a secret in a link, and an id in most others; so the span gets only the route.
    return tracing.open_span(_method(scope), parse_headers(Headers(scope=scope)), kind="server")


def _shutdown_refusal() -> NotReady:
    return NotReady(
        "this process stopped before the request was done; try again in 1 s",
        headers={"Retry-After": "1", "Connection": "close"},
    )


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in _METHODS else "other"


def _route(scope: Scope) -> str:
    # The template, not the address: each id would create a time series.
    return str(getattr(scope.get("route"), "path", "unknown"))
