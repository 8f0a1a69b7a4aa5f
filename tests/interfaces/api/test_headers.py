"""Every kind of answer has its content type, cannot be framed by another site, and is not cached."""

from collections.abc import Mapping
from datetime import timedelta

import httpx
import pytest

from pipeline.core.clock import utc_now
from pipeline.deliveries.submissions import links
from tests.interfaces.api.conftest import ApiHarness
from tests.support import factories
from tests.support.people import sign_in_client

#: Headers of every answer.
ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}

NO_PAGE = "default-src 'none'; frame-ancestors 'none'"
DOWNLOAD = "sandbox; default-src 'none'"
ANSWER_PAGE = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# The viewer of the API reference writes its styles into the page.
REFERENCE = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self';"
    " form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)

#: kind of answer -> content type, content security policy, cache control
KINDS: Mapping[str, tuple[str, str, str]] = {
    "json": ("application/json", NO_PAGE, "no-store"),
    "export": ("application/json", NO_PAGE, "private, no-cache"),
    "refused": ("application/problem+json", NO_PAGE, "no-store"),
    "no key": ("application/problem+json", NO_PAGE, "no-store"),
    "no such address": ("application/problem+json", NO_PAGE, "no-store"),
    "no such method": ("application/problem+json", NO_PAGE, "no-store"),
    "too large": ("application/problem+json", NO_PAGE, "no-store"),
    "artifact": ("text/html; charset=utf-8", DOWNLOAD, "private, no-cache"),
    "bundle": ("application/zip", DOWNLOAD, "private, no-cache"),
    "by link": ("text/html; charset=utf-8", DOWNLOAD, "no-store"),
    "by a bad link": ("application/problem+json", NO_PAGE, "no-store"),
    "console": ("text/html; charset=utf-8", PAGE, "no-store"),
    "document in the console": ("text/html; charset=utf-8", DOWNLOAD, "no-store"),
    "sign in": ("text/html; charset=utf-8", PAGE, "no-store"),
    "bad answer link": ("text/html; charset=utf-8", ANSWER_PAGE, "no-store"),
    "docs": ("text/html; charset=utf-8", REFERENCE, "no-cache"),
    "style": ("text/css; charset=utf-8", NO_PAGE, "no-cache"),
    "contract": ("application/json", NO_PAGE, "no-store"),
    "metrics": ("text/plain; version=1.0.0; charset=utf-8", NO_PAGE, "no-store"),
    "live": ("text/event-stream; charset=utf-8", NO_PAGE, "no-cache"),
}


@pytest.fixture
def answers(harness: ApiHarness) -> dict[str, httpx.Response]:
    """Return one answer of each kind."""
    client, stranger = harness.client(), harness.client_with_key(None)
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    view = client.get(f"/api/exports/{export_id}").json()
    # A page with typed text is the most dangerous document.
    artifact = next(each for each in view["artifacts"] if each["artifact_type"] == "cci_human_readable")
    until = utc_now() + timedelta(minutes=5)
    link = links.build_link_url(
        harness.runtime.settings, factories.ACCOUNT, artifact["id"], f"partner:{factories.BROKER}", until
    ).rpartition("/")[2]
    browser = harness.client_with_key(None)
    sign_in_client(browser, harness.runtime, "read")
    live = {"headers": {"Accept": "text/event-stream"}}
    with client.stream("GET", f"/api/exports/{export_id}/events", **live) as stream:  # type: ignore[arg-type]
        pass  # the headers have arrived; the stream does not end by itself
    return {
        "json": client.get("/api/exports"),
        "export": client.get(f"/api/exports/{export_id}"),
        "refused": client.get("/api/exports/exp_none"),
        "no key": stranger.get("/api/exports"),
        "no such address": client.get("/nothing"),
        "no such method": client.delete("/api/exports"),
        "too large": client.post(
            "/api/exports/preflight", content=b"[" * 100, headers={"Content-Type": "application/json"}
        ),
        "artifact": client.get(artifact["download_url"]),
        "bundle": client.get(f"/api/exports/{export_id}/bundle"),
        "by link": stranger.get(f"/documents/{link}"),
        "by a bad link": stranger.get(f"/documents/{link[:-1]}"),
        "console": browser.get(f"/console/exports/{export_id}"),
        "document in the console": browser.get(f"/console/artifacts/{artifact['id']}"),
        "sign in": stranger.get("/console/sign-in"),
        "bad answer link": stranger.get(f"/answers/{'x' * 48}"),
        "docs": stranger.get("/docs"),
        "style": stranger.get("/console/assets/style.css"),
        "contract": stranger.get("/openapi.json"),
        "metrics": stranger.get("/metrics"),
        "live": stream,
    }


def test_every_kind_of_answer_has_its_security_headers(answers: dict[str, httpx.Response]) -> None:
    assert answers.keys() == KINDS.keys()
    for kind, response in answers.items():
        headers = response.headers
        # The browser must say that the form came from this site.
        own_headers = {"referrer-policy": "same-origin"} if kind == "sign in" else {}
        assert {name: headers.get(name) for name in ALWAYS} == ALWAYS | own_headers, kind
        shown = (headers["content-type"], headers["content-security-policy"], headers["cache-control"])
        assert shown == KINDS[kind], kind
        assert headers["x-request-id"], kind


def test_no_answer_reveals_its_software(answers: dict[str, httpx.Response]) -> None:
    for kind, response in answers.items():
        assert not {"server", "x-powered-by", "via"} & set(response.headers), kind
        if kind not in ("contract", "docs", "live"):
            assert not [word for word in ("uvicorn", "starlette", "Traceback") if word in response.text], kind
