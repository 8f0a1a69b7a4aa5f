"""The console's form that lets the sandbox broker answer a test export."""

import pytest

from pipeline.deliveries import sandbox_broker
from tests.deliveries.conftest import clock, harness, make_runtime  # noqa: F401 - fixtures
from tests.deliveries.support.scenario import ApiHarness, hand_off
from tests.interfaces.console.people.test_keys import read_form
from tests.support.people import sign_in_client


def test_buttons_answer_a_test_export(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(sandbox_broker, "_schedule", lambda wait, post: None)
    export, _ = hand_off(harness, invoice="P P", test=True)
    browser = harness.client_without_key()
    sign_in_client(browser, harness.runtime, "operate")
    page = f"/console/exports/{export.export_id}/sandbox"
    assert f'href="{page}"' in browser.get(f"/console/exports/{export.export_id}").text
    form = read_form(browser, page)
    agency = {"status": "held", "package": "cp-000002", "agency": "fda"}
    for typed in ({"status": "released", "package": "CP-000001", "fees": "499=1.00"}, agency, agency):
        assert browser.post(page, data=form | typed).headers["location"] == page
    view = harness.client("read").get(f"/api/exports/{export.export_id}").json()["broker_submission"]
    assert [each["headline"] for each in view["entries"]] == ["released", "held"]
    assert len(view["acknowledgements"]) == 2
    for typed, message in (
        ({"status": "held", "package": "CP-9"}, "does not have the customs package CP-9"),
        ({"status": "remark"}, "needs a `message`"),
        ({"status": "filed", "fees": "all"}, "Assessed fees"),
    ):
        assert message in browser.post(page, data=form | typed).text
    live, _ = hand_off(harness, invoice="A")
    refused = f"/console/exports/{live.export_id}/sandbox"
    assert "did not receive a handoff" in browser.get(refused).text
    assert browser.post(refused, data=form | {"status": "held"}).status_code == 409
    reader = harness.client_without_key()
    sign_in_client(reader, harness.runtime, "read")
    assert reader.get(page).status_code == 403
