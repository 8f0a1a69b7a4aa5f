"""The page and the command of an export show the filed entries that an earlier revision left."""

from pipeline.exports.schemas.export import ExportView
from pipeline.interfaces.cli.export_view import render_export
from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.console.test_console import sign_in_browser
from tests.interfaces.portal.conftest import open_portal
from tests.interfaces.portal.test_handoffs import BROKER, find_handoff, hand_off
from tests.support import factories


def test_corrected_entry_is_in_sight(harness: ApiHarness) -> None:
    old = hand_off(harness, units=1)
    api, console = harness.client(), sign_in_browser(harness, "read", "operate")
    address = f"/api/broker-submissions/{find_handoff(open_portal(harness, BROKER))}/acknowledgements"
    api.post(address, json={"id": "a-1", "status": "filed", "entryNumber": "ABC-1"})
    plan = factories.plan(units=1, lines=4) | {"batchId": api.get(f"/api/exports/{old}").json()["batch_id"]}
    body = {"accountId": plan["accountId"], "batchId": plan["batchId"], "plan": plan}
    new = api.post(f"/api/exports/{old}/amend", params={"afterFiling": "correction"}, json=body).json()["exportId"]
    api.post(address, json={"id": "a-2", "status": "released"})
    view = api.get(f"/api/exports/{new}").json()
    assert [(each["entry_number"], each["status"]) for each in view["earlier_entries"]] == [("ABC-1", "released")]
    assert "earlier entry ABC-1" in "\n".join(map(str, render_export(ExportView.model_validate(view))))
    assert "ABC-1, <a href=" in console.get(f"/console/exports/{new}").text
