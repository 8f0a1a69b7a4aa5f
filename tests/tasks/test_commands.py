"""A command of an account with its maximum of active exports waits until there is room; others do not wait for it."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import update

from config import queues
from pipeline.accounts import partners
from pipeline.accounts.schemas import NewPartner
from pipeline.core.db import table
from pipeline.core.runtime import Runtime
from pipeline.exports.models import Account, Export
from pipeline.workflow import waiting_commands
from pipeline.workflow.waiting_commands import CLAIM_SECONDS, WaitingCommand
from tasks import intake
from tests.deliveries.conftest import Clock
from tests.support import factories
from tests.support.servers import poll
from tests.tasks.test_intake import IntakeHarness, Json, harness, request

__all__ = ["harness"]


def add_account(runtime: Runtime, account: str) -> Json:
    """Add an account with its partners; return a command of it."""
    with runtime.db.write() as session:
        session.add(Account(id=account, name="Cedar Goods Ltd"))
    for kind in ("customs_broker", "warehouse"):
        given = {"id": f"{account}_{kind}", "kind": kind, "name": kind, "live": True}
        partners.create_partner(runtime, account, NewPartner.model_validate(given))
    plan = factories.plan(account=account, broker=f"{account}_customs_broker", warehouse=f"{account}_warehouse")
    return request(accountId=account, plan=plan)


def test_command_of_a_full_account_waits_and_the_next_one_is_accepted(
    harness: IntakeHarness, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "WAITING_SECONDS", 0.05)
    monkeypatch.setitem(harness.runtime.settings.__dict__, "max_open_exports", 1)
    others = add_account(harness.runtime, "acc_2")
    harness.command(request(), reply_to="answers")
    for number in (2, 3):
        plan = factories.plan(batch=f"batch-{number}", invoice=f"A-{number}")
        command = request(plan=plan, batchId=f"batch-{number}", idempotencyKey=f"k-{number}")
        harness.command(command, reply_to="answers", correlation_id=f"order-{number}")
    harness.command(others, reply_to="answers")
    assert len(harness.take_messages("answers", 2)) == 2
    assert sorted(each.account_id for each in harness.rows(Export)) == ["acc_2", factories.ACCOUNT]
    assert len(harness.rows(WaitingCommand)) == 2
    harness.runtime.settings.__dict__["max_open_exports"] = 3

    def let_time_pass() -> bool:
        clock.pass_seconds(0.1)  # the intake may write the time of its next try only now
        return not harness.rows(WaitingCommand)

    poll(let_time_pass, 30, "a command still waits")
    waited = harness.take_messages("answers", 2)
    assert [each.properties["correlation_id"] for each in waited] == ["order-2", "order-3"]
    answered = {json.loads(each.body)["exportId"] for each in waited}
    assert {each.batch_id for each in harness.rows(Export) if each.id in answered} == {"batch-2", "batch-3"}
    assert harness.take_messages(queues.REFUSED, seconds=0.2) == []


def test_waiting_command_is_tried_by_one_process_at_a_time_and_in_order(runtime: Runtime, clock: Clock) -> None:
    for account, number in (("acc_2", 1), ("acc_2", 2), ("acc_3", 1)):
        if number == 1:
            add_account(runtime, account)
        waiting_commands.keep(runtime, account, f"{account} {number}".encode(), {"task": None})
    (_, first, due), (_, other, _) = waiting_commands.list_first(runtime)
    assert due
    claimed = waiting_commands.claim(runtime, first)
    assert (claimed and claimed.body, claimed and claimed.properties) == (b"acc_2 1", {"task": None})
    assert waiting_commands.claim(runtime, first) is None
    # The second command of the account waits for the end of the first.
    assert waiting_commands.list_first(runtime) == [("acc_3", other, True), ("acc_2", first, False)]
    with runtime.db.write() as session:  # as after a database whose clock was set back
        session.execute(update(table(WaitingCommand)).values(due_at=clock.now + timedelta(seconds=2 * CLAIM_SECONDS)))
    assert waiting_commands.claim(runtime, first) is not None
    waiting_commands.postpone(runtime, first, 0)
    assert waiting_commands.claim(runtime, first) is not None
    waiting_commands.remove(runtime, first)
    (second,) = [each for account, each, _ in waiting_commands.list_first(runtime) if account == "acc_2"]
    claimed = waiting_commands.claim(runtime, second)
    assert claimed is not None
    assert claimed.body == b"acc_2 2"
