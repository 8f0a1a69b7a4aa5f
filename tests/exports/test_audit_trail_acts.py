"""An act on an export, a delivery or a partner and its line in the audit trail exist both, or neither; once for one act."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final

import pytest
from sqlalchemy import event, select, update
from sqlmodel import col

from pipeline.accounts import partners
from pipeline.accounts.models import Partner
from pipeline.core.db import table
from pipeline.core.errors import Refused
from pipeline.deliveries import replay, resend
from pipeline.deliveries.models import BrokerSubmission, Delivery
from pipeline.deliveries.outbox import operator_messages
from pipeline.deliveries.outbox.operator_messages import ChangedFindings
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.schemas.views import ReplayRequest
from pipeline.deliveries.streams import recovery
from pipeline.deliveries.submissions import broker_answers
from pipeline.exports.event_models import Act, Event
from pipeline.exports.models import Export
from pipeline.exports.plans import hash_plan
from pipeline.exports.schemas.plan import Plan
from pipeline.ops import audit
from pipeline.workflow.acknowledgements import acknowledge_export, acknowledge_letter, reopen_export, reopen_letter
from pipeline.workflow.interventions import cancel_export, retry_export
from pipeline.workflow.preflight import register_plan
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export, make_amendment
from tests.workflow.test_acknowledgements import query_export

#: The person who presses.
PERSON: Final = "per_1"
SINCE: Final = ReplayRequest.model_validate({"since": "2026-01-01T00:00:00Z"})

Press = Callable[[], object]


class CrashError(Exception):
    """Stands for the end of the process."""


def prepare_cancel(workflow: WorkflowHarness) -> Press:
    export_id = workflow.accept().export_id
    return lambda: cancel_export(workflow.runtime, factories.ACCOUNT, export_id, PERSON)


def prepare_retry(workflow: WorkflowHarness) -> Press:
    export_id = workflow.accept().export_id
    with workflow.runtime.db.write() as session:
        session.execute(update(Export).where(col(Export.id) == export_id).values(state="failed"))
    return lambda: retry_export(workflow.runtime, factories.ACCOUNT, export_id, PERSON)


def prepare_acknowledge(workflow: WorkflowHarness) -> Press:
    export_id = query_export(workflow)
    return lambda: acknowledge_export(workflow.runtime, factories.ACCOUNT, export_id, PERSON)


def prepare_reopen(workflow: WorkflowHarness) -> Press:
    prepare_acknowledge(workflow)()
    (export_id,) = list_ids(workflow, col(Export.id))
    return lambda: reopen_export(workflow.runtime, factories.ACCOUNT, export_id, PERSON)


def prepare_letter(workflow: WorkflowHarness) -> str:
    """Return a dead message about a registered plan."""
    raw = factories.plan()
    plan_id = register_plan(workflow.runtime, workflow.caller, hash_plan(Plan.model_validate(raw), raw)).plan_id
    with workflow.runtime.db.write() as session:
        operator_messages.enqueue_plan_rechecked(session, plan_id, ChangedFindings("us-old", "us-new", [], []))
        session.execute(update(Delivery).values(state="dead", due_at=None))
    return list_ids(workflow, col(Delivery.id))[0]


def prepare_acknowledge_letter(workflow: WorkflowHarness) -> Press:
    delivery_id = prepare_letter(workflow)
    return lambda: acknowledge_letter(workflow.runtime, factories.ACCOUNT, delivery_id, PERSON)


def prepare_reopen_letter(workflow: WorkflowHarness) -> Press:
    delivery_id = prepare_letter(workflow)
    acknowledge_letter(workflow.runtime, factories.ACCOUNT, delivery_id, PERSON)
    return lambda: reopen_letter(workflow.runtime, factories.ACCOUNT, delivery_id, PERSON)


def prepare_amend(workflow: WorkflowHarness) -> Press:
    export_id = execute_export(workflow)
    return lambda: make_amendment(workflow, export_id)


def prepare_resend(workflow: WorkflowHarness) -> Press:
    execute_export(workflow)
    delivery_id = list_ids(workflow, col(Delivery.id))[0]
    return lambda: resend.resend_delivery(workflow.runtime, factories.ACCOUNT, delivery_id, PERSON)


def prepare_replay(workflow: WorkflowHarness) -> Press:
    execute_export(workflow)
    account, warehouse = factories.ACCOUNT, factories.WAREHOUSE
    with workflow.runtime.db.write() as session:
        session.execute(update(Delivery).where(col(Delivery.partner_id) == warehouse).values(state="dead", due_at=None))
    return lambda: replay.replay_messages(workflow.runtime, account, warehouse, SINCE, PERSON)


def prepare_answer(workflow: WorkflowHarness) -> Press:
    execute_export(workflow)
    (submission_id,) = list_ids(workflow, col(BrokerSubmission.id))
    body = AcknowledgementBody.model_validate({"id": "typed-1", "status": "accepted"})
    return lambda: broker_answers.receive_answer(workflow.runtime, submission_id, body, "portal:lnk_1", by_person=True)


def prepare_pause(workflow: WorkflowHarness) -> Press:
    return lambda: partners.pause_partner(workflow.runtime, factories.ACCOUNT, factories.WAREHOUSE, actor=PERSON)


def prepare_resume(workflow: WorkflowHarness) -> Press:
    partners.pause_partner(workflow.runtime, factories.ACCOUNT, factories.WAREHOUSE)
    return lambda: recovery.resume_partner(workflow.runtime, factories.ACCOUNT, factories.WAREHOUSE, actor=PERSON)


#: action -> the function that prepares it, and returns what a person then presses
PRESSED: Final[dict[str, Callable[[WorkflowHarness], Press]]] = {
    "export_cancelled": prepare_cancel,
    "export_retried": prepare_retry,
    "export_acknowledged": prepare_acknowledge,
    "export_reopened": prepare_reopen,
    "export_amended": prepare_amend,
    "delivery_resent": prepare_resend,
    "delivery_acknowledged": prepare_acknowledge_letter,
    "delivery_reopened": prepare_reopen_letter,
    "deliveries_replayed": prepare_replay,
    "handoff_answered": prepare_answer,
    "partner_paused": prepare_pause,
    "partner_resumed": prepare_resume,
}


def list_ids(workflow: WorkflowHarness, column: Any) -> list[str]:
    with workflow.runtime.db.read() as session:
        return list(session.scalars(select(column).order_by(column)))


def read_all(workflow: WorkflowHarness) -> list[Any]:
    """Return what an act may change: events, exports, deliveries, handoffs and partners."""
    with workflow.runtime.db.read() as session:
        return [
            sorted(map(str, session.execute(select(table(model))).all()))
            for model in (Event, Export, Delivery, BrokerSubmission, Partner)
        ]


def list_actions(workflow: WorkflowHarness) -> list[str]:
    with workflow.runtime.db.read() as session:
        return list(session.scalars(select(col(Act.action)).order_by(col(Act.seq))))


@contextmanager
def crash_at_act(workflow: WorkflowHarness, moment: str) -> Iterator[None]:
    """End each transaction that writes an act: before the act is written, or after it and before the commit."""

    def crash(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("INSERT INTO acts"):
            raise CrashError

    name = f"{moment}_cursor_execute"
    event.listen(workflow.runtime.db.engine, name, crash)
    try:
        yield
    finally:
        event.remove(workflow.runtime.db.engine, name, crash)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("action", PRESSED)
def test_crash_leaves_both_or_neither(workflow_on_both: WorkflowHarness, action: str, moment: str) -> None:
    press = PRESSED[action](workflow_on_both)
    before, known = read_all(workflow_on_both), list_actions(workflow_on_both)
    with crash_at_act(workflow_on_both, moment), pytest.raises(CrashError):
        press()
    assert (read_all(workflow_on_both), list_actions(workflow_on_both)) == (before, known)
    press()
    assert read_all(workflow_on_both) != before
    assert list_actions(workflow_on_both) == [*known, action]
    assert audit.verify_chains(workflow_on_both.runtime).intact


@pytest.mark.parametrize("action", PRESSED)
def test_concurrent_double_click_is_recorded_once(workflow_on_both: WorkflowHarness, action: str) -> None:
    press = PRESSED[action](workflow_on_both)
    known = list_actions(workflow_on_both)
    together = threading.Barrier(4)

    def click(_: int) -> None:
        together.wait()
        with suppress(Refused):
            press()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(click, range(4)))
    assert list_actions(workflow_on_both) == [*known, action]
    assert audit.verify_chains(workflow_on_both.runtime).intact


def test_refused_act_leaves_nothing(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow)
    before = read_all(workflow)
    for refused in (retry_export, cancel_export, acknowledge_export, reopen_export):
        with pytest.raises(Refused):
            refused(workflow.runtime, factories.ACCOUNT, export_id, PERSON)
    with pytest.raises(Refused):
        recovery.resume_partner(workflow.runtime, factories.ACCOUNT, factories.WAREHOUSE, actor=PERSON)
    assert (read_all(workflow), list_actions(workflow)) == (before, [])
