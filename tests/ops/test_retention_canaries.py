"""A unique word in every text of an export: after its purge it remains only where docs/security.md says."""

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlmodel import col, select

from pipeline.accounts import partners
from pipeline.accounts.schemas import NewPartner
from pipeline.deliveries.models import BrokerSubmission, Delivery
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.streams import sender
from pipeline.deliveries.submissions import broker_answers
from pipeline.exports import plans as export_plans
from pipeline.exports.schemas.plan import Plan
from pipeline.ops import retention
from pipeline.workflow import preflight
from tests.ops.test_retention import execute_export
from tests.support import factories
from tests.support.canaries import add_canaries, find_canaries, is_executable
from tests.support.hostile_inputs import build_whole_plan
from tests.support.mail_server import MailServer, Script
from tests.support.ports import LOOPBACK
from tests.workflow.conftest import WorkflowHarness

BROKER = "br_mail"
#: In addition to the plan's words: the customs broker's mailbox, and a word in each text of its answer.
MAILBOX = "canary901x@broker.example"
ANSWER = {
    "id": "canary902x",
    "status": "query",
    "reference": "canary903x",
    "entryNumber": "CANARY904X",
    "message": "canary905x",
    "fields": [{"pointer": "/units/0/lines/0/htsCode", "message": "canary906x"}],
}

#: The texts of a plan that stay: the unitRefs.
NAMES = re.compile(r"^/units/\d+/unitRef$")
#: The texts that stay with an answer: its id, the broker's reference and the entry number. The log keeps all of them.
ANSWERED, LOGGED = {"canary902x", "canary903x", "canary904x"}, {f"canary{number}x" for number in range(902, 907)}


@pytest.fixture
def mail_workflow(workflow: WorkflowHarness) -> WorkflowHarness:
    """Return a harness with a mail server that rejects the recipient, and a customs broker reached by e-mail."""
    new: dict[str, Any] = {"id": BROKER, "kind": "customs_broker", "name": "Demo Brokers", "test": True, "live": True}
    new |= {"channels": [{"channel": "email", "addresses": [MAILBOX]}]}
    partners.create_partner(workflow.runtime, factories.ACCOUNT, NewPartner.model_validate(new))
    workflow.clock.now = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
    return workflow


def refuse_handoff_mail(workflow: WorkflowHarness, export_id: str) -> None:
    """Reject the handoff's recipient permanently, so that it becomes a dead letter and the operators are notified."""
    script = Script(recipients={MAILBOX: f"550 5.1.1 <{MAILBOX}>: no such user"})
    with MailServer(script) as room:
        given = {"smtp_url": SecretStr(f"smtp://{LOOPBACK}:{room.port}"), "mail_from": "exports@maple.example"}
        runtime = replace(workflow.runtime, settings=workflow.runtime.settings.model_copy(update=given))
        workflow.clock.pass_seconds(3600)
        assert sender.deliver_stream(runtime, export_id, BROKER, "email").dead == 1


def query_handoff(workflow: WorkflowHarness, export_id: str) -> None:
    """Record a question of the customs broker, which notifies the operators too."""
    submission = workflow.one(select(BrokerSubmission.id).where(col(BrokerSubmission.export_id) == export_id))
    body = AcknowledgementBody.model_validate(ANSWER)
    assert broker_answers.receive_answer(workflow.runtime, submission, body, f"partner:{BROKER}").recorded


def list_remaining_canaries(workflow: WorkflowHarness) -> Mapping[str, set[str]]:
    """Return the canaries in the database, by table and column."""
    known: dict[str, set[str]] = {}
    with closing(sqlite3.connect(str(workflow.runtime.db.url.database))) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            rows = connection.execute(f"SELECT * FROM {table}")  # noqa: S608
            columns = [column for column, *_ in rows.description]
            for row in rows:
                for column, value in zip(columns, row, strict=True):
                    if words := find_canaries(str(value)):
                        known.setdefault(f"{table}.{column}", set()).update(words)
    return known


def test_purged_plan_leaves_words_only_in_documented_places(mail_workflow: WorkflowHarness, tmp_path: Path) -> None:
    whole = build_whole_plan() | {"accountId": factories.ACCOUNT, "batchId": "executed"}
    whole["broker"], whole["warehouse"] = {"id": BROKER}, {"id": factories.WAREHOUSE}
    assert is_executable(whole)
    laid, known = add_canaries(whole)
    assert len(known) >= 60, "too few texts of the plan have a canary"
    waiting = laid | {"batchId": "registered"}
    preflight.register_plan(
        mail_workflow.runtime, mail_workflow.caller, export_plans.hash_plan(Plan.model_validate(waiting), waiting)
    )
    export_id = execute_export(mail_workflow, laid)
    refuse_handoff_mail(mail_workflow, export_id)
    query_handoff(mail_workflow, export_id)
    states = mail_workflow.rows(select(Delivery.state).where(col(Delivery.subject_id) == export_id))
    assert {"dead", "pending"} <= {*states}
    before = list_remaining_canaries(mail_workflow)
    # Every table that the purge empties must hold canaries before, or this test proves nothing.
    assert {column for column, words in before.items() if len(words) >= 50} >= {"plans.document", "notifications.data"}
    assert {"units.document", "packages.package_ref", "broker_submissions.recipient"} <= before.keys()

    purged = retention.purge_expired(mail_workflow.runtime, date(2040, 1, 1))
    assert (purged.exports, purged.plans) == (1, 1)
    left = dict(list_remaining_canaries(mail_workflow))
    assert left.pop("partner_channels.endpoint") == {"canary901x"}, (
        "an endpoint belongs to the partner and is not a record"
    )
    assert left.pop("attempts.exchange") == {"canary901x"}, "an attempt keeps the partner's address"
    answered = [left.pop(f"acknowledgements.{name}") for name in ("id", "reference", "entry_number")]
    assert set().union(*answered) == ANSWERED
    assert left.pop("entries.entry_number") == answered[2]
    logged = left.pop("events.data")
    assert logged >= LOGGED
    names = {word for word, place in known.items() if NAMES.search(place)}
    assert logged == LOGGED | names
    assert left.pop("units.unit_ref") == names
    assert left == {}
    assert [path for path in (tmp_path / "artifacts" / "sha256").rglob("*") if path.is_file()] == []
