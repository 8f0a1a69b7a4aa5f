"""Many units at once and one large unit: executed in parallel, completely, and in bounded memory."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest

from tests.documents.samples import list_kinds
from tests.system.acceptance.account import AccountClient, Json, open_account
from tests.system.acceptance.installation import Distributed, Service
from tests.system.faults.matrix import mark_own_stack

MEBIBYTE = 1024 * 1024
#: The limits of a process's memory for a plan of 2,000 packages and for the largest plan, in megabytes.
LARGE_RESIDENT, LARGEST_RESIDENT = 350, 500


@contextmanager
def watch_memory(service: Service) -> Iterator[dict[str, int]]:
    """Yield the highest resident memory of each process and child process of the service during the block."""
    found: dict[str, int] = {}
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(0.1):
            for program in service.programs():
                for pid, size in program.resident_bytes().items():
                    name = f"{program.name}/{pid}"
                    found[name] = max(found.get(name, 0), size)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def test_many_units_are_shared_by_all_workers(account: AccountClient, service: Service) -> None:
    workers = service.workers if isinstance(service, Distributed) else service.programs()
    units = 20 * len(workers)
    plan = account.plan(units=units)
    export_id = account.execute_accepted(plan)
    view = account.wait_executed(export_id)
    assert len(view["artifacts"]) == sum(len(list_kinds(unit)) for unit in plan["units"])
    # Each process logs the steps that it ran; beside workers, the process of deliveries runs two notify steps.
    made = [count_steps(worker.log(), export_id) for worker in workers]
    assert sum(made) == 4 * units + (2 if len(workers) > 1 else 4), "a step of a unit, the handoff or a notify step"
    assert min(made) >= 16, "one worker ran almost all steps"
    assert len(workers) == 1 or count_overlapping(view) >= 2
    assert len(account.received_messages(export_id, 2 * units + 3)) == 2 * units + 3


def test_small_export_does_not_wait_for_large_ones_of_another_account(
    account: AccountClient, on_redis: Distributed
) -> None:
    large = [account.execute_accepted(account.plan(packages=300)) for _ in on_redis.workers]
    with open_account(on_redis) as other:
        other.wait_executed(other.execute_accepted(other.plan()))
    assert [account.inspect(export_id)["state"] for export_id in large] == ["executing", "accepted"]
    for export_id in large:
        account.wait_executed(export_id)


@mark_own_stack("F30")
def test_large_plan_is_executed_in_bounded_memory(
    account: AccountClient, on_redis: Distributed, record_property: Callable[[str, object], None]
) -> None:
    record_property("megabytes", check_large(account, on_redis, 2_000, 1_000, 240, LARGE_RESIDENT))


@mark_own_stack("F30")
@pytest.mark.long
@pytest.mark.timeout(900)
def test_largest_plan_is_executed_in_bounded_memory(
    account: AccountClient, service: Service, record_property: Callable[[str, object], None]
) -> None:
    began = time.monotonic()
    record_property("megabytes", check_large(account, service, 10_000, 5_000, 600, LARGEST_RESIDENT))
    record_property("seconds until executed and notified", round(time.monotonic() - began, 1))


def check_large(
    account: AccountClient, service: Service, packages: int, lines: int, seconds: float, megabytes: int
) -> dict[str, int]:
    """Execute a plan of one unit; return the highest memory of each process during it, in megabytes."""
    plan = account.plan(1, lines, packages)
    with watch_memory(service) as memory:
        export_id = account.execute_accepted(plan)
        view = account.wait_executed(export_id, seconds)
        messages = account.received_messages(export_id, packages + 3)
    held = {name: size // MEBIBYTE for name, size in sorted(memory.items(), key=lambda one: one[1])}
    assert held
    assert {name: size for name, size in held.items() if size > megabytes} == {}
    assert len(view["artifacts"]) == len(list_kinds(plan["units"][0]))
    assert view["treatment"]["lineCount"] == lines
    assert len(messages) == len({message.body["id"] for message in messages}) == packages + 3
    # Too many lines for a message: it has a link to them.
    (handoff,) = [message.data for message in messages if message.queue == "exports.broker"]
    (unit,) = handoff["units"]
    assert (unit["lines"], unit["totals"]["lineCount"], unit["totals"]["packageCount"]) == (None, lines, packages)
    invoice = account.get(unit["invoiceData"]["downloadUrl"].removeprefix(service.url))
    assert len(invoice["lines"]) == lines
    return held


def count_steps(log: str, export_id: str) -> int:
    """Return the number of the export's steps in a process's log."""
    records = (json.loads(line) for line in log.splitlines() if line.startswith("{") and export_id in line)
    return sum(record["event"] == "step_done" for record in records)


def count_overlapping(view: Json) -> int:
    """Return the highest number of units whose documents were being rendered at the same time."""
    moments: list[tuple[datetime, int]] = []
    for unit in view["units"]:
        (step,) = [step for step in unit["steps"] if step["name"] == "render_documents"]
        began, ended = (datetime.fromisoformat(step[name]) for name in ("startedAt", "finishedAt"))
        assert ended - began < timedelta(seconds=120)
        moments += [(began, 1), (ended, -1)]
    most = now = 0
    for _, change in sorted(moments):
        now += change
        most = max(most, now)
    return most
