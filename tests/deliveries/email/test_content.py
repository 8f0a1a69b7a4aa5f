"""E-mails: each message is readable, says what to do, and carries only text."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from sqlmodel import col, select

from pipeline.core.runtime import Runtime
from pipeline.deliveries.channels.protocol import Attachment, EmailBody
from pipeline.deliveries.email import content
from pipeline.deliveries.email import text as email_text
from pipeline.deliveries.models import Notification
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.submissions import reply_links
from pipeline.interfaces.contracts.examples.catalog import read_example
from tests.deliveries.conftest import OpenRuntime
from tests.deliveries.support import exports
from tests.deliveries.support.rechecks import RECHECKED
from tests.support import factories, stored
from tests.support.mail_server import CLERK, DESK

PUBLIC = "https://exports.maple.example"

ABOUT = {
    "exportId": "exp_1",
    "batchId": "batch_1",
    "revision": 1,
    "test": False,
    "planHash": "sha256:00",
    "treatmentDigest": "sha256:11",
}
MESSAGE_DATA: Mapping[str, Mapping[str, Any]] = {
    MessageType.EXPORT_EXECUTED: {
        "customsPackages": [{"unitRef": "U1", "customsPackageId": "cpk_1", "packageNumber": "CP-000001"}],
        "packageCount": 2,
        "submissionId": "sub_1",
        "inspect": "/api/exports/exp_1",
    },
    MessageType.EXPORT_FAILED: {
        "step": "render_documents",
        "reason": "no font has the character U+1F642",
        "inspect": "/api/exports/exp_1",
    },
    MessageType.DELIVERY_DEAD: {
        "deliveryId": "dlv_1",
        "notificationId": "n-1",
        "audience": "customs_broker",
        "partnerId": "br_1",
        "channel": "webhook",
        "eventType": "exports.handoff.ready.v1",
        "attempts": 9,
        "reason": "the endpoint answered 503",
        "resend": "/api/deliveries/dlv_1/resend",
    },
    MessageType.EXPORT_CANCELLED: {"supersedes": {"exportId": "exp_0", "revision": 1}, "inspect": "/api/exports/exp_1"},
    MessageType.HANDOFF_SUPERSEDED: {
        "submissionId": "sub_1",
        "notificationIds": ["n-1"],
        "customsPackages": [{"unitRef": "U1", "customsPackageId": "cpk_1", "packageNumber": "CP-000001"}],
        "supersededBy": {"exportId": "exp_2", "revision": 2},
    },
    **RECHECKED,
    MessageType.HANDOFF_OVERDUE: {
        "submissionId": "sub_1",
        "partnerId": "br_1",
        "channel": "email",
        "submissionStatus": "delivered",
        "deadlineAt": "2026-11-25T15:00:00Z",
        "inspect": "/api/exports/exp_1",
    },
    MessageType.HANDOFF_ANSWERED: {
        "submissionId": "sub_1",
        "partnerId": "br_1",
        "channel": "webhook",
        "answerId": "a-1",
        "status": "rejected",
        "submissionStatus": "accepted",
        "reference": "REF-9",
        "message": "One field needs a correction.",
        "fields": [{"pointer": "/units/0/lines/2/htsCode", "message": "The code does not fit."}],
        "inspect": "/api/exports/exp_1",
    },
    **{
        each: {name: value for name, value in read_example(each)["data"].items() if name not in {"exportId", "batchId"}}
        for each in MessageType
        if each.name in {"ENTRY_PROGRESSED", "EXPORT_SETTLED", "HANDOFF_REPLIED", "HANDOFF_WITHDRAWN"}
    },
}


@pytest.fixture
def mail_runtime(make_runtime: OpenRuntime) -> Runtime:
    """A runtime whose customs broker is reached by e-mail."""
    runtime = make_runtime(public_url=PUBLIC)
    exports.register(
        runtime, factories.BROKER, "customs_broker", channels=[{"channel": "email", "addresses": [DESK, CLERK]}]
    )
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    return runtime


def hand_off(runtime: Runtime, made: factories.Json, *, test: bool = False) -> Notification:
    """Hand off an export of the plan and return its customs broker's notification."""
    export = exports.prepare_export(runtime, made, test=test)
    exports.hand_off(runtime, export)
    with runtime.db.read() as session:
        of_export = (col(Notification.export_id) == export.export_id, col(Notification.audience) == "customs_broker")
        return session.exec(select(Notification).where(*of_export)).one()


def notification(event_type: str, message_data: Mapping[str, Any], **about: Any) -> Notification:
    of_plan = event_type == MessageType.PLAN_RECHECKED
    return Notification(
        id="5f1c2d9e-8a4b-5c67-9d10-3b7e6a2f4c88",
        export_id=None if of_plan else "exp_1",
        plan_id="pln_1" if of_plan else None,
        account_id=factories.ACCOUNT,
        audience="operator",
        event_type=event_type,
        position=1,
        data=json.dumps({**({} if of_plan else ABOUT), **message_data, **about}),
    )


def documents(*sizes: int) -> list[Attachment]:
    return [
        Attachment(f"CP-1/paper{n}.pdf", "application/pdf", size, f"{n:064x}", f"{PUBLIC}/api/artifacts/art_{n}", bytes)
        for n, size in enumerate(sizes)
    ]


def test_handoff_email_has_invoices_importer_entry_documents_and_link(mail_runtime: Runtime) -> None:
    handoff = hand_off(mail_runtime, factories.plan(units=2))
    body = content.build_email_body(mail_runtime.settings, handoff, documents(2_345, 1))
    assert body.subject == f"Export {factories.BATCH}: invoices A-00001, A-00002"
    link = f"{PUBLIC}/answers/{reply_links.build_reply_link(mail_runtime.settings, handoff.id).token}"
    facts = [
        "Maple Goods Ltd hands off an export that is ready to be filed with US customs: 2 customs packages",
        "A-00001 of 2026-11-24",
        "228.00 USD, DAP Buffalo NY",
        "Demo Housewares Inc, 12-345678900",
        "type 01, port 0901 Buffalo-Niagara Falls NY, by truck",
        "DEMO, DEMO00000002",
        "2026-11-26 18:00 UTC",
        "3 lines in 2 packages",
        "12.000 kg gross, 10.800 kg net",
        "It works as long as the handoff is open: use it again for each next answer.",
        "CP-1_paper0.pdf",
        "3 kB",
        "handoff.json",
        link,
    ]
    for text in (body.text, body.html):
        assert [fact for fact in facts if fact not in text] == []
        assert "Not attached" not in text
        assert "TEST" not in text


def test_handoff_email_says_how_entry_is_filed(mail_runtime: Runtime) -> None:
    made = factories.plan(units=2)
    one, two = made["units"]
    one["entry"]["filing"] = {"entryNumber": "ABC12345676", "bond": {"type": "9", "suretyCode": "036"}}
    consignee = {"name": "Demo Stores Inc", "address": factories.PARTIES["shipTo"]["address"], "number": "987-65-4321"}
    one["parties"]["ultimateConsignees"] = [consignee]
    two["parties"]["ultimateConsignees"] = [consignee | {"packageRefs": [ref]} for ref in ("P1", "P2")]
    body = content.build_email_body(mail_runtime.settings, hand_off(mail_runtime, made), documents(1))
    for text in (body.text, body.html):
        assert "entry number ABC-1234567-6, bond type 9, surety 036" in text
        assert "Demo Stores Inc, XXX-XX-4321" in text
        assert "2 consignees, see the entry worksheet" in text
        assert "987-65-4321" not in text


def test_email_is_the_same_at_every_call(mail_runtime: Runtime) -> None:
    handoff = hand_off(mail_runtime, factories.plan())
    assert len({content.build_email_body(mail_runtime.settings, handoff, documents(1)) for _ in range(3)}) == 1


def test_large_document_is_linked_with_size_hash_and_end(make_runtime: OpenRuntime, mail_runtime: Runtime) -> None:
    handoff = hand_off(mail_runtime, factories.plan())
    body = content.build_email_body(
        make_runtime(public_url=PUBLIC, mail_attach_max_bytes=100).settings, handoff, documents(60, 50_000)
    )
    linked = ["CP-1_paper1.pdf", "50 kB", f"{PUBLIC}/api/artifacts/art_1", f"{1:064x}", "until 2026-12-01 15:00 UTC"]
    for text in (body.text, body.html):
        after = " ".join(text.partition("Not attached")[2].split())
        assert [each for each in linked if each not in after] == []
        assert "paper0" not in after


def test_email_with_many_packages_and_documents_stays_short(mail_runtime: Runtime) -> None:
    handoff = hand_off(mail_runtime, factories.plan(units=email_text.MAX_PACKAGES + 2, lines=1, packages=1))
    body = content.build_email_body(mail_runtime.settings, handoff, documents(*[1] * (email_text.MAX_DOCUMENTS + 5)))
    assert body.subject == f"Export {factories.BATCH}: invoices A-00001, A-00002, A-00003 and 19 more"
    assert body.text.count("Customs package CP-") == email_text.MAX_PACKAGES
    assert "This e-mail lists the first 20. The attached data has all of them." in body.text
    assert body.text.count("_paper") == email_text.MAX_DOCUMENTS
    assert "and 5 more" in body.text


@pytest.mark.parametrize(
    ("event_type", "subject", "says"),
    [
        (
            MessageType.EXPORT_EXECUTED,
            "Export batch_1 is executed",
            ["1 customs package with 2 packages", "CP-000001", "You need not do anything."],
        ),
        (
            MessageType.EXPORT_FAILED,
            "Export batch_1 failed and needs you",
            ["render documents", "no font has the character U+1F642", "POST /api/exports/exp_1/retry"],
        ),
        (
            MessageType.DELIVERY_DEAD,
            "Export batch_1: a message to br_1 could not be delivered",
            ["9 attempts", "the endpoint answered 503", "exports deliveries resend dlv_1"],
        ),
        (
            MessageType.EXPORT_RECHECKED,
            "Export batch_1: new rules or editions change what is found in its plan",
            ["Checked by ruleset us-new; before it was us-old.", "V11, warn", "the rate is 30 %", "amend the export"],
        ),
        (
            MessageType.HANDOFF_OVERDUE,
            "Export batch_1: br_1 has not answered in time",
            ["“delivered”", "2026-11-25 15:00 UTC", "Call the customs broker"],
        ),
        (
            MessageType.HANDOFF_ANSWERED,
            "Export batch_1: br_1 rejects the handoff",
            [
                "has a newer status: “accepted”",
                "unit 1, line 3, HTS code",
                "The code does not fit.",
                "POST /api/exports/exp_1/amend",
            ],
        ),
        (
            MessageType.ENTRY_PROGRESSED,
            "Export batch_1: 1 of 2 released, 1 held",
            ["Entries progressed", "2026-11-25 05:08 UTC", "CP-000002", "held, ABC12345678"],
        ),
        (
            MessageType.EXPORT_SETTLED,
            "Export batch_1: 2 of 2 released",
            ["No entry is open any more", "answered at 2027-10-08 00:00 UTC", "2 of 2 released"],
        ),
    ],
)
def test_operator_email_says_what_happened_and_what_to_do(
    mail_runtime: Runtime, event_type: MessageType, subject: str, says: list[str]
) -> None:
    body = content.build_email_body(mail_runtime.settings, notification(event_type, MESSAGE_DATA[event_type]), [])
    assert body.subject == subject
    for text in (body.text, body.html):
        assert [each for each in [*says, f"{PUBLIC}/console/exports/exp_1"] if each not in text] == []
        assert "/answers/" not in text


def test_operator_email_about_quarantine_says_why(mail_runtime: Runtime) -> None:
    message_data = {**MESSAGE_DATA[MessageType.EXPORT_FAILED], "attempts": 5, "quarantined": True}
    body = content.build_email_body(mail_runtime.settings, notification(MessageType.EXPORT_FAILED, message_data), [])
    assert body.subject == "Export batch_1 is quarantined and needs you"
    for text in (body.text, body.html):
        for each in (
            "killed its worker or raised an unknown error, 5 times",
            "no font has the character",
            "POST /api/exports/exp_1/retry",
        ):
            assert each in text


@pytest.mark.parametrize(
    ("status", "said", "subject", "does"),
    [
        ("query", "query", "br_1 asks about the handoff", "Reply to the customs broker"),
        ("held", None, "br_1 says that customs holds the goods", "Ask what customs needs"),
        ("held", "refused", "br_1 says: customs refused the goods", "Ask what customs needs"),
        ("held", "summary_rejected", "br_1 says: the entry summary is rejected", "Ask what customs needs"),
    ],
)
def test_each_answer_has_its_own_text_and_long_field_lists_are_cut(
    mail_runtime: Runtime, status: str, said: str | None, subject: str, does: str
) -> None:
    many = [{"pointer": f"/units/0/lines/{n}/htsCode", "message": "Why?"} for n in range(email_text.MAX_FIELDS + 3)]
    message_data = {
        **MESSAGE_DATA[MessageType.HANDOFF_ANSWERED],
        "status": status,
        "answerStatus": said,
        "submissionStatus": status,
        "message": None,
        "fields": many,
    }
    body = content.build_email_body(mail_runtime.settings, notification(MessageType.HANDOFF_ANSWERED, message_data), [])
    assert body.subject == f"Export batch_1: {subject}"
    assert does in " ".join(body.text.split())
    assert (body.text.count("HTS code"), "3 more" in body.text) == (email_text.MAX_FIELDS, True)
    assert "has a newer status" not in body.text


@pytest.mark.parametrize(
    ("event_type", "subject", "says"),
    [
        (
            MessageType.HANDOFF_SUPERSEDED,
            "Export batch_1: do not file revision 1",
            ["Revision 2 replaces it", "CP-000001", "call the sender at once"],
        ),
        (
            MessageType.HANDOFF_WITHDRAWN,
            "Export batch_1 is withdrawn: do not file",
            ["The buyer cancelled the order at noon.", "CP-000001", "call the sender at once"],
        ),
        (
            MessageType.EXPORT_CANCELLED,
            "Export batch_1 was cancelled",
            ["Do not file or ship any of it", "It was to replace revision 1"],
        ),
    ],
)
def test_retraction_email_names_packages_without_console_link(
    mail_runtime: Runtime, event_type: MessageType, subject: str, says: list[str]
) -> None:
    handoff = notification(event_type, MESSAGE_DATA[event_type])
    handoff.audience = "customs_broker"
    body = content.build_email_body(mail_runtime.settings, handoff, [])
    assert body.subject == subject
    for text in (body.text, body.html):
        assert [each for each in says if each not in text] == []
        assert "/console" not in text


def test_replacing_handoff_names_the_replaced_revision(mail_runtime: Runtime) -> None:
    handoff = hand_off(mail_runtime, factories.plan())
    before = {"exportId": "exp_0", "revision": 3, "submissionId": "sub_0"}
    handoff.data = json.dumps(json.loads(handoff.data) | {"supersedes": before})
    assert (
        "It replaces revision 3. Do not file that revision."
        in content.build_email_body(mail_runtime.settings, handoff, []).text
    )


def test_message_type_without_own_text_lists_its_facts(mail_runtime: Runtime) -> None:
    export = exports.prepare_export(mail_runtime)
    exports.hand_off(mail_runtime, export)
    package = stored.one(mail_runtime, select(Notification).where(col(Notification.audience) == "warehouse").limit(1))
    body = content.build_email_body(mail_runtime.settings, package, [])
    assert (body.subject, "One package. It has no price" in body.text) == (f"Export {factories.BATCH}: package", True)
    assert "Customs package number CP-000001" in " ".join(body.text.split())
    for_warehouses = {MessageType.PACKAGE_RECORDED, MessageType.PACKAGE_SUPERSEDED, MessageType.PACKAGE_WITHDRAWN}
    assert {*MESSAGE_DATA, MessageType.HANDOFF_READY, *for_warehouses} == set(MessageType), (
        "a new type needs its own e-mail text"
    )


def test_test_export_is_marked_in_subject_and_body(mail_runtime: Runtime) -> None:
    exports.register(
        mail_runtime, "br_test", "customs_broker", test=True, channels=[{"channel": "email", "addresses": [DESK]}]
    )
    handoff = hand_off(mail_runtime, factories.plan(broker="br_test"), test=True)
    body = content.build_email_body(mail_runtime.settings, handoff, [])
    assert body.subject.startswith("[TEST] Export ")
    assert body.text.startswith("TEST\n")
    for text in (body.text, body.html):
        assert "This is a test. Do not file it." in text


HOSTILE = "<script>alert(1)</script><img src='https://evil.example/x'>\r\nBcc: x@evil.example"


def test_hostile_facts_become_no_markup_header_or_remote_content(mail_runtime: Runtime) -> None:
    message_data = {**MESSAGE_DATA[MessageType.EXPORT_FAILED], "reason": HOSTILE, "step": HOSTILE}
    made = [
        content.build_email_body(
            mail_runtime.settings, notification(MessageType.EXPORT_FAILED, message_data, batchId=HOSTILE), []
        ),
        *[
            content.build_email_body(mail_runtime.settings, notification(each, MESSAGE_DATA[each]), [])
            for each in MESSAGE_DATA
        ],
        content.build_email_body(mail_runtime.settings, hand_off(mail_runtime, factories.plan()), documents(1, 10**9)),
    ]
    for body in made:
        assert body.subject.isprintable()
        assert find_remote_references(body) == []
        assert {each for each in re.findall(r'href="([^"]*)"', body.html) if not each.startswith(f"{PUBLIC}/")} == set()


def find_remote_references(body: EmailBody) -> list[str]:
    """Return everything that a mail program would load or run when it shows the e-mail."""
    return re.findall(r"<(?:script|img|link|iframe|object|style|form)\b|<[^>]*(?:\ssrc=|url\(|\son\w+=)", body.html)
