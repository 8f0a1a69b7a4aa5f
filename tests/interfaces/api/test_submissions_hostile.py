"""A customs broker's answer with deceiving characters is accepted, and shown only in a legible form."""

import json

import pytest
from sqlmodel import col, select

from pipeline.core.text_safety import check_readable
from pipeline.deliveries.models import Notification
from pipeline.exports.schemas.export import EventView
from pipeline.exports.schemas.submissions import BrokerSubmissionView
from pipeline.interfaces.cli import export_view
from tests.interfaces.api.conftest import ApiHarness
from tests.support import factories
from tests.support.people import sign_in_client

PERSIAN = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
DECEIVING = f"Line\t1\r\nof \u202eexe.gnp\u202c sta\u200binless \x1b[31m{PERSIAN}\x9b"
SHOWN = f"Line 1\nof  exe.gnp  sta inless  [31m{PERSIAN} "
POINTER = "/units/0/a\u2066/lines\n/\x1b[2J"
SHOWN_POINTER = "/units/0/a /lines / [2J"


def reject_handoff(harness: ApiHarness) -> str:
    """Have a handoff rejected with such a text; return its export."""
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    client = harness.client()
    submission = client.get(f"/api/exports/{export_id}").json()["broker_submission"]["id"]
    body = {
        "id": "a-1",
        "status": "rejected",
        "message": DECEIVING,
        "fields": [{"pointer": POINTER, "message": "\u200b"}],
    }
    answer = client.post(f"/api/broker-submissions/{submission}/acknowledgements", json=body)
    assert (answer.status_code, answer.json()["recorded"]) == (200, True)
    assert not client.post(f"/api/broker-submissions/{submission}/acknowledgements", json=body).json()["recorded"]
    return export_id


def test_answer_with_hostile_characters_is_recorded_and_logged_in_legible_form(harness: ApiHarness) -> None:
    export_id = reject_handoff(harness)
    client = harness.client()
    fields = [{"pointer": SHOWN_POINTER, "message": " "}]
    acknowledgements = client.get(f"/api/exports/{export_id}").json()["broker_submission"]["acknowledgements"]
    (found,) = (each for each in acknowledgements if each["id"] == "a-1")
    assert (found["message"], found["fields"]) == (SHOWN, fields)
    with harness.runtime.db.read() as session:
        recorded = session.scalars(
            select(Notification.data).where(
                col(Notification.export_id) == export_id, col(Notification.event_type) == "exports.handoff.answered.v1"
            )
        ).all()
    text = [json.loads(each) for each in recorded]
    assert [(each["message"], each["fields"]) for each in text if each["answerId"] == "a-1"] == [(SHOWN, fields)]
    events = client.get(f"/api/exports/{export_id}/events").json()["items"]
    (event,) = (each for each in events if each["data"].get("id") == "a-1")
    assert (event["data"]["message"], event["data"]["fields"]) == (SHOWN, fields)


def test_console_isolates_the_text_direction_of_answers(harness: ApiHarness) -> None:
    export_id = reject_handoff(harness)
    browser = harness.client_with_key(None)
    sign_in_client(browser, harness.runtime, "read")
    page = browser.get(f"/console/exports/{export_id}").text
    assert f'<p class="words" dir="auto">{SHOWN}</p>' in page
    assert f'title="{SHOWN_POINTER}">' in page
    assert '</strong>: <span dir="auto"> </span></li>' in page
    assert check_readable(page) == page


@pytest.mark.parametrize("seen", ["inspect", "follow"])
def test_hostile_characters_of_older_records_are_not_printed(harness: ApiHarness, seen: str) -> None:
    export_id = reject_handoff(harness)
    client = harness.client()
    if seen == "inspect":
        found = client.get(f"/api/exports/{export_id}").json()["broker_submission"]
        found["acknowledgements"][-1] |= {"message": DECEIVING, "fields": [{"pointer": POINTER, "message": DECEIVING}]}
        text = export_view.format_submission(BrokerSubmissionView.model_validate(found)).plain
    else:
        event = client.get(f"/api/exports/{export_id}/events").json()["items"][-1]
        text = export_view.format_event(EventView.model_validate(event | {"data": {"message": DECEIVING}})).plain
    assert "exe.gnp" in text
    assert check_readable(text) == text
    assert all(each == "\n" or each.isprintable() or each == "\u200c" for each in text)
