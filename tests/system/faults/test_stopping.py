"""Every process of the service ends soon after SIGTERM, idle or in the middle of work that does not end."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from signal import SIGALRM, SIGTERM
from typing import Final

import pytest
from kombu import Connection

from config.queues import EXECUTE
from pipeline.core.runtime import Runtime
from pipeline.simulation.evidence import Row
from pipeline.workflow.steps import NOTIFY_STEPS
from tests.conftest import SERVERS, Stack
from tests.support.ports import LOOPBACK
from tests.support.servers import poll
from tests.system.acceptance.programs import Program, read_procfile
from tests.system.faults.bounds import measure_load
from tests.system.faults.case import Case
from tests.system.faults.conftest import OpenCase
from tests.system.faults.matrix import EMBEDDED, RABBITMQ, REDIS, SERVED, fault
from tests.system.faults.proxy import proxy
from tests.system.faults.site import FAST_SETTINGS, Site
from tests.system.faults.test_crashes import send_command
from tests.system.faults.test_database import postgres
from tests.system.faults.test_message_broker import message_broker
from tests.system.faults.test_poison import are_at_rest, runtime, submit_plan

__all__ = ["runtime"]

#: The limits of docs/deployment.md: one message to each partner in progress; requests and task messages; the embedded
#: service; one command, and a database that does not answer.
TRY_SECONDS: Final = float(FAST_SETTINGS["EXPORTS_DELIVERY_TIMEOUT_SECONDS"])
WEB_SECONDS: Final = 5.0 + 6.0
SERVE_SECONDS: Final = 3.0
INTAKE_SECONDS: Final = 3 * float(FAST_SETTINGS["EXPORTS_DATABASE_TIMEOUT_SECONDS"])
#: A failure is retried within half a second here; its lease lasts until then.
NEXT_TRY: Final = timedelta(seconds=5)
#: No lease expires on a busy machine, or hides a holder that ended without releasing it.
LONG_LEASE: Final = {"lease_seconds": "120"}
#: The loop takes a quarter of a second of it; a busy machine needs the rest to release everything.
BOUND_SECONDS: Final = 8.0


def is_consumed(stack: Stack) -> bool:
    """Return whether the intake consumes its queue; Redis does not show it."""
    if stack.settings.message_broker == "redis":
        return True
    with Connection(stack.broker_url) as connection:
        try:
            connection.default_channel.queue_declare(EXECUTE, passive=True)
        except connection.channel_errors:
            return False
        return True


@pytest.mark.parametrize(
    "stack",
    [pytest.param("postgres-redis", marks=SERVERS), pytest.param("postgres-rabbitmq", marks=SERVERS)],
    indirect=True,
)
def test_idle_processes_stop(stack: Stack, runtime: Runtime, tmp_path: Path) -> None:
    commands = read_procfile()
    programs = [
        Program(name, commands[name], stack.environment, tmp_path)
        for name in ("worker", "deliveries", *(["intake"] if stack.settings.message_broker == "amqp" else []))
    ]
    for program in programs:
        program.start()
    try:
        export_id = submit_plan(runtime, "A1")
        poll(lambda: are_at_rest(runtime, [export_id]) and is_consumed(stack), 90, "the processes did not start work")
        began = time.monotonic()
        for program in programs:
            program.running().send_signal(signal.SIGTERM)
        ended = {program.name: program.wait(60) for program in programs}
        assert (ended, time.monotonic() - began < BOUND_SECONDS * measure_load()) == (dict.fromkeys(ended, 0), True)
    finally:
        for program in programs:
            if program.process is not None:
                program.kill()


# In the middle of work


def list_held(one: Case) -> list[str]:
    """Return the steps and deliveries that are still held, without failed ones that wait for a retry."""
    tables = one.snapshot().tables
    # Another process runs the other steps, and continues.
    notifying = [row for row in tables["steps"] if row["name"] in NOTIFY_STEPS]
    later = datetime.now(UTC) + NEXT_TRY
    return [
        f"{row['export_id']} {row.get('name') or row.get('id')}"
        for row in (*tables["deliveries"], *notifying)
        if row["lease_until"] is not None and row["lease_until"] > later
    ]


@fault("F35", everyday=SERVED)
def test_deliveries_process_stops_while_partners_hang(site: Site, case: OpenCase) -> None:
    """It waits for one attempt, and releases everything that it holds."""
    with case() as one:
        one.partner_stub.hold_seconds = 600
        site["steps"].start(**LONG_LEASE)
        exports = [one.accepted(one.client.plan(packages=3)) for _ in range(3)]
        # Its first attempts begin together: after a timeout it sends to one partner at a time.
        site.wait_until(lambda: one.list_event_types().count("HANDED_OFF") == 3, 300, "the exports are not handed off")
        site["deliveries"].start(**LONG_LEASE)
        site.wait_until(
            lambda: len({row["partner_id"] for row in list_under_way(one)}) >= 2, 300, "no partner is being waited for"
        )
        assert site["deliveries"].end_with(SIGTERM, TRY_SECONDS + BOUND_SECONDS * measure_load()) == 0
        assert list_held(one) == []
        one.partner_stub.hold_seconds = 0
        site["deliveries"].start(**LONG_LEASE)
        one.wait_until_finished(exports)
        assert one.list_states() == ["executed"] * 3
        history = one.check()
        assert {row["attempts"] for row in history.snapshot.tables["steps"]} == {1}


def list_under_way(one: Case) -> list[Row]:
    """Return the deliveries in progress."""
    return [row for row in one.snapshot().tables["deliveries"] if row["lease_until"] is not None]


@fault("F35", everyday=(REDIS,), long=SERVED)
def test_deliveries_process_stopped_between_messages_sends_none_twice(site: Site, case: OpenCase) -> None:
    with case() as one:
        one.partner_stub.hold_seconds = 0.7
        site["steps"].start(**LONG_LEASE)
        site["deliveries"].start(**LONG_LEASE)
        exports = [one.accepted(one.client.plan(packages=6)) for _ in range(2)]
        site.wait_until(lambda: len(one.partner_stub.receipts) >= 3, 300, "no message was sent")
        assert site["deliveries"].end_with(SIGTERM, TRY_SECONDS + BOUND_SECONDS * measure_load()) == 0
        assert list_held(one) == []
        assert one.list_unfinished(), "no message was left to send"
        one.partner_stub.hold_seconds = 0
        site["deliveries"].start(**LONG_LEASE)
        one.wait_until_finished(exports)
        assert one.partner_stub.count_repeats() == 0
        assert one.list_states() == ["executed"] * 2
        one.check()


@fault("F35", everyday=(RABBITMQ,), long=SERVED)
@pytest.mark.parametrize("ends", [True, False], ids=["slow request", "request without an end"])
def test_api_stops_during_a_request_and_unsent_task_messages(
    site: Site,
    case: OpenCase,
    ends: bool,  # noqa: FBT001
) -> None:
    """The message broker is a black hole; a request that does not end gets 503."""
    port = message_broker(site).port
    with proxy(port) as between, case() as one, ThreadPoolExecutor(1) as caller:
        opened = one.marks / "open"
        one.arm(
            "web",
            f"accept.mid=barrier:{opened}",
            broker_url=site.stack.broker_url.replace(f"{LOOPBACK}:{port}", f"{LOOPBACK}:{between.port}"),
        )
        site.wait_until(site.answers, 120, "the API did not start")
        between.blackhole = True
        plan = one.client.plan()
        asked = caller.submit(one.client.execute, plan)
        site.wait_until(one.count_fired, 60, "the request is not in progress")
        exports = [one.accepted() for _ in range(3)]
        if ends:
            threading.Timer(1.0, opened.touch).start()
        # After a clean shutdown uvicorn raises the signal that stopped it.
        assert site["web"].end_with(SIGTERM, WEB_SECONDS + BOUND_SECONDS * measure_load()) == -SIGTERM
        answer = asked.result(60)
        assert answer is not None
        assert (answer.status_code, answer.headers.get("retry-after")) == ((202, None) if ends else (503, "1"))
        between.blackhole = False
        site["web"].start()
        exports.append(one.accepted(plan))
        site.start("worker")
        one.wait_until_finished(exports)
        assert one.list_states() == ["executed"] * 4
        one.check()


@fault("F35", everyday=(RABBITMQ,), long=SERVED)
@pytest.mark.parametrize("point", ["intake.before", "intake.mid"])
def test_intake_stops_after_its_current_command(site: Site, case: OpenCase, point: str) -> None:
    with case() as one:
        one.arm("intake", f"{point}=sleep:2000")
        send_command(one)
        site.wait_until(one.count_fired, 300, "the intake did not take the command")
        assert site["intake"].end_with(SIGTERM, 2.0 + BOUND_SECONDS * measure_load()) == 0
        check_commands_done_once(site, one, 1)


@fault("F35", everyday=(RABBITMQ,), long=SERVED)
@pytest.mark.parametrize("harm", ["refuse", "blackhole"])
def test_intake_releases_a_command_if_the_database_is_down(site: Site, case: OpenCase, harm: str) -> None:
    port = postgres(site).port
    # On a refused connection the intake ends in time, on a busy machine too.
    seconds = INTAKE_SECONDS if harm == "blackhole" else 2 * INTAKE_SECONDS
    with proxy(port) as between, case() as one:
        opened = one.marks / "open"
        one.arm(
            "intake",
            f"intake.before=barrier:{opened}*2",
            database_timeout_seconds=f"{seconds / 3:g}",
            database_url=site.stack.database_url.replace(f"{LOOPBACK}:{port}", f"{LOOPBACK}:{between.port}"),
        )
        opened.touch()
        send_command(one)
        site.wait_until(lambda: len(one.list_states()) == 1, 300, "the first command was not accepted")
        opened.unlink()
        send_command(one)
        # The intake holds the command before the database goes; else its own bookkeeping between two commands would
        # wait too.
        site.wait_until(lambda: one.count_fired() == {"intake.before": 2}, 300, "the intake did not take the command")
        between.blackhole, between.refuse = harm == "blackhole", harm == "refuse"
        if between.refuse:
            between.reset_all()
        opened.touch()
        time.sleep(1)  # the pause is the fault: the intake waits for the database
        ended = site["intake"].end_with(SIGTERM, seconds + BOUND_SECONDS * measure_load())
        assert ended == (0 if harm == "refuse" else -SIGALRM)
        assert len(one.list_states()) == 1
        between.refuse = between.blackhole = False
        check_commands_done_once(site, one, 2)


def check_commands_done_once(site: Site, one: Case, count: int) -> None:
    """Assert that each command became one export, whichever intake took it."""
    site["intake"].start()
    site.start("worker")
    site.wait_until(
        lambda: len(one.list_states()) == count and not one.list_unfinished(), 300, "a command was not executed"
    )
    site.wait_until(lambda: site.waiting(EXECUTE) == 0, 300, "a command is still queued")
    assert one.list_states() == ["executed"] * count
    one.check()


@fault("F35", everyday=(EMBEDDED,))
def test_embedded_service_stops_during_a_step(site: Site, case: OpenCase) -> None:
    with case() as one:
        opened = one.marks / "open"
        one.arm("serve", f"render_documents.before=barrier:{opened}")
        site.wait_until(site.answers, 120, "the service did not start")
        export_id = one.accepted()
        site.wait_until(one.count_fired, 300, "the step did not begin")
        assert site["serve"].end_with(SIGTERM, SERVE_SECONDS + BOUND_SECONDS * measure_load()) == 0
        site["serve"].start()
        one.wait_until_finished([export_id])
        assert one.list_states() == ["executed"]
        one.check(again=[export_id])
