"""The e-mail about a rechecked plan."""

from pipeline.core.runtime import Runtime
from pipeline.deliveries.email import content
from pipeline.deliveries.schemas.messages import MessageType
from tests.deliveries.email.test_content import notification
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
