"""The page of the conversation with the customs broker: what both sides wrote, and a form to write."""

from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.console.people.test_keys import read_form
from tests.interfaces.console.test_console import sign_in_browser
from tests.interfaces.portal.conftest import open_portal
from tests.interfaces.portal.test_handoffs import BROKER, answer, find_handoff, hand_off


def test_question_is_asked_in_the_portal_and_answered_on_the_console(harness: ApiHarness) -> None:
    export_id = hand_off(harness, units=1)
    portal, console = open_portal(harness, BROKER), sign_in_browser(harness, "read", "operate")
    handoff, page = find_handoff(portal), f"/console/exports/{export_id}/conversation"
    answer(portal, handoff, status="query", message="Of what is <b>it</b>?")
    assert f'<a class="button main in-row" href="{page}">Reply</a>' in console.get("/console/inbox").text
    form = read_form(console, page) | {"text": "It is <i>steel</i>.", "package": "cp-000001"}
    for _ in range(2):
        assert console.post(page, data=form).headers["location"] == f"/console/exports/{export_id}"
    assert console.post(page, data=form | {"text": "And iron."}).status_code == 303
    assert page not in console.get("/console/inbox").text
    for shown in (
        console.get(page),
        console.get(f"/console/exports/{export_id}"),
        portal.get(f"/portal/handoffs/{handoff}"),
    ):
        places = [shown.text.index(each) for each in ("Of what is &lt;b", "It is &lt;i&gt;steel", "And iron.")]
        assert places == sorted(places)
        assert shown.text.count("It is &lt;i&gt;steel") == 1 or "/portal/" not in str(shown.url)
    answer(portal, handoff, status="remark", message="Thank you.")
    items = harness.client().get(f"/api/exports/{export_id}/conversation").json()["items"]
    assert [(each["status"], each["text"], each["customsPackageNumbers"]) for each in items] == [
        ("query", "Of what is <b>it</b>?", None),
        (None, "It is <i>steel</i>.", ["CP-000001"]),
        (None, "And iron.", ["CP-000001"]),
        ("remark", "Thank you.", None),
    ]
    message, address = {"id": "m-1", "text": "The truck is late."}, f"/api/exports/{export_id}/messages"
    changes: list[dict[str, str]] = [{}, {}, {"text": "It is early."}, {"id": "m-2", "inReplyTo": "a-9"}]
    codes = [harness.client().post(address, json=message | each).status_code for each in changes]
    assert codes == [201, 200, 409, 422]


def test_refused_message_stays_in_the_form_and_readers_have_none(harness: ApiHarness) -> None:
    export_id = hand_off(harness, units=1)
    console, page = sign_in_browser(harness, "read", "operate"), f"/console/exports/{export_id}/conversation"
    form = read_form(console, page)
    for typed, message in (
        ({"text": ""}, "must have 1 to 1,000 characters"),
        ({"text": "Hello", "package": "CP-99"}, "does not have the customs package CP-99"),
        ({"text": "Hello", "package": "one"}, "must be a number such as CP-000001"),
    ):
        refused = console.post(page, data=form | typed)
        assert refused.status_code in (400, 422)
        assert message in refused.text
        assert typed["text"] in refused.text
    reader = sign_in_browser(harness, "read")
    assert 'name="text"' not in reader.get(page).text
    assert reader.post(page, data=read_form(reader, "/console/exports") | {"text": "x"}).status_code == 403
    assert harness.client().get(f"/api/exports/{export_id}/conversation").json() == {
        "items": [],
        "total": 0,
        "nextAfter": None,
    }
