"""The form that holds a handoff or withdraws an export: what it says, does and refuses, without script."""

import pytest

from pipeline.exports.audit_trail import list_acts
from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.console.people.test_keys import read_form
from tests.interfaces.console.test_console import sign_in_browser
from tests.support import factories


@pytest.mark.parametrize(
    ("executed", "button", "outcome", "action"),
    [
        (False, "Hold the handoff", "handoff_held", "handoff_held"),
        (True, "Withdraw the export", "withdrawing", "withdrawal_requested"),
    ],
)
def test_form_stops_the_export(harness: ApiHarness, executed: bool, button: str, outcome: str, action: str) -> None:  # noqa: FBT001
    export_id = harness.execute(factories.plan())
    if executed:
        harness.run(export_id)
    client = sign_in_browser(harness, "read", "operate")
    page, address = f"/console/exports/{export_id}", f"/console/exports/{export_id}/stop"
    assert f'href="{address}">{button}</a>' in client.get(page).text
    form = read_form(client, address)
    assert f"<button>{button}</button>" in client.get(address).text
    empty = client.post(address, data=form | {"reason": " "})
    assert (empty.status_code, "say why, in 1 to 1,000 readable characters" in empty.text) == (400, True)
    assert client.post(address, data=form | {"reason": "<b>Stop</b>"}).headers["location"] == page
    assert client.post(address, data={"reason": "x"}).status_code == 403, "a foreign form"
    export = harness.client().get(f"/api/exports/{export_id}").json()
    assert export["outcome"] == outcome
    asked = export["withdrawal"] if executed else export["handoffHold"]
    assert asked["reason"] == "<b>Stop</b>"
    shown = client.get(page).text
    assert (address in shown, "<b>Stop</b>" in shown) == (False, False)
    with harness.runtime.db.read() as session:
        assert [(each.action, each.subject) for each in list_acts(session, factories.ACCOUNT).items][:1] == [
            (action, export_id)
        ]
    reader = sign_in_browser(harness, "read")
    assert address not in reader.get(page).text
    assert reader.get(address).status_code == 403


def test_calls_of_the_api_repeat_and_refuse(harness: ApiHarness) -> None:
    export_id = harness.execute(factories.plan())
    client, path = harness.client("operate", "read"), f"/api/exports/{export_id}"
    refused = client.post(f"{path}/withdraw", json={"reason": "x"})
    assert (refused.status_code, refused.json()["errorCode"]) == (409, "INVALID_STATE")
    assert client.post(f"{path}/hold", json={}).status_code == 400
    first, again = (client.post(f"{path}/hold", json={"reason": each}).json() for each in ("one", "two"))
    assert first == again
    assert client.get("/api/exports?outcome=handoff_held").json()["items"][0]["exportId"] == export_id
    (item,) = client.get("/api/inbox").json()["items"]
    assert (item["cause"], item["exportId"]) == ("handoff_held", export_id)
    assert client.post(f"{path}/release").json()["handoffHold"] is None
    harness.run(export_id)
    lost = client.post(f"{path}/hold", json={"reason": "x"}).json()
    assert (lost["errorCode"], lost["message"]) == (
        "INVALID_STATE",
        "the export was handed off already, so its handoff cannot be held; withdraw it",
    )
    first, again = (client.post(f"{path}/withdraw", json={"reason": each}).json() for each in ("one", "two"))
    assert (first, first["outcome"]) == (again, "withdrawing")
