"""Commands on the queue: the same body as over HTTP, executed once, and answered where they are refused."""

from __future__ import annotations

import json
from typing import Any

from tests.support.servers import poll
from tests.system.acceptance.account import Tenant
from tests.system.acceptance.installation import Distributed
from tests.system.acceptance.mail_server import Letter

Json = dict[str, Any]


def command(tenant: Tenant, plan: Json, key: str | None) -> bytes:
    body = {"accountId": tenant.account, "batchId": plan["batchId"], "plan": plan, "idempotencyKey": key}
    return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


def export_of(tenant: Tenant, batch_id: str) -> str:
    """Return the id of the batch's export once there is one."""
    poll(lambda: tenant.http.get(f"/api/exports/{batch_id}").is_success, 120, f"no export of {batch_id} appeared")
    return str(tenant.inspect(batch_id)["exportId"])


def refusals(tenant: Tenant, *correlation_ids: str) -> list[Letter]:
    """Return the answers to refused commands once each has one."""

    def found() -> list[Letter]:
        return [
            letter
            for letter in tenant.service.files.letters()
            if letter.queue == "exports.execute.refused" and letter.properties["correlation_id"] in correlation_ids
        ]

    poll(lambda: len(found()) >= len(correlation_ids), 120, f"{found()} answers {correlation_ids}")
    return found()


def test_command_is_executed_and_the_same_again_is_the_same_export(tenant: Tenant) -> None:
    plan, next_plan = tenant.plan(), tenant.plan()
    for _ in range(2):
        tenant.service.files.post(command(tenant, plan, "command-1"))
    tenant.service.files.post(command(tenant, next_plan, "command-2"))
    exports = [export_of(tenant, each["batchId"]) for each in (next_plan, plan)]
    for export_id in exports:
        tenant.executed(export_id)
        assert len(tenant.letters(export_id, 4)) == 4
    assert {item["exportId"] for item in tenant.get("/api/exports")["items"]} == set(exports)


def test_bad_command_is_answered_and_the_queue_goes_on(tenant: Tenant) -> None:
    good, unapproved = tenant.plan(), tenant.plan(approval=None)
    prefix = tenant.account
    post = tenant.service.files.post
    post(b"{ this is no JSON", correlation_id=f"{prefix}-1")
    post(command(tenant, unapproved, "command-1"), correlation_id=f"{prefix}-2")
    post(command(tenant, good, None), correlation_id=f"{prefix}-3")
    post(command(tenant, good | {"surprise": True}, "command-2"), correlation_id=f"{prefix}-4")
    post(command(tenant, good, "command-3"))
    tenant.executed(export_of(tenant, good["batchId"]))
    answers = refusals(tenant, *(f"{prefix}-{n}" for n in (1, 2, 3, 4)))
    assert [letter.content_type for letter in answers] == ["application/problem+json"] * 4
    codes = {letter.properties["correlation_id"]: letter.body["errorCode"] for letter in answers}
    assert codes == {
        f"{prefix}-1": "INVALID_REQUEST",
        f"{prefix}-2": "PLAN_NOT_APPROVED",
        f"{prefix}-3": "VALIDATION_ERROR",
        f"{prefix}-4": "VALIDATION_ERROR",
    }
    assert all(letter.body["message"] and letter.body["requestId"] for letter in answers)
    assert len(tenant.get("/api/exports")["items"]) == 1


def test_commands_held_by_an_intake_that_is_stopped_are_taken_by_the_next(
    tenant: Tenant, distributed: Distributed
) -> None:
    plans = [tenant.plan() for _ in range(10)]
    distributed.intake.stop()
    for number, plan in enumerate(plans):
        tenant.service.files.post(command(tenant, plan, f"command-{number}"))
    poll(lambda: distributed.waiting("exports.execute") == 10, 60, "the commands were not published")
    distributed.intake.start()
    poll(lambda: bool(tenant.get("/api/exports")["items"]), 60, "no command was taken")
    distributed.intake.stop()
    distributed.start()
    exports = {export_of(tenant, plan["batchId"]) for plan in plans}
    assert len(exports) == len(tenant.get("/api/exports")["items"]) == 10
    for export_id in exports:
        tenant.executed(export_id)
