"""Two holders of one lease: a worker that paused past its lease finds it lost, and does nothing more."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest

from pipeline.simulation.evidence import Row
from tests.support import factories
from tests.support.fork_server import ForkServer, start_fork_server
from tests.support.on_day import library, write_shift
from tests.system.faults.case import Case
from tests.system.faults.conftest import OpenCase
from tests.system.faults.fork_server import MODULE
from tests.system.faults.matrix import RABBITMQ, REDIS, SERVED, STACKS, fault
from tests.system.faults.site import Site

#: The messages that one process holds: for each of two exports the customs broker's and the warehouse's.
STREAMS = 4


@fault("F17", everyday=(REDIS,), long=SERVED)
@pytest.mark.parametrize("point", ["render_documents.before", "hand_off.before", "delivery.before", "delivery.between"])
def test_worker_paused_past_its_lease_has_no_effect(site: Site, case: OpenCase, point: str) -> None:
    with case() as one:
        opened = one.marks / "open"
        export_id = one.accepted(one.client.plan(lines=3, packages=3))
        # Only the warehouse is notified yet: one message for each package, so it still has messages to send afterwards.
        assert one.client.post(f"/api/partners/{factories.BROKER}/pause", {}) is not None
        one.arm("worker", f"{point}=barrier:{opened}")
        site.wait_until(lambda: point in one.count_fired(), 300, "the failpoint was not reached")
        site["worker"].send(SIGSTOP)
        site["worker-2"].start()
        one.client.post(f"/api/partners/{factories.BROKER}/resume", {})
        one.wait_until_finished([export_id])
        received = len(one.partner_stub.receipts)
        opened.touch()
        site["worker"].send(SIGCONT)
        site.wait_until(lambda: one.lost_lease("worker"), 300, "the worker did not notice that its lease was lost")
        assert len(one.partner_stub.receipts) == received, "the worker sent a message without its lease"
        assert one.list_states() == ["executed"]
        one.check(again=[export_id])


@fault("F17", everyday=SERVED)
@pytest.mark.parametrize("point", ["delivery.before", "delivery.between"])
def test_deliveries_process_paused_past_its_leases_sends_nothing(site: Site, case: OpenCase, point: str) -> None:
    """It holds several partners' messages, each with its own lease and with more messages to send."""
    with case() as one:
        opened = one.marks / "open"
        site.start("steps")
        # A long timeout, so that no partner counts as unhealthy and is limited to one thread.
        # No lease expires before all are held: another thread of this process would take the stream again.
        one.arm("deliveries", f"{point}=barrier:{opened}*{STREAMS}", delivery_timeout_seconds="60", lease_seconds="10")
        exports = [one.accepted(one.client.plan(lines=3, packages=3)) for _ in range(2)]
        site.wait_until(lambda: one.count_fired().get(point) == STREAMS, 60, "the process does not hold all streams")
        rows = one.snapshot().tables["deliveries"]
        held = {(row["subject_id"], row["partner_id"]) for row in rows if row["lease_until"] is not None}
        assert len(held) == STREAMS
        site["deliveries"].send(SIGSTOP)
        site["deliveries-2"].start()
        one.wait_until_finished(exports)
        received = len(one.partner_stub.receipts)
        opened.touch()
        site["deliveries"].send(SIGCONT)
        site.wait_until(
            lambda: site["deliveries"].count("notifying_failed") == STREAMS,
            300,
            "the process did not notice that its leases were lost",
        )
        assert len(one.partner_stub.receipts) == received, "the process sent a message without its lease"
        assert one.list_states() == ["executed"] * 2
        one.check(again=exports)


@contextmanager
def fork_with_wrong_clock(folder: Path, shift: Path, module: str = MODULE) -> Iterator[ForkServer]:
    """Yield the parent of processes with a wrong wall clock, off by the seconds in the file, and a right monotonic clock."""
    with start_fork_server(
        folder,
        module=module,
        prefix=("env", "-u", "FAKETIME"),  # it would hide the file
        LD_PRELOAD=library(),
        FAKETIME_TIMESTAMP_FILE=str(shift),
        # Read the file once a second: reading it on each call would take a third of a processor.
        FAKETIME_CACHE_DURATION="1",
        DONT_FAKE_MONOTONIC="1",
    ) as parent:
        yield parent


@fault("F26", everyday=(REDIS,), long=SERVED)
def test_worker_with_a_wrong_clock_keeps_leases(site: Site, case: OpenCase, tmp_path: Path) -> None:
    """Leases use the database's clock: a held lease is not taken, and no work waits for an hour."""
    shift = tmp_path / "shift"
    write_shift(shift, 3600)
    with fork_with_wrong_clock(tmp_path, shift) as parent, case() as one:
        site["worker-2"].fork_server = parent
        try:
            site["worker-2"].start(lease_seconds="6")
            exports = [one.accepted(one.client.plan(units=2))]
            one.wait_until_finished(exports)  # it is the only worker, so it did the work
            site["worker"].start(lease_seconds="6")
            exports += [one.accepted(one.client.plan(units=2)) for _ in range(2)]
            one.wait_until_finished(exports)
            write_shift(shift, -600)
            more = [one.accepted(one.client.plan(units=2)) for _ in range(3)]
            one.wait_until_finished(more)
        finally:
            site["worker-2"].kill()
            site["worker-2"].fork_server = site.fork_server
        log = site["worker-2"].log()
        assert "step_done" in log
        latest = max(datetime.fromisoformat(at) for at in re.findall(r'"timestamp": "([^"]+)"', log))
        assert latest > datetime.now(UTC) + timedelta(minutes=30), "the worker's clock was not wrong"
        history = one.check(again=exports[:1])
        assert {row["attempts"] for row in history.snapshot.tables["steps"]} == {1}
        assert one.partner_stub.count_repeats() == 0
        assert max(row["at"] for row in history.snapshot.tables["events"]) < datetime.now(UTC)
        assert one.list_states() == ["executed"] * 6


@fault("F42", everyday=(REDIS,), long=STACKS)
@pytest.mark.parametrize(("point", "ends"), [("hand_off.before", "cancelled"), ("hand_off.after", "executed")])
def test_cancellation_races_completion(site: Site, case: OpenCase, point: str, ends: str) -> None:
    with case() as one:
        opened = one.marks / "open"
        one.arm("worker", f"{point}=barrier:{opened}", lease_seconds="60")
        export_id = one.accepted()
        site.wait_until(lambda: point in one.count_fired(), 300, "the failpoint was not reached")
        answer = one.client.post(f"/api/exports/{export_id}/cancel", {})
        assert answer is not None
        assert answer.status_code == (200 if ends == "cancelled" else 409), answer.text
        opened.touch()
        one.wait_until_finished([export_id])
        assert one.list_states() == [ends]
        history = one.check()
        happened = [event["type"] for event in history.snapshot.tables["events"]]
        assert ("HANDED_OFF" in happened, "EXPORT_CANCELLED" in happened) == (ends == "executed", ends == "cancelled")


def list_leased(one: Case) -> list[Row]:
    return [row for row in one.snapshot().tables["deliveries"] if row["lease_until"] is not None]


@fault("F42", everyday=(RABBITMQ,), long=STACKS)
def test_resend_races_delivery(site: Site, case: OpenCase) -> None:
    """To resend a message in flight changes nothing; after its delivery it is sent again under the same id."""
    with case() as one:
        opened = one.marks / "open"
        one.arm("worker", f"delivery.sent=barrier:{opened}", lease_seconds="60")
        export_id = one.accepted()
        site.wait_until(lambda: "delivery.sent" in one.count_fired(), 300, "the failpoint was not reached")
        site.wait_until(lambda: len(list_leased(one)) == 1, 300, "other messages are still in flight")
        (held,) = list_leased(one)
        asked = one.client.post(f"/api/deliveries/{held['id']}/resend", {})
        assert asked is not None
        assert (asked.status_code, asked.json()["state"]) == (202, "pending")
        opened.touch()
        one.wait_until_finished([export_id])
        assert len(one.partner_stub.receipts_of(held["notification_id"])) == 1
        resent = one.client.post(f"/api/deliveries/{held['id']}/resend", {})
        assert resent is not None
        assert resent.status_code in {200, 202}, resent.text
        one.wait_until_finished([export_id])
        assert len(one.partner_stub.receipts_of(held["notification_id"])) == 2
        assert one.partner_stub.count_repeats() == 1
        one.check()
