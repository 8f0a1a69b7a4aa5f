"""Headers of requests and answers: entity tags, `Prefer: wait` (RFC 7240), trace context, and headers of downloads."""

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated

from fastapi import Header, Request
from starlette.datastructures import Headers
from starlette.responses import Response

from pipeline.core import tracing
from pipeline.core.errors import PreconditionFailed
from pipeline.core.json_input import validation_failed
from pipeline.core.problems import Issue
from pipeline.core.trace_context import TraceContext, parse_trace_context
from pipeline.documents.bundle import safe_filename

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="A repeat with the same key and body gets the same answer; up to 255 printable characters",
    ),
]

_IDEMPOTENCY_KEY = re.compile(r"^[\x21-\x7e]{1,255}$")
_WAIT_PREFERENCE = re.compile(r'^wait\s*=\s*"?([0-9]{1,9})"?$', re.IGNORECASE)


def compute_etag(content: bytes) -> str:
    """Return the strong entity tag of these bytes."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def download_headers(filename: str) -> dict[str, str]:
    """Return the headers of a document: it downloads as a file with a safe name, and never acts as a page."""
    return {
        "Content-Disposition": f'attachment; filename="{safe_filename(filename)}"',
        # A document may hold text that a user typed: it must not act as a page of ours.
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }


def conditional_response(
    request: Request,
    content: bytes,
    media_type: str,
    *,
    etag: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the content with its entity tag, or 304 if the caller already has it."""
    tag = etag or compute_etag(content)
    all_headers = {"ETag": tag, "Cache-Control": "private, no-cache", **(headers or {})}
    if has_current_version(request, tag):
        return Response(status_code=304, headers={name: all_headers[name] for name in ("ETag", "Cache-Control")})
    return Response(content, headers=all_headers, media_type=media_type)


def has_current_version(request: Request, etag: str) -> bool:
    """Return whether `If-None-Match` names the tag, by the weak comparison of RFC 9110."""
    return _lists_etag(request.headers.getlist("if-none-match"), etag, weak=True)


def check_if_match(request: Request, etag: str) -> None:
    """Raise PreconditionFailed if `If-Match` names another version than `etag`."""
    if_match = request.headers.getlist("if-match")
    if if_match and not _lists_etag(if_match, etag, weak=False):
        raise PreconditionFailed(
            "the resource has changed since the version in If-Match; read it again, then decide", field="If-Match"
        )


def parse_preferred_wait(request: Request, longest_seconds: float) -> float | None:
    """Return how many seconds the caller wants to wait for the outcome, at most `longest_seconds`; None if it does not say.

    `respond-async` without `wait` asks not to wait.
    """
    preferences = [
        preference.partition(";")[0].strip()
        for line in request.headers.getlist("prefer")
        for preference in line.split(",")
    ]
    for preference in preferences:
        match = _WAIT_PREFERENCE.match(preference)
        if match is not None:
            return min(float(match[1]), longest_seconds)
    return 0.0 if "respond-async" in map(str.lower, preferences) else None


def read_trace_context(request: Request) -> TraceContext | None:
    """Return the trace context for what the request creates: of its span, or the caller's if the request is not traced.

    None if nothing is traced and the caller sent no valid trace context.
    """
    return tracing.current_trace() or parse_headers(request.headers)


def parse_headers(headers: Headers) -> TraceContext | None:
    """Return the caller's trace context, or None if it sent none or an invalid one."""
    return parse_trace_context(headers.getlist("traceparent"), headers.getlist("tracestate"))


def _lists_etag(lines: list[str], etag: str, *, weak: bool) -> bool:
    tags = [tag.strip() for line in lines for tag in line.split(",")]
    return "*" in tags or etag in tags or (weak and f"W/{etag}" in tags)


def check_idempotency_key(given: str | None) -> str | None:
    """Return the key of the header, or None. Raises ValidationFailed."""
    if given is not None and not _IDEMPOTENCY_KEY.match(given):
        raise validation_failed(
            [
                Issue(
                    path="/header/Idempotency-Key",
                    message="must have 1 to 255 printable ASCII characters without spaces",
                    code="string_pattern_mismatch",
                )
            ]
        )
    return given
