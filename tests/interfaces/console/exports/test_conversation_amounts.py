"""What customs assessed is beside the estimate on every face, and a difference is an inbox item with remedies."""

from pipeline.exports.schemas.export import ExportView
from pipeline.interfaces.cli.export_view import format_submission
from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.console.test_console import sign_in_browser
from tests.interfaces.portal.conftest import open_portal
from tests.interfaces.portal.test_handoffs import BROKER, find_handoff, hand_off


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
