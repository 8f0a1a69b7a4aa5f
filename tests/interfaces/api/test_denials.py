"""Refusals for want of authority: each kind is counted and logged with who was refused what, and a flood is cut off."""

from collections.abc import Callable
from typing import Final

import httpx
import pytest
from prometheus_client import CollectorRegistry
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from pipeline.interfaces.api import denials
from tests.interfaces.api.conftest import OTHER, ApiHarness
from tests.support import factories
from tests.support.metrics_text import parse, value
from tests.support.people import sign_in_client

LINK: Final = "x" * 60
FOREIGN: Final = {"Sec-Fetch-Site": "cross-site"}


def answer_for_another_account(harness: ApiHarness) -> httpx.Response:
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    submission = harness.client().get(f"/api/exports/{export_id}").json()["broker_submission"]["id"]
    body = {"id": "a-1", "status": "accepted"}
    return harness.client("operate", account=OTHER).post(
        f"/api/broker-submissions/{submission}/acknowledgements", json=body
    )


def send_form_of_another_site(harness: ApiHarness) -> httpx.Response:
    browser = harness.client_with_key(None)
    sign_in_client(browser, harness.runtime, "admin")
    return browser.post("/console/me/account", data={"csrf_token": "0" * 64})


def post(path: str, **sent: object) -> Callable[[ApiHarness], httpx.Response]:
    return lambda harness: harness.client_with_key(None).post(path, **sent)  # type: ignore[arg-type]  # what httpx takes


def get(path: str, *roles: str) -> Callable[[ApiHarness], httpx.Response]:
    return lambda harness: (harness.client(*roles) if roles else harness.client_with_key(None)).get(path)


#: what is sent -> reason, status, route, and what names the caller
DENIED: Final = [
    (get("/api/exports"), "key_or_signature", 401, "/api/exports", set()),
    (get("/api/audit", "execute"), "role", 403, "/api/audit", {"account_id", "key_id"}),
    (
        answer_for_another_account,
        "other_account",
        404,
        "/api/broker-submissions/{id}/acknowledgements",
        {"account_id", "key_id"},
    ),
    (send_form_of_another_site, "foreign_form", 403, "/console/me/account", {"account_id", "person_id"}),
    (post("/console/sign-in", headers=FOREIGN), "foreign_form", 403, "/console/sign-in", set()),
    (post("/console/sign-in", data={"email": "a@b.example"}), "sign_in", 401, "/console/sign-in", set()),
    (post("/portal/open", data={"link": LINK}), "unknown_link", 404, "/portal/open", set()),
    (get(f"/documents/{LINK}"), "unknown_link", 404, "/documents/{token}", set()),
    (get(f"/answers/{LINK}"), "unknown_link", 404, "/answers/{token}", set()),
    (get(f"/calendar/{LINK}.ics"), "unknown_link", 404, "/calendar/{token}.ics", set()),
    (get(f"/console/links/{LINK}"), "unknown_link", 404, "/console/links/{token}", set()),
]


@pytest.mark.parametrize(("send", "reason", "status", "route", "names"), DENIED)
def test_refusal_is_counted_and_leaves_a_line(
    harness: ApiHarness,
    send: Callable[[ApiHarness], httpx.Response],
    reason: str,
    status: int,
    route: str,
    names: set[str],
) -> None:
    with capture_logs(processors=[merge_contextvars]) as logs:
        assert send(harness).status_code == status
    (line,) = [each for each in logs if each["event"] == "access_denied"]
    assert {name: line[name] for name in ("reason", "status", "route", "network", "log_level")} == {
        "reason": reason,
        "status": status,
        "route": route,
        "network": "127.0.0.0/24",
        "log_level": "info",
    }
    assert line.keys() & {"account_id", "key_id", "person_id"} == names
    assert LINK not in str(line)
    shown = parse(harness.client_with_key(None).get("/metrics").text)
    assert (
        value(shown, "exports_access_denied_total") == value(shown, "exports_access_denied_total", reason=reason) == 1
    )


def test_what_authority_does_not_decide_is_not_counted(harness: ApiHarness) -> None:
    reader, browser = harness.client("read"), harness.client_with_key(None)
    with capture_logs() as logs:
        assert reader.get("/api/exports/exp_unknown").status_code == 404
        assert reader.get("/api/exports?limit=0").status_code == 400
        # A page that is open when its session ends asks on.
        assert browser.get("/console/live?seen=", headers={"HX-Request": "true"}).status_code == 401
        assert browser.get("/console/exports").status_code == 303
    assert [each for each in logs if each["event"] == "access_denied"] == []


def test_flood_of_one_reason_is_cut_off_and_hides_no_other() -> None:
    registry = CollectorRegistry()
    denied = denials.Denials(registry)
    denied._lines.clock = lambda: 0.0
    with capture_logs() as logs:
        for _ in range(100):
            denied.record({"client": None}, "POST", "/console/sign-in", 401)
        denied.record({"client": None}, "GET", "/answers/{token}", 404)
    assert [each["reason"] for each in logs] == ["sign_in"] * 60 + ["unknown_link"]
    assert registry.get_sample_value("exports_access_denied_total", {"reason": "sign_in"}) == 100
