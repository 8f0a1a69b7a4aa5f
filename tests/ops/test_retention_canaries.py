"""Retention: what a purge leaves of words, of orders and for a backup is what docs/security.md says."""

import re
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlmodel import SQLModel, col, func, select

from pipeline.accounts import partners
from pipeline.accounts.schemas import NewPartner
from pipeline.core.blob_store import ArtifactStore
from pipeline.deliveries.models import BrokerSubmission, Delivery
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.streams import sender
from pipeline.deliveries.submissions import broker_answers
from pipeline.exports import plans as export_plans
from pipeline.exports.models import Artifact
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.exports.schemas.plan import Plan
from pipeline.ops import backup, legal_holds, retention
from pipeline.orders import sync
from pipeline.orders.models import Order, PlannedBatch, Product, SyncRecord
from pipeline.orders.schemas import OrderSync, PlanRequest, ProductSync, TemplateSync
from pipeline.orders.sync import Owner
from pipeline.workflow import preflight
from pipeline.workflow.acceptance import accept_plan
from pipeline.workflow.planning import plan_batch
from tests.ops.rebuild.test_rebuild import differences
from tests.ops.test_retention import end_export, execute_export, plan, rows, today
from tests.support import factories, orders
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


@pytest.mark.system
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


__all__ = ["today"]


def test_backup_after_purge_copies_only_kept_documents(workflow: WorkflowHarness, today: date, tmp_path: Path) -> None:
    execute_export(workflow, plan("gone"))
    kept_id = execute_export(workflow, plan("kept", arrival="2026-12-20T12:00:00Z"))
    retention.purge_expired(workflow.runtime, date(2032, 11, 27))
    taken = backup.create_backup(workflow.runtime, tmp_path / "copy")
    assert taken.documents == len({row.sha256 for row in rows(workflow, Artifact, kept_id)})  # type: ignore[attr-defined]


class PurgedWhenAsked(ArtifactStore):
    """A store that runs a purge when its first document is read."""

    purge: Callable[[], object] = staticmethod(lambda: None)

    def get(self, sha256: str) -> bytes:
        purge, self.purge = self.purge, lambda: None
        purge()
        return super().get(sha256)


def test_purge_during_backup_is_not_reported_as_missing(workflow: WorkflowHarness, today: date, tmp_path: Path) -> None:
    gone_id = execute_export(workflow, plan("gone"))
    kept_id = execute_export(workflow, plan("kept", arrival="2026-12-20T12:00:00Z"))
    kept, gone = ({row.sha256 for row in rows(workflow, Artifact, each)} for each in (kept_id, gone_id))  # type: ignore[attr-defined]
    store = PurgedWhenAsked(workflow.runtime.store.url)
    store.purge = lambda: retention.purge_expired(workflow.runtime, date(2032, 11, 27))
    taken = backup.create_backup(replace(workflow.runtime, store=store), tmp_path / "copy")
    assert (taken.documents, taken.purged, taken.missing) == (len(kept), len(gone - kept), [])


OWNER = Owner(factories.ACCOUNT, test=False)


@pytest.fixture
def order_id(workflow: WorkflowHarness) -> str:
    """An order, with everything that its plan needs; the request had an idempotency key."""
    workflow.clock.now = factories.NOW
    sync.sync_products(workflow.runtime, OWNER, ProductSync.model_validate(orders.product_sync()), None)
    sync.sync_templates(workflow.runtime, OWNER, TemplateSync.model_validate(orders.template_sync()), None)
    body = OrderSync.model_validate(orders.order_sync())
    return sync.sync_orders(workflow.runtime, OWNER, body, "once").data[0].id


def count(workflow: WorkflowHarness, table: type[SQLModel]) -> int:
    return workflow.one(select(func.count()).select_from(table))


def purge(workflow: WorkflowHarness, days: int) -> retention.PurgeResult:
    return retention.purge_expired(workflow.runtime, factories.TODAY + timedelta(days=days))


def test_order_without_an_export_is_deleted_after_its_days(workflow: WorkflowHarness, order_id: str) -> None:
    days = workflow.runtime.settings.order_days
    assert purge(workflow, days - 1).orders == 0
    assert count(workflow, Order) == 1
    # Responses are kept for thirty days only.
    assert count(workflow, SyncRecord) == 0
    assert purge(workflow, days + 2).orders == 1
    assert (count(workflow, Order), count(workflow, Product)) == (0, 1)


def test_hold_on_the_account_keeps_its_orders(workflow: WorkflowHarness, order_id: str) -> None:
    hold = legal_holds.place_hold(
        workflow.runtime, factories.ACCOUNT, export_id=None, reason="an inquiry", placed_by="somebody"
    )
    assert purge(workflow, 10_000).orders == 0
    assert (count(workflow, Order), count(workflow, SyncRecord)) == (1, 1)
    legal_holds.release_hold(workflow.runtime, hold.id, released_by="somebody")
    assert purge(workflow, 10_000).orders == 1


def test_exported_order_is_deleted_with_its_export(workflow: WorkflowHarness, order_id: str) -> None:
    request = PlanRequest.model_validate(orders.plan_request([order_id]))
    planned = plan_batch(workflow.runtime, workflow.caller, request, idempotency_key=None)
    body = ExecuteRequest.model_validate({"accountId": factories.ACCOUNT, "batchId": planned.batch_id})
    accepted = accept_plan(workflow.runtime, workflow.caller, body, raw_plan=None, idempotency_key=None)
    end_export(workflow, accepted.export_id)
    assert differences(workflow, accepted.export_id) == []
    workflow.clock.now = factories.NOW
    assert retention.purge_expired(workflow.runtime, date(2028, 1, 1)).orders == 0
    assert count(workflow, Order) == 1
    purged = retention.purge_expired(workflow.runtime, date(2040, 1, 1))
    assert (purged.exports, count(workflow, Order), count(workflow, PlannedBatch)) == (1, 0, 1)
