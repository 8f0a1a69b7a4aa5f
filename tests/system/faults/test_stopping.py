"""Every process of ours ends soon after it is told to, with nothing to do as in the middle of something that does not end."""

from __future__ import annotations

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
from tests.system.faults.records import Row
from tests.system.faults.site import FAST_SETTINGS, Site
from tests.system.faults.test_crashes import send_command
from tests.system.faults.test_database import postgres
from tests.system.faults.test_message_broker import message_broker
from tests.system.faults.test_poison import are_at_rest, runtime, submit_plan

__all__ = ["runtime"]

#: What docs/deployment.md says: one message to each partner at hand; requests and task messages; the embedded service; one
#: command, and where the database does not answer so long.
TRY_SECONDS: Final = float(FAST_SETTINGS["EXPORTS_DELIVERY_TIMEOUT_SECONDS"])
WEB_SECONDS: Final = 5.0 + 6.0
SERVE_SECONDS: Final = 3.0
INTAKE_SECONDS: Final = 3 * float(FAST_SETTINGS["EXPORTS_DATABASE_TIMEOUT_SECONDS"])
#: What fails is tried again within half a second here, and its lease runs on until then.
NEXT_TRY: Final = timedelta(seconds=5)
#: No lease runs out because the machine is busy, or because somebody has ended who should have let go of it.
LONG_LEASE: Final = {"lease_seconds": "120"}
#: Of which the loop's share is a quarter of a second; the rest is what a busy machine takes to let go of everything.
BOUND_SECONDS: Final = 8.0


def is_consumed(stack: Stack) -> bool:
    """Whether the intake has come as far as its queue; Redis does not say."""
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
def test_processes_end_on_request_though_they_are_idle(stack: Stack, runtime: Runtime, tmp_path: Path) -> None:
    commands = read_procfile()
    programs = [
        Program(name, commands[name], stack.environment, tmp_path)
        for name in ("worker", "deliveries", *(["intake"] if stack.settings.message_broker == "amqp" else []))
    ]
    for program in programs:
        program.start()
    try:
        export_id = submit_plan(runtime, "A1")
        poll(lambda: are_at_rest(runtime, [export_id]) and is_consumed(stack), 90, "they did not begin to work")
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
    """Return the steps and deliveries that somebody has not let go of, other than what failed and waits for its next try."""
    tables = one.snapshot().tables
    # Another process makes the other steps, and goes on.
    notifying = [row for row in tables["steps"] if row["name"] in NOTIFY_STEPS]
    later = datetime.now(UTC) + NEXT_TRY
    return [
        f"{row['export_id']} {row.get('name') or row.get('id')}"
        for row in (*tables["deliveries"], *notifying)
        if row["lease_until"] is not None and row["lease_until"] > later
    ]


@fault("F35", everyday=SERVED)
def test_process_for_deliveries_ends_though_its_partners_hang(site: Site, case: OpenCase) -> None:
    """It waits for one try, and lets go of all that it holds."""
    with case() as one:
        one.partner_stub.hold_seconds = 600
        site["steps"].start(**LONG_LEASE)
        site["deliveries"].start(**LONG_LEASE)
        exports = [one.accepted(one.client.plan(packages=3)) for _ in range(3)]
        site.wait_until(
            lambda: len({row["partner_id"] for row in list_under_way(one)}) >= 2, 300, "nobody is waited for"
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
    """Return the deliveries that are under way."""
    return [row for row in one.snapshot().tables["deliveries"] if row["lease_until"] is not None]


@fault("F35", everyday=(REDIS,), long=SERVED)
def test_process_for_deliveries_stopped_between_messages_sends_none_twice(site: Site, case: OpenCase) -> None:
    with case() as one:
        one.partner_stub.hold_seconds = 0.7
        site["steps"].start(**LONG_LEASE)
        site["deliveries"].start(**LONG_LEASE)
        exports = [one.accepted(one.client.plan(packages=6)) for _ in range(2)]
        site.wait_until(lambda: len(one.partner_stub.receipts) >= 3, 300, "nothing was sent")
        assert site["deliveries"].end_with(SIGTERM, TRY_SECONDS + BOUND_SECONDS * measure_load()) == 0
        assert list_held(one) == []
        assert one.list_unfinished(), "there was nothing left to send"
        one.partner_stub.hold_seconds = 0
        site["deliveries"].start(**LONG_LEASE)
        one.wait_until_finished(exports)
        assert one.partner_stub.count_repeats() == 0
        assert one.list_states() == ["executed"] * 2
        one.check()


@fault("F35", everyday=(RABBITMQ,), long=SERVED)
@pytest.mark.parametrize("ends", [True, False], ids=["slow request", "request without an end"])
def test_api_ends_with_a_request_under_way_and_task_messages_that_nobody_takes(
    site: Site,
    case: OpenCase,
    ends: bool,  # noqa: FBT001
) -> None:
    """Between it and the message broker is a black hole; a request that does not end is told to ask again."""
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
        site.wait_until(one.count_fired, 60, "the request is not under way")
        exports = [one.accepted() for _ in range(3)]
        if ends:
            threading.Timer(1.0, opened.touch).start()
        # Once all is done, uvicorn ends itself by the signal that it was told to end with.
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
def test_intake_ends_after_the_command_in_its_hands(site: Site, case: OpenCase, point: str) -> None:
    with case() as one:
        one.arm("intake", f"{point}=sleep:2000")
        send_command(one)
        site.wait_until(one.count_fired, 300, "it was not taken")
        assert site["intake"].end_with(SIGTERM, 2.0 + BOUND_SECONDS * measure_load()) == 0
        check_commands_done_once(site, one, 1)


@fault("F35", everyday=(RABBITMQ,), long=SERVED)
@pytest.mark.parametrize("harm", ["refuse", "blackhole"])
def test_intake_gives_back_a_command_that_the_database_does_not_take(site: Site, case: OpenCase, harm: str) -> None:
    port = postgres(site).port
    with proxy(port) as between, case() as one:
        opened = one.marks / "open"
        one.arm(
            "intake",
            f"intake.before=barrier:{opened}*2",
            database_url=site.stack.database_url.replace(f"{LOOPBACK}:{port}", f"{LOOPBACK}:{between.port}"),
        )
        opened.touch()
        send_command(one)
        site.wait_until(lambda: len(one.list_states()) == 1, 300, "the first was not accepted")
        opened.unlink()
        send_command(one)
        # It holds the command before the database goes: what it notes between two commands would wait as well.
        site.wait_until(lambda: one.count_fired() == {"intake.before": 2}, 300, "it was not taken")
        between.blackhole, between.refuse = harm == "blackhole", harm == "refuse"
        if between.refuse:
            between.reset_all()
        opened.touch()
        time.sleep(1)  # it is the fault itself: it waits for the database
        ended = site["intake"].end_with(SIGTERM, INTAKE_SECONDS + BOUND_SECONDS * measure_load())
        assert ended == (0 if harm == "refuse" else -SIGALRM)
        assert len(one.list_states()) == 1
        between.refuse = between.blackhole = False
        check_commands_done_once(site, one, 2)


def check_commands_done_once(site: Site, one: Case, count: int) -> None:
    """Assert that one export came of each command, whoever took it."""
    site["intake"].start()
    site.start("worker")
    site.wait_until(
        lambda: len(one.list_states()) == count and not one.list_unfinished(), 300, "a command was not executed"
    )
    site.wait_until(lambda: site.waiting(EXECUTE) == 0, 300, "a command still lies there")
    assert one.list_states() == ["executed"] * count
    one.check()


@fault("F35", everyday=(EMBEDDED,))
def test_embedded_service_ends_in_the_middle_of_a_step(site: Site, case: OpenCase) -> None:
    with case() as one:
        opened = one.marks / "open"
        one.arm("serve", f"render_documents.before=barrier:{opened}")
        site.wait_until(site.answers, 120, "it did not start")
        export_id = one.accepted()
        site.wait_until(one.count_fired, 300, "the step was not begun")
        assert site["serve"].end_with(SIGTERM, SERVE_SECONDS + BOUND_SECONDS * measure_load()) == 0
        site["serve"].start()
        one.wait_until_finished([export_id])
        assert one.list_states() == ["executed"]
        one.check(again=[export_id])
