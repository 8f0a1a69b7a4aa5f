"""Amend, cancel, retry and replay from the command line, against a running service."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import factories
from tests.support.command_line import Commands

PlanFile = Callable[..., str]


@pytest.fixture
def plan_file(tmp_path: Path, request: pytest.FixtureRequest) -> PlanFile:
    """Write a plan of the test's own batch, with changes, and return its path."""

    def write(lines: int = 3) -> str:
        path = tmp_path / "plan.json"
        path.write_text(json.dumps(factories.plan(batch=f"batch-{request.node.name}", lines=lines)))
        return str(path)

    return write


def test_amend_creates_and_prints_a_revision(service: Commands, plan_file: PlanFile) -> None:
    old = service.json("execute", plan_file(), "--wait", "--timeout", "60")
    tag = service("inspect", old["exportId"], "--etag").stdout.strip()
    stale = service("amend", old["batch_id"], plan_file(lines=4), "--if-match", '"stale"', "--json")
    assert (stale.exit_code, json.loads(stale.stdout)["errorCode"]) == (1, "PRECONDITION_FAILED")
    amend = ("amend", old["batch_id"], plan_file(lines=4), "--wait", "--timeout", "60", "--if-match")
    amended = service(*amend, tag)
    # Deliveries after the end still change the old revision: the tag is read again until it is current.
    while "If-Match" in amended.output:
        amended = service(*amend, service("inspect", old["exportId"], "--etag").stdout.strip())
    assert amended.exit_code == 0, amended.output
    assert f"revision 2, supersedes {old['exportId']}" in amended.stderr
    new = service.json("inspect", old["batch_id"])
    assert (new["revision"], new["supersedes"]) == (2, old["exportId"])
    assert f"superseded by {new['exportId']}" in service("inspect", old["exportId"]).stdout
    assert service.json("amend", old["batch_id"], plan_file(lines=4))["exportId"] == new["exportId"]


def test_amending_back_to_an_earlier_plan_is_a_revision(service: Commands, plan_file: PlanFile) -> None:
    batch = service.json("execute", plan_file(), "--wait", "--timeout", "60")["batch_id"]
    for revision, lines in ((2, 4), (3, 3), (4, 4)):
        made = service.json("amend", batch, plan_file(lines=lines), "--correction", "--wait", "--timeout", "60")
        assert (made["revision"], made["state"]) == (revision, "executed")


def test_ended_export_can_be_neither_cancelled_nor_retried(service: Commands, plan_file: PlanFile) -> None:
    batch = service.json("execute", plan_file(), "--wait", "--timeout", "60")["batch_id"]
    for command in ("cancel", "retry"):
        result = service(command, batch, "--json")
        assert (result.exit_code, json.loads(result.stdout)["errorCode"]) == (1, "INVALID_STATE")


def test_replay_counts_what_is_sent_again(service: Commands, plan_file: PlanFile) -> None:
    export = service.json("execute", plan_file(), "--wait", "--timeout", "60")
    accepted = export["acceptedAt"]
    replay = ("deliveries", "replay", "--partner", factories.WAREHOUSE, "--since", accepted)
    report = service.json(*replay, "--type", "exports.package.recorded.v1", "--state", "delivered")
    assert report == {"partnerId": factories.WAREHOUSE, "messages": 2, "exports": 1}
    wrong = service("deliveries", "replay", "--partner", factories.WAREHOUSE, "--since", "yesterday")
    assert wrong.exit_code == 2
    assert "Give an instant with its offset" in wrong.output
    assert service("deliveries", "replay", "--partner", "wh_none", "--since", accepted).exit_code == 3
