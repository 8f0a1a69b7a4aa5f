"""The portal's handoffs: a customs broker answers its own by form, under the rules of the API."""

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import update
from sqlmodel import col, select

from pipeline.accounts import partners
from pipeline.accounts.people import name_actors
from pipeline.accounts.schemas import NewPartner
from pipeline.core.clock import utc_now
from pipeline.deliveries.models import BrokerSubmission, Notification
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.submissions.reply_links import build_reply_link
from pipeline.exports.audit_trail import list_acts
from tests.deliveries.support import exports
from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.portal.conftest import find_ids, open_portal, submit
from tests.support import factories

BROKER, OTHER_BROKER = "br_own", "br_else"


def register(harness: ApiHarness, broker: str) -> None:
    if broker not in {each.id for each in partners.list_partners(harness.runtime, factories.ACCOUNT)}:
        new = {"id": broker, "kind": "customs_broker", "name": "Demo Brokers", "live": True}
        channels = [{"channel": "queue"}]
        partners.create_partner(
            harness.runtime, factories.ACCOUNT, NewPartner.model_validate(new | {"channels": channels})
        )


def hand_off(harness: ApiHarness, broker: str = BROKER, batch: str = factories.BATCH, units: int = 2) -> str:
    """Hand an export off to a customs broker that reads a queue, and return the export's id."""
    register(harness, broker)
    export_id = harness.execute(factories.plan(units=units, lines=3 if units == 2 else 1, broker=broker, batch=batch))
    harness.run(export_id)
    return export_id


def read_submission(harness: ApiHarness, export_id: str) -> Mapping[str, Any]:
    view: Mapping[str, Any] = harness.client().get(f"/api/exports/{export_id}").json()["broker_submission"]
    return view


def find_handoff(browser: httpx.Client) -> str:
    (handoff,) = find_ids(browser, "/portal/handoffs", "handoffs")
    return handoff


def answer(browser: httpx.Client, handoff: str, **form: str) -> httpx.Response:
    return submit(browser, f"/portal/handoffs/{handoff}", f"/portal/handoffs/{handoff}/answer", **form)


def test_broker_answers_from_received_to_released(harness: ApiHarness) -> None:
    export_id = hand_off(harness)
    browser = open_portal(harness, BROKER)
    handoff = find_handoff(browser)
    for status, form in (
        ("received", {}),
        ("accepted", {"message": "Thank you"}),
        ("filed", {"entryNumber": "ABC-1234567-8"}),
        ("held", {"message": "An exam"}),
        ("released", {}),
    ):
        taken = answer(browser, handoff, status=status, **form)
        assert (taken.status_code, taken.headers["location"]) == (303, f"/portal/handoffs/{handoff}")
        assert read_submission(harness, export_id)["submission_status"] == status
        assert f'<span class="pill {status}">{status}</span>' in browser.get(f"/portal/handoffs/{handoff}").text
    answers = read_submission(harness, export_id)["acknowledgements"]
    assert [each["status"] for each in answers] == ["received", "accepted", "filed", "held", "released"]
    assert answers[2]["entry_number"] == "ABC-1234567-8"
    events = harness.client().get(f"/api/exports/{export_id}/events").json()["items"]
    actors = {each["actor"][:11] for each in events if each["type"] in {"BROKER_ACKNOWLEDGED", "BROKER_RELEASED"}}
    assert actors == {"portal:lnk_"}
    with harness.runtime.db.read() as session:
        acts = list_acts(session, factories.ACCOUNT).items
        actor = acts[0].actor
        link_id = actor.removeprefix("portal:")
        assert name_actors(session, {actor})[actor] == f"portal of Demo Brokers ({link_id})"
    assert [(act.action, act.subject, act.detail) for act in acts[:1]] == [
        ("handoff_answered", handoff, {"status": "released"})
    ]


def test_broker_answers_about_one_customs_package(harness: ApiHarness) -> None:
    export_id = hand_off(harness)
    browser = open_portal(harness, BROKER)
    handoff = find_handoff(browser)
    wrong = answer(browser, handoff, status="filed", package="CP-000009")
    assert "The handoff does not have this customs package" in wrong.text
    assert answer(browser, handoff, status="filed", package=" cp-000002 ", entryNumber="ABC-1").status_code == 303
    page = browser.get(f"/portal/handoffs/{handoff}").text
    assert re.findall(r'>(CP-\d+)</td><td><span class="pill \w+">(\w+)</span>', page) == [
        ("CP-000001", "awaiting"), ("CP-000002", "filed"),
    ]  # fmt: skip
    (given,) = read_submission(harness, export_id)["acknowledgements"]
    assert given["customsPackageNumbers"] == ["CP-000002"]


def test_broker_sees_which_entry_goes_on_and_what_it_corrects(harness: ApiHarness) -> None:
    export_id = hand_off(harness)
    browser = open_portal(harness, BROKER)
    old = find_handoff(browser)
    for package, number in (("CP-000001", "ABC-1"), ("CP-000002", "ABC-2")):
        assert answer(browser, old, status="filed", package=package, entryNumber=number).status_code == 303
    plan = factories.plan(units=2, broker=BROKER)
    plan["units"][1]["invoice"]["purchaseOrder"] = "<b>PO-2"
    request = {"accountId": factories.ACCOUNT, "batchId": plan["batchId"], "plan": plan}
    amended = harness.client().post(f"/api/exports/{export_id}/amend?afterFiling=correction", json=request)
    assert amended.status_code == 202, amended.text
    harness.run(amended.json()["exportId"])
    (new,) = set(find_ids(browser, "/portal/handoffs?all=true", "handoffs")) - {old}
    page = browser.get(f"/portal/handoffs/{new}").text
    for said in (
        "CP-000001 did not change since revision 1. Its entry ABC-1 (filed) goes on: file no second one.",
        "CP-000002 has entry ABC-2 (filed). Correct it, and file no second one.",
        "<bdi>&lt;b&gt;PO-2</bdi>",
    ):
        assert said in page


@pytest.mark.parametrize("newer", [BROKER, OTHER_BROKER])
def test_broker_answers_about_an_entry_of_a_replaced_handoff(harness: ApiHarness, newer: str) -> None:
    export_id = hand_off(harness)
    browser = open_portal(harness, BROKER)
    old = find_handoff(browser)
    assert answer(browser, old, status="filed", package="CP-000001", entryNumber="ABC-1").status_code == 303
    register(harness, newer)
    plan = factories.plan(units=2, broker=newer)
    plan["units"][0]["invoice"]["purchaseOrder"] = "PO-2"
    request = {"accountId": factories.ACCOUNT, "batchId": plan["batchId"], "plan": plan}
    amended = harness.client().post(f"/api/exports/{export_id}/amend?afterFiling=correction", json=request)
    assert amended.status_code == 202, amended.text
    with harness.runtime.db.read() as session:
        sent = select(Notification.id).where(
            col(Notification.export_id) == export_id, col(Notification.event_type) == MessageType.HANDOFF_READY
        )
        link = f"/answers/{build_reply_link(harness.runtime.settings, session.exec(sent).one()).token}"
    person = harness.client_with_key(None)
    for page in (person.get(link).text, browser.get(f"/portal/handoffs/{old}").text):
        assert "A newer revision has replaced this handoff" in page
        assert "Answers about an entry that you filed for this one still count." in page
        assert ('value="withdrawn"' in page) is (newer == OTHER_BROKER)
    held = {"form_id": "0" * 32, "status": "held", "package": "CP-000001"}
    assert person.post(link, data=held).status_code == 303
    assert answer(browser, old, status="withdrawn", package="CP-000002").status_code == 303
    entries = read_submission(harness, export_id)["entries"]
    assert [each["headline"] for each in entries] == ["held", "withdrawn"]


def test_broker_sees_which_answers_are_due_and_what_a_handoff_contains(harness: ApiHarness) -> None:
    hand_off(harness)
    browser = open_portal(harness, BROKER)
    assert "<span>answers due</span><strong>1</strong>" in browser.get("/portal").text
    page = browser.get(f"/portal/handoffs/{find_handoff(browser)}").text
    assert page.index("<h2>Customs packages</h2>") < page.index("<h2>Documents</h2>") < page.index("<h2>Answer</h2>")
    assert re.findall(r'data-label="(?:Total|Port of entry)">([^<]+)<', page) == [
        "228.00 USD", "0901 Buffalo-Niagara Falls NY", "228.00 USD", "0901 Buffalo-Niagara Falls NY",
    ]  # fmt: skip
    answer(browser, find_handoff(browser), status="released")
    assert "<span>answers due</span><strong>0</strong>" in browser.get("/portal").text
    assert "No answer is due." in browser.get("/portal/handoffs").text
    assert "answers due" not in open_portal(harness, factories.WAREHOUSE).get("/portal").text


def test_handoffs_stand_by_deadline_and_the_overdue_ones_are_marked(harness: ApiHarness) -> None:
    for batch, hours in (("later", 5), ("late", -2), ("soon", 1)):
        export_id = hand_off(harness, batch=batch, units=1)
        with harness.runtime.db.write() as session:
            session.execute(
                update(BrokerSubmission)
                .where(col(BrokerSubmission.export_id) == export_id)
                .values(deadline_at=utc_now() + timedelta(hours=hours, minutes=30))
            )
    browser = open_portal(harness, BROKER)
    page = browser.get("/portal/handoffs").text
    rows = re.findall(
        r'">(\w+)</bdi></a></td>.*?<span class="pill (\w+)">.*?<strong[^>]*?( class="refusal")?>(\w+ \w+ \d h)',
        page,
        re.DOTALL,
    )
    assert rows == [
        ("late", "busy", ' class="refusal"', "overdue for 1 h"),
        ("soon", "busy", "", "due in 1 h"),
        ("later", "busy", "", "due in 5 h"),
    ]
    assert page.count('<span class="pill bad">overdue</span>') == 1
    late = re.search(
        r'href="(/portal/handoffs/[^"]+)"><bdi class="long">late<', browser.get("/portal/handoffs?all=true").text
    )
    assert late is not None
    assert "<strong data-deadline" in browser.get(late[1]).text
    assert "overdue for 1 h" in browser.get(late[1]).text


def test_broker_downloads_all_documents_that_its_message_names(harness: ApiHarness) -> None:
    hand_off(harness)
    browser = open_portal(harness, BROKER)
    handoff = find_handoff(browser)
    page = browser.get(f"/portal/handoffs/{handoff}").text
    (link,) = re.findall(r'href="([^"]+)">Download all<', page)
    one = re.findall(r'href="([^"]+/documents/[^"]+)"', page)[0]
    browser.get(one).raise_for_status()
    with zipfile.ZipFile(io.BytesIO(browser.get(link).content)) as archive:
        documents = {name.rpartition("/")[2] for name in archive.namelist() if "/" in name}
    assert documents == set(re.findall(r'/documents/[^"]+">([^<]+)<', page))
    assert open_portal(harness, factories.WAREHOUSE).get(link).status_code == 404
    with harness.runtime.db.read() as session:
        acts = [(act.action, act.subject) for act in list_acts(session, factories.ACCOUNT).items]
    taken = [("document_downloaded", handoff), ("document_downloaded", one.rpartition("/")[2])]
    assert [act for act in acts if act[0] == "document_downloaded"] == taken


def test_partner_with_email_alone_sees_no_pages_of_integrators(harness: ApiHarness) -> None:
    channels = [{"channel": "email", "addresses": ["desk@broker.example"]}]
    new = {"id": "br_mail", "kind": "customs_broker", "name": "Demo Brokers", "live": True, "channels": channels}
    partners.create_partner(harness.runtime, factories.ACCOUNT, NewPartner.model_validate(new))
    for partner_id, pages in (("br_mail", []), (factories.BROKER, ["Secret", "Verify", "Samples"])):
        page = open_portal(harness, partner_id).get("/portal").text
        nav = page.partition('aria-label="Portal"')[2].partition("</nav>")[0]
        assert re.findall(r">(\w+)</a>", nav) == ["Overview", "Deliveries", "Handoffs", "Endpoint", *pages]


@pytest.mark.parametrize("status", ["rejected", "query"])
def test_rejection_names_fields_by_pointer(harness: ApiHarness, status: str) -> None:
    export_id = hand_off(harness)
    browser = open_portal(harness, BROKER)
    handoff = find_handoff(browser)
    fields = {"place0": "U1, line 2 (SHIRT-00002): HTS code", "wrong0": "It has expired"}
    fields |= {"place3": "/units/1/invoice/total", "wrong3": "It does not add up"}
    assert answer(browser, handoff, status=status, **fields).status_code == 303
    (given,) = read_submission(harness, export_id)["acknowledgements"]
    assert given["fields"] == [
        {"pointer": "/units/0/lines/1/htsCode", "message": "It has expired"},
        {"pointer": "/units/1/invoice/total", "message": "It does not add up"},
    ]
    page = browser.get(f"/portal/handoffs/{handoff}").text
    assert "U1, line 2 (SHIRT-00002): HTS code" in page
    assert "It does not add up" in page


def test_wrong_form_names_each_input_and_keeps_what_was_typed(harness: ApiHarness) -> None:
    export_id = hand_off(harness)
    browser = open_portal(harness, BROKER)
    handoff = find_handoff(browser)
    typed = {"status": "query", "place0": "no such field", "wrong0": "<b>why</b>", "place1": "", "wrong1": "of what"}
    refused = answer(browser, handoff, **typed, place2="/units/0/entry")
    assert refused.status_code == 400
    for name in ("place0", "place1", "wrong2"):
        assert f'id="{name}-error"' in refused.text
        assert f'aria-describedby="{name}-error"' in refused.text
    assert 'value="&lt;b&gt;why&lt;/b&gt;"' in refused.text
    assert re.search(r'value="query" required checked', refused.text)
    for form, error in (
        ({}, "Choose one of the answers."),
        ({"status": "superseded"}, "Choose one of the answers."),
        ({"status": "rejected"}, "Write what is wrong or what you ask"),
        ({"status": "filed", "entryNumber": "ABC 1"}, "An entry number must have only letters, digits and hyphens"),
        ({"status": "received", "message": "x" * 1001}, "The message has more than 1,000 characters"),
    ):
        wrong = answer(browser, handoff, **form)
        assert wrong.status_code == 400
        assert error in wrong.text
        assert form.get("message", "") in wrong.text
    assert read_submission(harness, export_id)["acknowledgements"] == []


def test_form_that_is_sent_twice_counts_once(harness: ApiHarness) -> None:
    export_id = hand_off(harness)
    browser = open_portal(harness, BROKER)
    handoff = find_handoff(browser)
    page = browser.get(f"/portal/handoffs/{handoff}").text
    form = dict(re.findall(r'type="hidden" name="(\w+)" value="(\w+)"', page)) | {"status": "accepted"}
    for _ in range(2):
        assert browser.post(f"/portal/handoffs/{handoff}/answer", data=form).status_code == 303
    assert len(read_submission(harness, export_id)["acknowledgements"]) == 1
    changed = form | {"message": "We file it tomorrow."}
    assert browser.post(f"/portal/handoffs/{handoff}/answer", data=changed).status_code == 303
    assert [each["message"] for each in read_submission(harness, export_id)["acknowledgements"]] == [
        None,
        "We file it tomorrow.",
    ]
    for form_id in ("", "x", "0" * 31, "../" * 10):
        refused = browser.post(f"/portal/handoffs/{handoff}/answer", data=form | {"form_id": form_id})
        assert (refused.status_code, "Nothing was recorded. The form is incomplete" in refused.text) == (400, True)


def test_documents_of_the_handoff_are_downloaded(harness: ApiHarness) -> None:
    hand_off(harness)
    browser = open_portal(harness, BROKER)
    page = browser.get(f"/portal/handoffs/{find_handoff(browser)}").text
    links = re.findall(r'href="(/portal/handoffs/\w+/documents/\w+)"', page)
    assert len(links) > 5
    fetched = [browser.get(link) for link in links]
    assert {each.status_code for each in fetched} == {200}
    for each in fetched:
        assert each.headers["content-disposition"].startswith("attachment")
        assert each.headers["content-security-policy"] == "sandbox; default-src 'none'"
    view = harness.client().get(f"/api/exports/{factories.BATCH}").json()
    known = {each["sha256"] for each in view["artifacts"]}
    assert {hashlib.sha256(each.content).hexdigest() for each in fetched} <= known


def test_handoffs_of_other_brokers_are_not_found(harness: ApiHarness) -> None:
    ours, theirs = hand_off(harness), hand_off(harness, OTHER_BROKER, "batch_other")
    browser, other = open_portal(harness, BROKER), open_portal(harness, OTHER_BROKER)
    own, foreign = find_handoff(browser), find_handoff(other)
    document = re.findall(r"documents/(art_\w+)", other.get(f"/portal/handoffs/{foreign}").text)[0]
    page = browser.get(f"/portal/handoffs/{own}").text
    form = dict(re.findall(r'type="hidden" name="(\w+)" value="(\w+)"', page)) | {"status": "accepted"}
    for wrong in (foreign, "sub_none", ours, "%2e%2e"):
        for address in (f"/portal/handoffs/{wrong}", f"/portal/handoffs/{wrong}/documents/{document}"):
            assert browser.get(address).status_code == 404
        assert browser.post(f"/portal/handoffs/{wrong}/answer", data=form).status_code == 404
    assert browser.get(f"/portal/handoffs/{own}/documents/{document}").status_code == 404
    assert browser.get("/portal/handoffs", params={"cursor": foreign}).status_code == 404
    assert read_submission(harness, theirs)["acknowledgements"] == []


@pytest.mark.parametrize("partner", [factories.WAREHOUSE, factories.OPERATOR])
def test_other_kinds_of_partners_have_no_handoffs(harness: ApiHarness, partner: str) -> None:
    hand_off(harness)
    handoff = find_handoff(open_portal(harness, BROKER))
    browser = open_portal(harness, partner)
    overview = browser.get("/portal").text
    assert "/portal/handoffs" not in overview
    token = re.findall(r'csrf_token" value="(\w+)', overview)[0]
    for address in ("/portal/handoffs", f"/portal/handoffs/{handoff}", f"/portal/handoffs/{handoff}/documents/a"):
        assert browser.get(address).status_code == 404
    form = {"csrf_token": token, "form_id": "0" * 32, "status": "accepted"}
    assert browser.post(f"/portal/handoffs/{handoff}/answer", data=form).status_code == 404


def test_purged_handoff_cannot_be_answered(harness: ApiHarness) -> None:
    export_id = hand_off(harness)
    browser = open_portal(harness, BROKER)
    handoff = find_handoff(browser)
    page = browser.get(f"/portal/handoffs/{handoff}").text
    document = re.findall(rf"/portal/handoffs/{handoff}/documents/\w+", page)[0]
    form = dict(re.findall(r'type="hidden" name="(\w+)" value="(\w+)"', page)) | {"status": "accepted"}
    exports.purge(harness.runtime, export_id)
    refused = browser.post(f"/portal/handoffs/{handoff}/answer", data=form)
    assert refused.status_code == 409
    assert "the answer was not recorded" in refused.text
    assert "It cannot be answered any more" in refused.text
    assert f'action="/portal/handoffs/{handoff}/answer"' not in refused.text
    assert browser.get(document).status_code == 409


@pytest.mark.system
def test_packages_of_a_large_handoff_are_paged_found_and_answered(harness: ApiHarness) -> None:
    export_id = hand_off(harness, units=23)
    browser = open_portal(harness, BROKER)
    address = f"/portal/handoffs/{find_handoff(browser)}"
    link, shown, documents = address, [], set()
    while link:
        page = browser.get(link).text
        shown += re.findall(r'<td data-label="Invoice"><bdi class="long">([^<]+)<', page)
        documents |= {*re.findall(r'href="(/portal/handoffs/\w+/documents/\w+)"', page)}
        (link, *_) = [*re.findall(r'<a rel="next" href="([^"]+)"', page), ""]
    assert shown == [f"A-{number:05d}" for number in range(1, 24)]
    view = harness.client().get(f"/api/exports/{export_id}").json()
    assert len(documents) == len(view["artifacts"])
    assert browser.get(max(documents)).status_code == 200
    for wanted, place in (("a-00018", 17), (view["customs_packages"][22]["packageNumber"], 22), ("U5", 4)):
        assert browser.get(address, params={"find": wanted}).headers["location"] == f"{address}?after={place}"
    missed = browser.get(address, params={"find": "<b>"})
    assert (missed.status_code, "has the number <bdi>&lt;b&gt;</bdi>" in missed.text) == (404, True)
    assert "There are no more customs packages." in browser.get(f"{address}?after=23").text
    last = browser.get(f"{address}?after=20").text
    assert '<option value="U23, invoice total">' in last
    assert '<option value="U1, invoice total">' not in last
    refused = submit(
        browser, f"{address}?after=20", f"{address}/answer?after=20", status="query", place0="U99", wrong0="?"
    )
    assert (refused.status_code, '<option value="U23, invoice total">' in refused.text) == (400, True)
    for field, pointer in (
        ("U23, invoice total", "/units/22/invoice/total"),
        ("U1, seller", "/units/0/parties/seller"),
    ):
        taken = submit(browser, address, f"{address}/answer", status="query", place0=field, wrong0="Why?")
        assert taken.status_code == 303
        answers = read_submission(harness, export_id)["acknowledgements"]
        assert answers[-1]["fields"] == [{"pointer": pointer, "message": "Why?"}]
