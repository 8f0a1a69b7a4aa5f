"""The link in an e-mail: it answers one handoff until that ends, without an account; and what invalid links get."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import update
from sqlmodel import col, select

from pipeline.accounts import partners, portal_links
from pipeline.accounts.schemas import NewPartner
from pipeline.deliveries.email import content
from pipeline.deliveries.models import Acknowledgement, Notification
from pipeline.deliveries.submissions.reply_links import build_reply_link, parse_reply_link
from pipeline.exports.audit_trail import list_acts
from pipeline.exports.models import Export
from pipeline.exports.states import ExportState
from pipeline.interfaces.portal.reply_links import MAX_FORM_BYTES, REQUESTS_PER_MINUTE
from tests.deliveries.support import exports
from tests.deliveries.support.exports import purge
from tests.interfaces.api.conftest import ApiHarness, Open
from tests.support import factories
from tests.support.mail_server import DESK, MailServer
from tests.support.tables import table

BROKER = "br_mail"


@dataclass(frozen=True)
class SentReply:
    """A handoff with its link, and a person who has the link."""

    harness: ApiHarness
    notification: Notification
    token: str
    browser: httpx.Client

    def get_page(self, token: str | None = None) -> httpx.Response:
        return self.browser.get(f"/answers/{token or self.token}")

    def submit(self, **form: str) -> httpx.Response:
        """Fill in the form of a page that is shown now, and send it."""
        return self.browser.post(f"/answers/{self.token}", data={"form_id": self.read_form_id(), **form})

    def read_form_id(self) -> str:
        return "".join(re.findall(r'name="form_id" value="(\w+)"', self.get_page().text)) or "0" * 32

    def read_submission(self) -> Mapping[str, Any]:
        """Return the submission as the account sees it."""
        view = self.harness.client().get(f"/api/exports/{self.notification.export_id}").json()
        return dict(view["broker_submission"])


def register(harness: ApiHarness) -> None:
    new: dict[str, Any] = {"id": BROKER, "kind": "customs_broker", "name": "Demo Brokers", "live": True}
    new |= {"channels": [{"channel": "email", "addresses": [DESK]}]}
    partners.create_partner(harness.runtime, factories.ACCOUNT, NewPartner.model_validate(new))


@pytest.fixture
def sent(harness: ApiHarness) -> SentReply:
    """A handoff of two units."""
    register(harness)
    export = exports.prepare_export(harness.runtime, factories.plan(units=2, broker=BROKER))
    exports.hand_off(harness.runtime, export)
    with harness.runtime.db.read() as session:
        sent_notification = session.exec(
            select(Notification).where(col(Notification.audience) == "customs_broker")
        ).one()
    return SentReply(
        harness,
        sent_notification,
        build_reply_link(harness.runtime.settings, sent_notification.id).token,
        harness.client_with_key(None),
    )


def test_link_shows_the_handoff_and_changes_nothing(sent: SentReply) -> None:
    before = sent.read_submission()
    page = [sent.get_page() for _ in range(3)][-1]
    assert page.status_code == 200
    shown = (factories.BATCH, "A-00001", "A-00002", "228.00 USD", "Demo Housewares Inc", "12-345678900", "CP-000001")
    assert [each for each in shown if each not in page.text] == []
    assert "U2, line 3 (BAG-00003): HTS code" in page.text
    assert sent.read_submission() == before


def test_page_and_email_show_the_last_four_digits_of_a_social_security_number(harness: ApiHarness) -> None:
    register(harness)
    created = factories.plan(broker=BROKER)
    created["units"][0]["parties"]["importerOfRecord"]["importerNumber"] = "123-45-6789"
    export = exports.prepare_export(harness.runtime, created)
    exports.hand_off(harness.runtime, export)
    with harness.runtime.db.read() as session:
        sent_notification = session.exec(
            select(Notification).where(col(Notification.audience) == "customs_broker")
        ).one()
    page = (
        harness.client_with_key(None)
        .get(f"/answers/{build_reply_link(harness.runtime.settings, sent_notification.id).token}")
        .text
    )
    body = content.build_email_body(harness.runtime.settings, sent_notification, [])
    for text in (page, body.text, body.html):
        assert "XXX-XX-6789" in text
        assert "123-45-6789" not in text


def test_page_forbids_framing_caching_and_scripts(sent: SentReply) -> None:
    for page in (sent.get_page(), sent.get_page("x" * 48)):
        headers = page.headers
        assert headers["content-security-policy"].startswith(
            "default-src 'none'; style-src 'self'; form-action 'self';"
        )
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-robots-tag"] == "noindex, nofollow"
        assert headers["content-type"] == "text/html; charset=utf-8"
        assert "<script" not in page.text
        assert not re.search(r'(src|href)="(https?:)?//', page.text)
    for style in re.findall(r'href="([^"]+\.css)"', sent.get_page().text):
        assert sent.browser.get(f"/answers/{style}").headers["content-type"].startswith("text/css")


def test_broker_answers_by_one_link_from_received_to_the_summary(sent: SentReply) -> None:
    offered = []
    for status, form in (
        ("received", {}),
        ("accepted", {"entryNumber": " ABC-1234567-8 ", "message": "Thank you"}),
        ("filed", {}),
        ("held", {"package": "CP-000002", "message": "An exam"}),
        ("released", {}),
        ("summary_filed", {}),
    ):
        offered.append(re.findall(r'name="status" value="(\w+)"', sent.get_page().text.partition("<details")[0]))
        answered = sent.submit(status=status, **form)
        assert (answered.status_code, answered.headers["location"]) == (303, f"./{sent.token}")
        assert f'<span class="pill {status}">' in sent.get_page().text
    assert offered == [
        ["received", "accepted", "query", "remark", "rejected", "filed", "held", "released"],
        ["accepted", "query", "remark", "rejected", "filed", "held", "released"],
        ["query", "remark", "rejected", "filed", "held", "released"],
        ["query", "remark", "rejected", "held", "released", "cancelled"],
        ["accepted", "query", "remark", "rejected", "filed", "held", "hold_removed", "released", "cancelled"],
        ["query", "remark", "rejected", "held", "hold_removed", "cancelled", "summary_filed", "summary_paid"],
    ]
    submission = sent.read_submission()
    accepted = submission["acknowledgements"][1]
    assert (submission["submission_status"], len(submission["acknowledgements"])) == ("released", 6)
    assert accepted["id"].startswith(f"link:{sent.notification.id}:")
    assert (accepted["entry_number"], accepted["message"]) == ("ABC-1234567-8", "Thank you")
    assert submission["acknowledgements"][3]["customsPackageNumbers"] == ["CP-000002"]
    events = sent.harness.client().get(f"/api/exports/{sent.notification.export_id}/events").json()["items"]
    assert {each["actor"] for each in events if each["type"] == "BROKER_ACKNOWLEDGED"} == {f"partner:{BROKER}"}


def test_form_places_and_removes_a_named_hold_and_takes_an_answer_back(sent: SentReply) -> None:
    fda = {"holder": "agency", "agency": "fda", "kind": "exam"}
    for form in ({"status": "held", **fda}, {"status": "held", "holder": "cbp"}, {"status": "hold_removed", **fda}):
        assert sent.submit(**form).status_code == 303
    submission = sent.read_submission()
    assert [each["holds"] for each in submission["entries"]] == [["cbp"], ["cbp"]]
    assert f'<option value="{submission["acknowledgements"][1]["id"]}">held' in sent.get_page().text
    wrong = submission["acknowledgements"][1]["id"]
    assert sent.submit(status="admissible", corrects=wrong, entryNumber="ABC-1").status_code == 303
    (entry, _) = sent.read_submission()["entries"]
    assert (entry["headline"], entry["holds"], entry["entry_number"]) == ("admissible", [], "ABC-1")


def test_form_that_is_sent_twice_counts_once_and_needs_its_id(sent: SentReply) -> None:
    form = {"status": "accepted", "form_id": sent.read_form_id()}
    assert [sent.submit(**form).status_code for _ in range(2)] == [303, 303]
    assert len(sent.read_submission()["acknowledgements"]) == 1
    refused = sent.submit(status="filed", form_id="../x")
    assert (refused.status_code, "The form is incomplete; load the page again" in refused.text) == (400, True)


def test_revoked_link_says_so_and_a_resent_email_has_a_valid_one(sent: SentReply) -> None:
    runtime = sent.harness.runtime
    portal_links.revoke_portal_links(runtime, factories.ACCOUNT, BROKER, revoked_by="key_1")
    for page in (sent.get_page(), sent.submit(status="accepted")):
        assert (page.status_code, factories.BATCH in page.text) == (410, False)
        assert "This link was revoked" in page.text
    assert sent.read_submission()["acknowledgements"] == []
    again = content.build_email_body(runtime.settings, sent.notification, [], revoked=1).text
    (token,) = re.findall(r"/answers/(\S+)", again)
    assert sent.get_page(token).status_code == 200
    with runtime.db.read() as session:
        (act, *_) = list_acts(session, factories.ACCOUNT).items
    assert (act.action, act.actor, act.subject) == ("reply_links_revoked", "key_1", BROKER)


@pytest.mark.parametrize("status", ["rejected", "query"])
def test_rejection_or_a_query_names_fields_by_pointer(sent: SentReply, status: str) -> None:
    sent.submit(
        status=status,
        message="Please look\r\nagain",
        place0="U1, line 2 (SHIRT-00002): HTS code",
        wrong0="The code has expired",
        place3="/units/1/invoice/total",
        wrong3="It does not add up",
        entryNumber="left over from another choice",
    )
    submission = sent.read_submission()
    (reply,) = submission["acknowledgements"]
    shown = (submission["submission_type"], submission["submission_status"], reply["message"], reply["entry_number"])
    assert shown == ("byob_email", status, "Please look\nagain", None)
    assert reply["fields"] == [
        {"pointer": "/units/0/lines/1/htsCode", "message": "The code has expired"},
        {"pointer": "/units/1/invoice/total", "message": "It does not add up"},
    ]


@table(
    ("form", "reply"),
    [
        ({}, "Choose one"),
        ({"status": "superseded"}, "Choose one"),
        ({"status": "rejected"}, "Write what is wrong"),
        ({"status": "query", "message": " \r\n "}, "Write what is wrong"),
        ({"status": "query", "place0": "the colour", "wrong0": "x"}, "is not a field of this handoff"),
        ({"status": "query", "place0": "/units/0"}, "what is wrong or asked"),
        ({"status": "query", "place0": "/units/9", "wrong0": "x"}, "/units/9 leads to no place of the plan"),
        ({"status": "query", "wrong0": "what?"}, "Choose the field"),
        ({"status": "held", "agency": "FDA"}, "Choose whose hold it is"),
        ({"status": "held", "holder": "agency", "agency": "F-D"}, "Write the agency"),
        ({"status": "held", "holder": "cbp", "kind": "x"}, "Choose a kind of hold"),
        ({"status": "held", "corrects": "1~a"}, "Choose an earlier answer"),
        ({"status": "held", "corrects": "a-9"}, "o answer to this handoff has the id a-9"),
        ({"status": "accepted", "entryNumber": "<b>"}, "An entry number must have"),
        ({"status": "accepted", "message": "x" * 1001}, "more than 1,000 characters"),
    ],
)
def test_incomplete_form_is_shown_again_with_its_values(sent: SentReply, form: dict[str, str], reply: str) -> None:
    page = sent.submit(**form)
    assert page.status_code in {400, 422}
    assert reply in page.text
    written = [form[name] for name in ("message", "place0", "wrong0") if form.get(name, "").strip()]
    assert [value for value in written if value not in page.text] == []
    assert sent.read_submission()["acknowledgements"] == []


def test_typed_text_does_not_become_markup(sent: SentReply) -> None:
    hostile = "</textarea><script>alert(1)</script>"
    refused = sent.submit(status="query", message=hostile, place0='"><script>', wrong0=hostile)
    recorded = sent.submit(status="query", message=hostile)
    assert (refused.status_code, recorded.status_code) == (400, 303)
    for page in (refused.text, sent.get_page().text):
        assert "&lt;script&gt;" in page
        assert "<script" not in page


def test_invalid_links_all_get_the_same_page(sent: SentReply) -> None:
    raw = urlsafe_b64decode(sent.token)
    forged = [
        urlsafe_b64encode(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]).decode()
        for place in range(len(raw))
    ]
    forged += ["x", sent.token[:-1], sent.token + "A", "é" * 48, "A" * 48]
    forged.append(build_reply_link(sent.harness.runtime.settings, "00000000-0000-5000-8000-000000000000").token)
    pages = {(page.status_code, page.text) for page in map(sent.get_page, forged)}
    assert len(pages) == 1
    ((status, text),) = pages
    assert status == 404
    assert factories.BATCH not in text
    assert {sent.browser.post(f"/answers/{each}", data={"status": "accepted"}).status_code for each in forged} == {404}
    assert sent.read_submission()["acknowledgements"] == []


def test_link_of_a_previous_secret_key_is_valid_only_while_configured(sent: SentReply) -> None:
    settings = sent.harness.runtime.settings
    other = settings.model_copy(update={"secret_key": SecretStr("of another installation")})
    token = build_reply_link(other, sent.notification.id).token
    assert sent.get_page(token).status_code == 404
    replaced = settings.model_copy(update={"secret_keys_previous": (other.secret_key,)})
    assert parse_reply_link(replaced, token).notification_id == sent.notification.id


def test_reply_to_a_cancelled_handoff_is_rejected(sent: SentReply) -> None:
    cancelled = update(Export).where(col(Export.id) == sent.notification.export_id).values(state=ExportState.CANCELLED)
    with sent.harness.runtime.db.write() as session:
        session.execute(cancelled)
    for page, status in ((sent.get_page(), 200), (sent.submit(status="accepted"), 409)):
        assert page.status_code == status
        assert "was cancelled" in page.text
        assert "<form" not in page.text
    with sent.harness.runtime.db.read() as session:
        assert session.exec(select(Acknowledgement)).all() == []


def test_purged_handoff_says_so_and_rejects_answers(sent: SentReply) -> None:
    purge(sent.harness.runtime, sent.notification.subject_id)
    for page in (sent.get_page(), sent.submit(status="query", message="canary")):
        assert page.status_code == 410
        assert "was deleted" in page.text
        assert factories.BATCH not in page.text
    with sent.harness.runtime.db.read() as session:
        assert session.exec(select(Acknowledgement)).all() == []


def test_oversized_or_malformed_form_is_rejected(sent: SentReply) -> None:
    address = f"/answers/{sent.token}"
    assert sent.browser.post(address, content=b"x" * (MAX_FORM_BYTES + 1)).status_code == 413
    assert sent.browser.post(address, content=b"&".join([b"status=accepted"] * 60)).status_code == 400
    assert sent.browser.post(address, content=b'{"status": "accepted"}').status_code == 400
    assert sent.read_submission()["acknowledgements"] == []


def test_requests_for_one_link_are_rate_limited(sent: SentReply) -> None:
    # Tokens refill meanwhile, several on a slow machine.
    pages = (sent.get_page() for _ in range(10 * REQUESTS_PER_MINUTE))
    refused = next(page for page in pages if page.status_code != 200)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1


def test_email_reply_from_plan_to_answer(open_harness: Open) -> None:
    with MailServer() as room:
        harness = open_harness(
            smtp_url=f"smtp://127.0.0.1:{room.port}", mail_from="exports@maple.example", artifacts_url="memory:"
        )
        register(harness)
        export_id = harness.execute(factories.plan(broker=BROKER))
        harness.run(export_id)
        (mail,) = room.mails
    attached = [part.get_filename() for part in mail.parsed.iter_attachments()]
    view = harness.client().get(f"/api/exports/{export_id}").json()
    expected = [f"{view['customs_packages'][0]['packageNumber']}_{each['filename']}" for each in view["artifacts"]]
    assert set(attached) == {"handoff.json", *expected}
    assert len(attached) == 1 + len(expected)
    assert view["broker_submission"]["recipient_email"] == DESK
    assert mail.parsed["Subject"] == view["broker_submission"]["subject"]
    (address,) = set(re.findall(r"http://[^\s\"]+/answers/[^\s\"]+", mail.read_text("plain") + mail.read_text("html")))
    browser = harness.client_with_key(None)
    token = address.rsplit("/", 1)[1]
    browser.post(
        f"/answers/{token}",
        data={"status": "rejected", "form_id": "0" * 32, "place0": "line 1 (PAN-00001): HTS code", "wrong0": "No"},
    )
    submission = harness.client().get(f"/api/exports/{export_id}").json()["broker_submission"]
    assert submission["submission_status"] == "rejected"
    assert submission["acknowledgements"][0]["fields"][0]["pointer"] == "/units/0/lines/0/htsCode"
