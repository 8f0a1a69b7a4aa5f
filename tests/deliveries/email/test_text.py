"""The e-mails about rechecked plans, late summaries and withdrawals."""

from pipeline.core.runtime import Runtime
from pipeline.deliveries.email import content
from pipeline.deliveries.schemas.messages import MessageType
from tests.deliveries.email.test_content import MESSAGE_DATA, notification
from tests.deliveries.support.rechecks import RECHECKED


def test_email_about_a_plan_names_the_plan_and_no_export(runtime: Runtime) -> None:
    row = notification(MessageType.PLAN_RECHECKED, RECHECKED[MessageType.PLAN_RECHECKED], test=True)
    body = content.build_email_body(runtime.settings, row, [])
    assert body.subject == "[TEST] Plan of batch batch_1: new rules or editions change what is found in it"
    for text in (body.text, body.html):
        for each in (
            "Checked by ruleset us-new.",
            "Checked by editions: hts_7; before: hts_6.",
            "V12, block",
            "Line L1 has no heading.",
            "register the changed plan",
            "Plan pln_1",
        ):
            assert each in text
        assert "Export " not in text
        assert "revision" not in text


def test_email_about_a_late_summary_asks_for_it(runtime: Runtime) -> None:
    late = {**MESSAGE_DATA[MessageType.HANDOFF_OVERDUE], "summary": True}
    body = content.build_email_body(runtime.settings, notification(MessageType.HANDOFF_OVERDUE, late), [])
    assert body.subject == "Export batch_1: br_1 has not filed the entry summary in time"
    assert "The entry summary was due by" in body.text
    assert "`summary_filed`" in body.text


def test_email_about_a_withdrawal_at_once_names_no_answer(runtime: Runtime) -> None:
    settled = {**MESSAGE_DATA[MessageType.EXPORT_SETTLED], "answerId": None}
    body = content.build_email_body(runtime.settings, notification(MessageType.EXPORT_SETTLED, settled), [])
    assert "It was withdrawn at 2027-10-08 00:00 UTC, before customs broker br_sandbox had the handoff" in body.text


def test_customs_broker_that_loses_the_export_waits_for_nothing(runtime: Runtime) -> None:
    reassigned = {**MESSAGE_DATA[MessageType.HANDOFF_SUPERSEDED], "reassigned": True}
    handoff = notification(MessageType.HANDOFF_SUPERSEDED, reassigned)
    text = " ".join(content.build_email_body(runtime.settings, handoff, []).text.split())
    assert "Another customs broker files revision 2, which replaces it." in text
    assert "wait for the new handoff" not in text
