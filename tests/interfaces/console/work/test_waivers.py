"""The pages of waivers: recording, what is refused, the exports that used one, and revocation."""

import html
import re
from typing import Any

import httpx
import pytest

from pipeline.accounts.api_keys import Caller
from pipeline.core.findings import Finding
from pipeline.customs import waivers
from pipeline.interfaces.console.exports.finding_views import show_findings
from pipeline.workflow.waivers import find_waiver_uses
from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.console.partners.test_partner_settings import find_error
from tests.interfaces.console.people.test_keys import read_form
from tests.interfaces.console.test_console import sign_in_browser
from tests.support import factories
from tests.support.tables import table

NEW = {"rule": "V17", "reason": "Freight is on\r\nthe carrier's bill."}


def warned_plan(batch: str) -> factories.Json:
    """Return a plan with a warning of V17: its terms include carriage, but no charge shows it."""
    plan = factories.plan(batch=batch, invoice=f"INV-{batch}")
    return factories.change_plan(plan, "/units/0/invoice/charges/0/code", "handling")


def find_warning(harness: ApiHarness, plan: factories.Json) -> dict[str, Any]:
    report = harness.client().post("/api/exports/preflight", json=plan).json()
    found = [each for each in report["findings"] if each["rule"] == "V17"]
    assert found, report
    return dict(found[0])


def test_waiver_is_recorded_used_and_revoked(harness: ApiHarness) -> None:
    client = sign_in_browser(harness, "admin")
    assert "record the first one" in client.get("/console/waivers").text
    assert "waivedBy" not in find_warning(harness, warned_plan("b1"))
    form = read_form(client, "/console/waivers/new") | NEW
    made = client.post("/console/waivers", data=form)
    assert made.status_code == 303
    page = made.headers["location"]
    (waiver,) = waivers.list_waivers(harness.runtime, factories.ACCOUNT)
    assert (waiver.rule, waiver.reason, waiver.pointer) == ("V17", "Freight is on the carrier's bill.", None)
    assert find_warning(harness, warned_plan("b1"))["waivedBy"] == waiver.id
    assert "No export used it." in client.get(page).text
    used = [harness.execute(warned_plan(batch)) for batch in ("b1", "b2", "b3")]
    unused = harness.execute(factories.plan(batch="b4", invoice="INV-4"))
    shown = client.get(page).text
    for export_id in used:
        assert f'href="/console/exports/{export_id}"' in shown
    assert unused not in shown
    assert "All 4 exports since it was recorded were searched." in shown
    with harness.runtime.db.read() as session:
        first = find_waiver_uses(session, factories.ACCOUNT, waiver, limit=2)
        assert ([each.export_id for each in first.found], first.before) == ([used[2]], used[2])
        rest = find_waiver_uses(session, factories.ACCOUNT, waiver, limit=2, before=first.before)
        assert ([each.export_id for each in rest.found], rest.before) == ([used[1], used[0]], None)
    assert "the next 1 export" in client.get(f"{page}?before={used[1]}").text
    assert client.post(f"{page}/revoke", data=form).headers["location"] == page
    assert "revoked" in client.get(page).text
    assert "/revoke" not in client.get(page).text
    assert "waivedBy" not in find_warning(harness, warned_plan("b5"))
    assert "V17" not in client.get("/console/waivers").text
    assert "V17" in client.get("/console/waivers?ended=true").text


@table(
    ("typed", "place", "message"),
    [
        ({"rule": ""}, "rule", "This field is required; add it."),
        ({"rule": "no rule!"}, "rule", "must be 2 to 40 letters"),
        ({"reason": ""}, "reason", "is required"),
        ({"reason": "a\u202eb"}, "reason", "change the direction of writing"),
        ({"pointer": "units"}, "pointer", "must be a JSON Pointer"),
        ({"partner": "br_none"}, "partner", "is not a partner of this account"),
        ({"ends_on": "soon"}, "ends_on", "must be an ISO 8601 date"),
        ({"ends_on": "2020-01-01"}, "ends_on", "is before today"),
    ],
)
def test_invalid_waiver_is_explained_at_its_place(
    harness: ApiHarness, typed: dict[str, str], place: str, message: str
) -> None:
    client = sign_in_browser(harness, "admin")
    refused = client.post("/console/waivers", data=read_form(client, "/console/waivers/new") | NEW | typed)
    assert refused.status_code == 400
    assert message in find_error(refused.text, place)
    assert waivers.list_waivers(harness.runtime, factories.ACCOUNT) == []


def test_link_from_a_finding_fills_in_the_form(harness: ApiHarness) -> None:
    client = sign_in_browser(harness, "admin")
    shown = client.get("/console/waivers/new", params={"rule": "V17", "pointer": '/units/0/"><b>'}).text
    assert 'value="V17"' in shown
    assert "<b>" not in shown


def read_filled(client: httpx.Client, page: str) -> dict[str, str]:
    """Return the hidden fields of the form on a page, and what its other inputs are filled with."""
    shown = client.get(page).text.partition('id="main"')[2]
    return dict(re.findall(r'<input(?=[^>]* name="(\w+)")(?=[^>]* value="([^"]*)")', html.unescape(shown)))


def test_finding_of_an_export_leads_to_its_waiver(harness: ApiHarness) -> None:
    export_id = harness.execute(warned_plan("b1"))
    client = sign_in_browser(harness, "read", "admin")
    (found,) = re.findall(
        r'href="(/console/waivers/new[^"]*V17[^"]*)"', client.get(f"/console/exports/{export_id}").text
    )
    page = html.unescape(found)
    made = client.post("/console/waivers", data=read_filled(client, page) | {"reason": "Freight is on the bill."})
    assert made.status_code == 303
    (waiver,) = waivers.list_waivers(harness.runtime, factories.ACCOUNT)
    assert (waiver.rule, waiver.pointer) == ("V17", find_warning(harness, warned_plan("b2"))["pointer"])
    later = client.get(f"/console/exports/{harness.execute(warned_plan('b2'))}").text
    assert ("/console/waivers/new?rule=V17" in later, f'href="/console/waivers/{waiver.id}"' in later) == (False, True)
    for other in (sign_in_browser(harness, "read", "operate"), sign_in_browser(harness, "read", "admin", mode="test")):
        assert "/console/waivers/" not in other.get(f"/console/exports/{export_id}").text


@pytest.mark.parametrize(
    ("changes", "link"),
    [
        ({}, "/console/waivers/new?rule=V17&pointer=%2Funits%2F0%2Finvoice"),
        ({"pointer": ""}, "/console/waivers/new?rule=V17&pointer="),
        ({"severity": "block"}, ""),
        ({"pointer": '/units/0/"><b>'}, ""),
        ({"pointer": "/" + "x" * 600}, ""),
        ({"waived_by": "wvr_1"}, ""),
    ],
)
def test_only_a_finding_that_a_waiver_fits_has_the_link(changes: dict[str, str], link: str) -> None:
    facts = {"rule": "V17", "severity": "warn", "pointer": "/units/0/invoice", "message": "m", "remedy": "r"}
    finding = Finding.model_validate(facts | changes)
    reader = Caller(factories.ACCOUNT, "per_1", "live", frozenset({"admin"}))
    (shown,) = show_findings([finding], reader)
    assert (shown.waive_link, bool(shown.waiver_link)) == (link, "waived_by" in changes)
