"""Accepted exports are executed although processes are killed, messages lost, or the message broker down."""

import time
from collections import Counter

from tests.documents.samples import list_kinds
from tests.support.servers import poll
from tests.system.acceptance.account import RUNNING_STATES, AccountClient, Json
from tests.system.acceptance.installation import Distributed, Embedded, Service

#: The queue of published task messages for steps.
#: The fifth active export of an account waits in the second queue.
FIRST_STEPS = ("exports.steps", "exports.backlog")


def check_once(account: AccountClient, export_id: str, units: int = 1, lines: int = 3) -> None:
    """Assert that the export is executed, and that each of its parts exists exactly once."""
    account.wait_executed(export_id)
    events_of_type = Counter(event["type"] for event in account.events(export_id))
    assert events_of_type["PACKAGES_RECORDED"] == events_of_type["TREATMENT_ATTACHED"] == units
    assert events_of_type["CUSTOMS_PACKAGE_CLOSED"] == units
    assert events_of_type["CUSTOMS_ARTIFACT_GENERATED"] == len(list_kinds(account.plan(1, lines)["units"][0])) * units
    assert events_of_type["HANDED_OFF"] == events_of_type["EXPORT_EXECUTED"] == 1
    messages = account.received_messages(export_id, 2 * units + 3)
    assert len(messages) == len({message.body["id"] for message in messages}) == 2 * units + 3


def test_export_is_accepted_while_the_message_broker_is_down(account: AccountClient, distributed: Distributed) -> None:
    message_broker = distributed.message_broker
    message_broker.kill()
    try:
        began = time.monotonic()
        exports = [account.execute_accepted(account.plan()) for _ in range(3)]
        assert time.monotonic() - began < 15
        assert {account.inspect(export_id)["state"] for export_id in exports} == {"accepted"}
    finally:
        message_broker.start()
    for export_id in exports:
        check_once(account, export_id)


def test_lost_task_messages_lose_no_export(account: AccountClient, distributed: Distributed) -> None:
    with distributed.idle_workers():
        exports = [account.execute_accepted(account.plan()) for _ in range(5)]
        poll(lambda: sum(map(distributed.count_waiting, FIRST_STEPS)) >= 5, 60, "the task messages were not published")
        assert distributed.drop_messages() >= 5
        assert sum(map(distributed.count_waiting, FIRST_STEPS)) == 0
    for export_id in exports:
        check_once(account, export_id)


def test_killed_process_loses_no_queued_export(account: AccountClient, embedded: Embedded) -> None:
    # They are so large that no partner is notified before the kill. The queues inside the process end with it.
    exports = [account.execute_accepted(account.plan(units=4, lines=30)) for _ in range(5)]
    embedded.kill_workers()
    embedded.start()
    assert any(account.inspect(export_id)["state"] in RUNNING_STATES for export_id in exports)
    for export_id in exports:
        check_once(account, export_id, units=4, lines=30)


def test_killed_worker_is_replaced_and_nothing_is_done_twice(account: AccountClient, service: Service) -> None:
    units = 12
    export_id = account.execute_accepted(account.plan(units, lines=30))
    account.wait_until(export_id, has_begun)
    service.kill_workers()
    service.start()
    view = account.inspect(export_id)
    assert view["state"] == "executing"
    assert has_begun(view)
    check_once(account, export_id, units, lines=30)


def has_begun(view: Json) -> bool:
    """Return whether a step of the export is done."""
    return any(step["state"] == "done" for unit in view["units"] for step in unit["steps"])


def test_restart_of_all_processes_loses_nothing(account: AccountClient, service: Service) -> None:
    exports = [account.execute_accepted(account.plan(units=2)) for _ in range(4)]
    account.wait_until(exports[0], has_begun)
    service.restart()
    for export_id in exports:
        check_once(account, export_id, units=2)
