"""Commands on the queue: the same body as over HTTP, executed once; a rejected command gets an answer."""

import json
from typing import Any

from tests.support.servers import poll
from tests.system.acceptance.account import AccountClient
from tests.system.acceptance.installation import Distributed
from tests.system.acceptance.queue_client import ReceivedMessage

Json = dict[str, Any]


def command(account: AccountClient, plan: Json, key: str | None) -> bytes:
    body = {"accountId": account.account_id, "batchId": plan["batchId"], "plan": plan, "idempotencyKey": key}
    return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


def find_export(account: AccountClient, batch_id: str) -> str:
    """Return the id of the batch's export when it exists."""
    poll(lambda: account.http.get(f"/api/exports/{batch_id}").is_success, 120, f"no export of {batch_id} appeared")
    return str(account.inspect(batch_id)["exportId"])


def wait_for_refusals(account: AccountClient, *correlation_ids: str) -> list[ReceivedMessage]:
    """Return the answers to rejected commands when each has one."""

    def found() -> list[ReceivedMessage]:
        return [
            message
            for message in account.service.files.received_messages()
            if message.queue == "exports.execute.refused" and message.properties["correlation_id"] in correlation_ids
        ]

    poll(lambda: len(found()) >= len(correlation_ids), 120, f"{found()} does not answer all of {correlation_ids}")
    return found()


def test_repeated_command_is_one_export(account: AccountClient) -> None:
    plan, next_plan = account.plan(), account.plan()
    for _ in range(2):
        account.service.files.post(command(account, plan, "command-1"))
    account.service.files.post(command(account, next_plan, "command-2"))
    exports = [find_export(account, each["batchId"]) for each in (next_plan, plan)]
    for export_id in exports:
        account.wait_executed(export_id)
        assert len(account.received_messages(export_id, 5)) == 5
    assert {item["exportId"] for item in account.get("/api/exports")["items"]} == set(exports)


def test_bad_command_is_answered_and_the_next_is_executed(account: AccountClient) -> None:
    good, unapproved = account.plan(), account.plan(approval=None)
    prefix = account.account_id
    post = account.service.files.post
    post(b"{ this is not JSON", correlation_id=f"{prefix}-1")
    post(command(account, unapproved, "command-1"), correlation_id=f"{prefix}-2")
    post(command(account, good, None), correlation_id=f"{prefix}-3")
    post(command(account, good | {"surprise": True}, "command-2"), correlation_id=f"{prefix}-4")
    post(command(account, good, "command-3"))
    account.wait_executed(find_export(account, good["batchId"]))
    answers = wait_for_refusals(account, *(f"{prefix}-{n}" for n in (1, 2, 3, 4)))
    assert [message.content_type for message in answers] == ["application/problem+json"] * 4
    codes = {message.properties["correlation_id"]: message.body["errorCode"] for message in answers}
    assert codes == {
        f"{prefix}-1": "INVALID_REQUEST",
        f"{prefix}-2": "PLAN_NOT_APPROVED",
        f"{prefix}-3": "VALIDATION_ERROR",
        f"{prefix}-4": "VALIDATION_ERROR",
    }
    assert all(message.body["message"] and message.body["requestId"] for message in answers)
    assert len(account.get("/api/exports")["items"]) == 1


def test_commands_of_a_stopped_intake_are_taken_by_the_next(account: AccountClient, distributed: Distributed) -> None:
    plans = [account.plan() for _ in range(10)]
    distributed.intake.stop()
    for number, plan in enumerate(plans):
        account.service.files.post(command(account, plan, f"command-{number}"))
    poll(lambda: distributed.count_waiting("exports.execute") == 10, 60, "the commands were not published")
    distributed.intake.start()
    poll(lambda: bool(account.get("/api/exports")["items"]), 60, "no command was taken")
    distributed.intake.stop()
    distributed.start()
    exports = {find_export(account, plan["batchId"]) for plan in plans}
    assert len(exports) == len(account.get("/api/exports")["items"]) == 10
    for export_id in exports:
        account.wait_executed(export_id)
