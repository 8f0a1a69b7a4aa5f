"""External limits: a full disk, a slow partner, a supervisor that stops processes; the promises hold."""

import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGTERM

import httpx
import pytest

from pipeline.core.db import Database
from pipeline.ops import readiness
from pipeline.ops.migrations.runner import upgrade_database
from pipeline.workflow.steps import STEPS
from tests.conftest import Stack
from tests.support.fork_server import ForkServer
from tests.system.faults import short_timeouts
from tests.system.faults.bounds import measure_load
from tests.system.faults.case import Case, open_case
from tests.system.faults.conftest import OpenCase
from tests.system.faults.matrix import EMBEDDED, RABBITMQ, REDIS, SERVED, STACKS, fault, mark_own_stack
from tests.system.faults.site import Site

#: The time that a program may take to end with one task in progress; `worker_soft_shutdown_timeout` and some more.
END_SECONDS = 40.0
#: The exports that wait for a worker; how late readiness may be on a busy machine; and how much slower a worker may be
#: after a time without workers.
WAITING, LATE_SECONDS, SLOWDOWN = 8, 15.0, 3
#: No lease expires because the machine is busy.
LONG_LEASE = {"lease_seconds": "10"}


# The disk


@contextmanager
def mount_small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """Yield a small file system."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def fill_disk(folder: Path) -> Iterator[None]:
    """Fill the disk during the block."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as out:
        for size in (65_536, 4_096, 512):
            try:
                while out.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    try:
        yield
    finally:
        ballast.unlink()


#: In CI, which has everything that the tests need, run it anyway.
needs_mount = pytest.mark.skipif(
    os.geteuid() != 0 and not os.environ.get("CI"), reason="only root can mount a small disk; the other tests need none"
)


@needs_mount
@fault("F11", everyday=(REDIS,), long=SERVED)
def test_full_disk_of_documents(site: Site, case: OpenCase) -> None:
    """The step is retried with a reason, no partial file stays, and it completes when there is space."""
    with mount_small_disk(site.folder / "artifacts-small", 1024) as disk, case() as one:
        # As few attempts as in production; each of these failures would count.
        site["worker"].start(artifacts_url=f"file:{disk}", step_max_attempts="5")
        exports = [one.accepted()]
        one.wait_until_finished(exports)
        with fill_disk(disk):
            exports.append(one.accepted())
            # The 1st, 2nd, 4th and 8th retry are logged: more than a step has attempts.
            site.wait_until(lambda: one.list_event_types().count("STEP_RETRIED") == 4, 300, "the step was not retried")
            view = one.client.inspect(exports[1])
            assert view is not None
            assert view["state"] == "executing"
            assert "artifact store" in view["status"]
        one.wait_until_finished(exports)
        assert one.list_states() == ["executed"] * 2
        site.store, before = disk, site.store
        one.check(again=exports)
        site.store = before


@needs_mount
@mark_own_stack("F12")
@pytest.mark.timeout(900)
def test_full_disk_of_the_database(
    parent: ForkServer, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """SQLite: requests get 503, no write is partial, and all continues when there is space."""
    with mount_small_disk(tmp_path / "disk", 8 * 1024) as disk:
        database = disk / "exports.db"
        stack = Stack(EMBEDDED, f"sqlite:///{database}", "memory://", f"file:{tmp_path / 'artifacts'}")
        migrated = Database(stack.database_url)
        upgrade_database(migrated)
        migrated.dispose()
        site = Site(stack, tmp_path, parent)
        try:
            with open_case(site, tmp_path, rows=("F12",), note=record_property) as one:
                exports = [one.accepted()]
                one.wait_until_finished(exports)
                with fill_disk(disk):
                    answer = one.client.execute(one.client.plan(units=8, lines=20))
                    assert answer is not None
                    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
                    assert one.client.inspect(exports[0]) is not None
                one.mark_repaired()
                exports.append(one.accepted())
                one.wait_until_finished(exports)
                assert one.list_states() == ["executed"] * 2
                one.check(again=exports[:1])
            with sqlite3.connect(database) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        finally:
            site.close()


# Partners


@fault("F20", everyday=(REDIS, EMBEDDED), long=STACKS)
def test_no_transaction_is_open_during_a_slow_delivery(site: Site, case: OpenCase) -> None:
    with case() as one:
        one.partner_stub.hold_seconds, one.partner_stub.open_transactions = 2, site.open_transactions
        site.start("worker")
        export_id = one.accepted()
        one.wait_until_finished([export_id])
        history = one.check()
        assert {receipt.open_transactions for receipt in history.receipts} == {0}


# The supervisor


@fault("F35", everyday=(RABBITMQ,), long=STACKS)
def test_worker_stopped_during_each_step(site: Site, case: OpenCase) -> None:
    """The current step completes, nothing begins twice, and the program ends in time."""
    with case() as one:
        exports = []
        for spec in STEPS:
            one.arm("worker", f"{spec.name}.mid=sleep:700", **LONG_LEASE)
            exports.append(one.accepted())
            site.wait_until(lambda point=f"{spec.name}.mid": point in one.count_fired(), 300, "the step did not begin")  # type: ignore[misc]
            assert site["worker"].end_with(SIGTERM, END_SECONDS) == 0
        site["worker"].start(**LONG_LEASE)
        one.wait_until_finished(exports)
        history = one.check(again=exports[-1:])
        assert {row["attempts"] for row in history.snapshot.tables["steps"]} == {1}
        assert one.partner_stub.count_repeats() == 0
        assert one.list_states() == ["executed"] * len(STEPS)


@fault("F35", everyday=(REDIS,), long=SERVED)
def test_workers_replaced_in_turn_under_load(site: Site, case: OpenCase) -> None:
    roles = ("worker", "worker-2", "worker-3")
    with case() as one:
        for role in roles:
            site[role].start(**LONG_LEASE)
        exports = [one.accepted(one.client.plan(units=2)) for _ in range(4)]
        for role in roles:
            site.wait_until(lambda role=role: site[role].handles_signals, 300, "the program did not start")  # type: ignore[misc]
            assert site[role].end_with(SIGTERM, END_SECONDS) == 0
            site[role].start_again()
        one.wait_until_finished(exports)
        history = one.check(again=exports[:1])
        assert {row["attempts"] for row in history.snapshot.tables["steps"]} == {1}
        assert one.partner_stub.count_repeats() == 0
        assert one.list_states() == ["executed"] * 4


# All workers


@contextmanager
def watch_readiness(site: Site, stalled_seconds: float) -> Iterator[None]:
    """Make the API report that it is not ready when due work has waited that long."""
    web = site["web"]
    web.kill()
    site.environment[short_timeouts.STALLED_AFTER] = f"{stalled_seconds:g}"
    try:
        site.start("web")
        yield
    finally:
        web.kill()
        del site.environment[short_timeouts.STALLED_AFTER]
        site.start("web")


def list_not_ready(site: Site) -> list[str]:
    """Return the parts that `/readyz` reports as not ready."""
    answer = httpx.get(f"{site.url}/readyz", timeout=30, trust_env=False)
    assert answer.status_code in {200, 503}
    return [part["name"] for part in answer.json().get("details", {}).get("parts", [])]


def measure_drain(one: Case, exports: list[str]) -> float:
    """Start a worker; return the seconds until it has done all waiting work."""
    began = time.monotonic()
    # Task messages that are sent again before workers can take them are additional load.
    one.site["worker"].start(stalled_seconds="5")
    one.wait_until_finished(exports)
    return time.monotonic() - began


def check_gone(site: Site, case: OpenCase, stalled_seconds: float) -> None:
    with case() as one, watch_readiness(site, stalled_seconds):
        before = [one.accepted() for _ in range(WAITING)]
        baseline = measure_drain(one, before)
        site["worker"].kill()
        assert list_not_ready(site) == []

        began = time.monotonic()
        exports = [one.accepted() for _ in range(WAITING)]
        site.wait_until(
            lambda: list_not_ready(site) == ["sweep", "steps"],
            stalled_seconds + LATE_SECONDS * measure_load(),
            "the API says it is ready",
        )
        red = time.monotonic() - began
        drained = measure_drain(one, exports)
        one.note(f"seconds until red, if work is stalled after {stalled_seconds:g} s", f"{red:.1f}")
        one.note(f"seconds to make {WAITING} exports, before and after", f"{baseline:.1f} {drained:.1f}")
        assert red >= stalled_seconds - 1
        assert drained <= SLOWDOWN * baseline * measure_load()
        site.wait_until(lambda: list_not_ready(site) == [], 300, "the API does not say that it is ready again")
        assert one.list_states() == ["executed"] * 2 * WAITING
        one.check(again=exports[:1])


@fault("F33", everyday=(RABBITMQ,), long=(REDIS,))
def test_all_workers_missing_and_back(site: Site, case: OpenCase) -> None:
    """Readiness reports it, and a worker then does the waiting work as fast as before."""
    check_gone(site, case, 6)


@fault("F33", everyday=(), long=SERVED)
def test_all_workers_missing_for_over_a_minute(site: Site, case: OpenCase) -> None:
    check_gone(site, case, readiness.STALLED_AFTER_SECONDS)
