"""What customs assessed is beside the estimate on every face, and a difference is an inbox item with remedies."""

from io import StringIO
from typing import Any

from rich.console import Console

from pipeline.exports.schemas.export import ExportPage, ExportView
from pipeline.interfaces.cli.export_view import build_exports_table, format_submission
from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.console.test_console import sign_in_browser
from tests.interfaces.portal.conftest import open_portal
from tests.interfaces.portal.test_handoffs import BROKER, find_handoff, hand_off
from tests.support.query_counter import record_statements


def test_difference_is_seen_everywhere_and_acknowledged(harness: ApiHarness) -> None:
    export_id = hand_off(harness, units=1)
    api, console, portal = (harness.client(), sign_in_browser(harness, "read", "operate"), open_portal(harness, BROKER))
    address = f"/api/broker-submissions/{find_handoff(portal)}/acknowledgements"
    charge = {"name": "Fee <b>", "amountUsd": "95"}
    assessed = {"currency": "USD", "fees": [{"code": "499", "amountUsd": "44.58"}], "charges": [charge]}
    answer = {"id": "a-1", "status": "filed", "assessed": assessed}
    refused = api.post(address, json=answer | {"assessed": assessed | {"currency": "CAD"}})
    assert (refused.status_code, refused.json()["pointer"]) == (400, "/assessed/currency")
    assert api.post(address, json=answer).json()["recorded"] is True
    changed = api.post(address, json=answer | {"assessed": assessed | {"fees": []}})
    assert (changed.status_code, changed.json()["pointer"]) == (409, "/id")
    view = api.get(f"/api/exports/{export_id}").json()
    (entry,) = view["broker_submission"]["entries"]
    fee = entry["assessment"]["lines"][0]
    assert (fee["estimatedUsd"], fee["assessedUsd"], fee["differenceUsd"], fee["withinTolerance"]) == (
        "34.58",
        "44.58",
        "10.00",
        False,
    )
    assert "comparison" not in view["broker_submission"]["acknowledgements"][0]
    assert fee["arithmetic"] in str(format_submission(ExportView.model_validate(view).broker_submissions[0]))
    for page in (console.get(f"/console/exports/{export_id}"), portal.get("/portal/handoffs/" + address.split("/")[3])):
        assert "assessed otherwise than estimated" in page.text
        assert "<strong>10.00</strong>" in page.text
        assert "Fee &lt;b&gt;" in page.text
    inbox = console.get("/console/inbox").text
    assert "Assessed otherwise than estimated" in inbox
    (item,) = api.get("/api/inbox", params={"cause": "amounts_differ"}).json()["items"]
    assert fee["arithmetic"] in item["text"]
    assert api.post(f"/api/exports/{export_id}/acknowledge", json={}).status_code == 200
    assert "Assessed otherwise than estimated" not in console.get("/console/inbox").text


def test_entries_that_differ_are_seen_on_every_face(harness: ApiHarness) -> None:
    export_id = hand_off(harness)
    api, console, portal = (harness.client(), sign_in_browser(harness, "read", "operate"), open_portal(harness, BROKER))
    handoff = find_handoff(portal)
    first, second = ({"customsPackageNumbers": [f"CP-00000{each}"]} for each in (1, 2))
    hold = {"holder": "agency", "agency": "FDA", "kind": "exam"}
    answers: list[dict[str, Any]] = [
        {"status": "released", "entryNumber": "ABC-1"} | first,
        {"status": "summary_paid"} | first,
        {"status": "held", "hold": hold, **second},
        {"status": "held"} | second,
        {"status": "bill_unmatched"} | second,
    ]
    for number, each in enumerate(answers):
        posted = api.post(f"/api/broker-submissions/{handoff}/acknowledgements", json={"id": f"a-{number}"} | each)
        assert posted.status_code in {200, 201, 202}, posted.text
    view = ExportView.model_validate(api.get(f"/api/exports/{export_id}").json())
    command = str(format_submission(view.broker_submissions[0]))
    assert "CP-000001  released  ABC-1  summary paid" in command
    assert "CP-000002  held  hold not named, hold agency FDA exam  bill unmatched" in command
    for address in (f"/console/exports/{export_id}", f"/console/exports/{export_id}/units"):
        page = console.get(address).text
        assert "CP-000001</td>" in page
        assert "not named, agency FDA exam" in page
        assert "not matched" in page
    assert "not named, agency FDA exam" in portal.get(f"/portal/handoffs/{handoff}").text
    with record_statements(harness.runtime.db) as asked:
        listed = ExportPage.model_validate(api.get("/api/exports").json()).items
    assert len([each for each in asked if "FROM entries" in each or "FROM exports" in each]) == 2
    assert [each.entries for each in listed] == ["1 of 2 released, 1 held"]
    assert "1 of 2 released, 1 held" in console.get("/console/exports").text
    shown = Console(width=200, file=StringIO(), record=True)
    shown.print(build_exports_table(listed))
    assert "held: 1 of 2 released, 1 held" in shown.export_text()
