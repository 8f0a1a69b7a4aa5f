"""The database is restarted, killed, locked or disconnected, even during a commit: an answer is true, or a 503."""

import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from signal import SIGQUIT

import psycopg
import pytest

from tests.support.ports import LOOPBACK
from tests.support.servers import PostgreSQL
from tests.system.faults.bounds import measure_load, share
from tests.system.faults.case import Case
from tests.system.faults.conftest import OpenCase
from tests.system.faults.matrix import EMBEDDED, RABBITMQ, REDIS, SERVED, fault
from tests.system.faults.proxy import proxy
from tests.system.faults.site import FAST_SETTINGS, Site

#: The longest request while the database does not answer: its settings' limits and time for a busy machine.
ANSWER_SECONDS = 30.0
TIMEOUT_SECONDS = float(FAST_SETTINGS["EXPORTS_DATABASE_TIMEOUT_SECONDS"])
AT_ONCE = 8
#: The longest of two hundred parallel requests. Each waits three seconds in all for a thread, a connection and locks,
#: and two processors must send two hundred refusals: three times the target.
CROWD_SECONDS = 3 * 5
#: Callers during the kills of the database.
CALLERS = 3


def postgres(site: Site) -> PostgreSQL:
    assert site.database is not None
    return site.database


def check_executed(one: Case, exports: list[str]) -> None:
    one.wait_until_finished(exports)
    assert one.list_states() == ["executed"] * len(exports)
    one.check(again=exports[:1])


def fast(server: PostgreSQL) -> None:
    server.stop()


def immediate(server: PostgreSQL) -> None:
    server.running().send_signal(SIGQUIT)
    server.running().wait(60)
    server.process = None


def killed(server: PostgreSQL) -> None:
    server.kill()


def check_restarted(site: Site, case: OpenCase, end: Callable[[PostgreSQL], None], times: int) -> None:
    server = postgres(site)
    with case() as one:
        # As few attempts as in production: an outage does not count as one.
        site["worker"].start(step_max_attempts="5")
        exports = [one.accepted(one.client.plan(units=2)) for _ in range(2)]
        for _ in range(times):
            end(server)
            try:
                answer = one.client.execute(one.client.plan())
                assert answer is not None
                assert (answer.status_code, answer.json()["errorCode"]) == (503, "NOT_READY")
                assert int(answer.headers["retry-after"]) > 0
                assert max(call.seconds for call in one.client.calls) < ANSWER_SECONDS
            finally:
                server.start()
            one.mark_repaired()
            exports.append(one.accepted())
        check_executed(one, exports)
        assert site.deaths == []


@fault("F9", everyday=(REDIS,), long=SERVED)
@pytest.mark.parametrize("end", [fast, immediate, killed])
def test_database_restarted_during_exports(site: Site, case: OpenCase, end: Callable[[PostgreSQL], None]) -> None:
    check_restarted(site, case, end, 1)


@fault("F9", everyday=(), long=SERVED)
def test_database_killed_twenty_times(site: Site, case: OpenCase) -> None:
    check_restarted(site, case, killed, 20)


def keep_asking(one: Case, ended: threading.Event) -> None:
    """Send plans one after another, each until accepted, also the last one."""
    while not ended.is_set():
        plan = one.client.plan()
        while (answer := one.client.execute(plan)) is None or answer.status_code != 202:
            assert answer is None or answer.status_code == 503, answer.text
            time.sleep(0.05)  # a caller that gets a 503 retries later


def check_killed_under_load(site: Site, case: OpenCase, kills: int) -> None:
    server = postgres(site)
    with case() as one:
        # Task messages that are sent again before workers can take them are additional load.
        site["worker"].start(stalled_seconds="10")
        ended = threading.Event()

        def accepted() -> set[str]:
            calls = [*one.client.calls]
            return {str(call.export_id) for call in calls if call.method == "POST" and call.status == 202}

        with ThreadPoolExecutor(CALLERS) as threads:
            callers = [threads.submit(keep_asking, one, ended) for _ in range(CALLERS)]
            try:
                for _ in range(kills):
                    before = accepted()
                    site.wait_until(lambda these=before: accepted() - these, 120, "no plan is accepted")  # type: ignore[misc]
                    server.kill()
                    server.start()
            finally:
                ended.set()
        for caller in callers:
            caller.result()
        interrupted = [call for call in one.client.calls if call.method == "POST" and call.status in {None, 503}]
        assert len(interrupted) >= kills, "no kill met a request"
        exports = sorted(accepted())
        one.note(f"exports accepted around {kills} kills", len(exports))
        check_executed(one, exports)
        assert len(one.list_states()) == len(exports)
        assert site.deaths == []


@fault("F40", everyday=(REDIS,), long=(RABBITMQ,), on="durable_site")
def test_database_killed_five_times_under_requests(durable_site: Site, case: OpenCase) -> None:
    """Every 202 has its export, whatever was in progress when the database was killed."""
    check_killed_under_load(durable_site, case, 5)


@fault("F40", everyday=(), long=SERVED, on="durable_site")
def test_database_killed_twenty_times_under_requests(durable_site: Site, case: OpenCase) -> None:
    check_killed_under_load(durable_site, case, 20)


def terminate(site: Site) -> int:
    """End every connection to the site's database; return their number."""
    name = site.stack.database_url.rsplit("/", 1)[1]
    with postgres(site).connection() as connection:
        ended = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s", (name,)
        ).fetchone()
    return 0 if ended is None else int(ended[0])


@fault("F10", everyday=(RABBITMQ,), long=SERVED)
@pytest.mark.parametrize("point", ["record_packages.mid", "hand_off.mid", "delivery.mid"])
def test_connection_ended_within_a_transaction(site: Site, case: OpenCase, point: str) -> None:
    with case() as one:
        opened = one.marks / "open"
        one.arm("worker", f"{point}=barrier:{opened}")
        export_id = one.accepted()
        site.wait_until(lambda: point in one.count_fired(), 300, "the failpoint was not reached")
        assert terminate(site) > 0
        opened.touch()
        check_executed(one, [export_id])
        assert site.deaths == []


@fault("F10", everyday=(REDIS,), long=SERVED)
def test_connection_cut_in_every_commit(site: Site, case: OpenCase) -> None:
    """The commit arrives and its answer does not: a repeated request finds the rows, and does not write them twice."""
    port = postgres(site).port
    with proxy(port) as between, case() as one:
        url = site.stack.database_url.replace(f"{LOOPBACK}:{port}", f"{LOOPBACK}:{between.port}")
        for role in ("web", "worker"):
            site[role].kill()
            site[role].start(database_url=url)
        exports = [one.accepted()]
        between.cuts, between.cuts_left, between.cut_on = 0, 12, b"COMMIT"
        exports += [one.accepted() for _ in range(2)]
        one.wait_until_finished(exports)
        assert between.cuts == 12
        check_executed(one, exports)


@fault("F10", everyday=(REDIS,), long=SERVED)
def test_unanswered_commit_of_an_acceptance_is_found_by_its_key(site: Site, case: OpenCase) -> None:
    port = postgres(site).port
    with proxy(port) as between, case() as one:
        site["web"].kill()
        site["web"].start(
            database_url=site.stack.database_url.replace(f"{LOOPBACK}:{port}", f"{LOOPBACK}:{between.port}")
        )
        exports = [one.accepted()]
        between.cut_on, between.cuts_left = b"COMMIT", 1_000
        plan = one.client.plan()
        first = one.client.execute(plan)
        assert first is None or first.status_code == 503
        assert between.cuts > 0
        between.cut_on = None
        exports.append(one.accepted(plan))
        assert one.list_states() == ["accepted"] * 2
        site.start("worker")
        check_executed(one, exports)


@fault("F13", everyday=(EMBEDDED,))
def test_sqlite_locked_by_another_writer(site: Site, case: OpenCase) -> None:
    with case() as one:
        exports = [one.accepted(one.client.plan(units=2)) for _ in range(2)]
        other = sqlite3.connect(site.folder / "exports.db", isolation_level=None, timeout=60)
        other.execute("BEGIN IMMEDIATE")
        try:
            plans = [one.client.plan() for _ in range(AT_ONCE)]
            with ThreadPoolExecutor(AT_ONCE) as threads:
                answers = list(threads.map(one.client.execute, plans))
            later = [answer and (answer.status_code, answer.headers["retry-after"]) for answer in answers]
            assert later == [(503, "2")] * AT_ONCE
            slowest = max(call.seconds for call in one.client.calls[-AT_ONCE:])
            # In sequence, the last request would wait AT_ONCE times as long on any machine.
            assert slowest < (AT_ONCE - 1) * TIMEOUT_SECONDS, "the requests waited in sequence"
            assert one.client.inspect(exports[0]) is not None, "a writer blocked a reader"
        finally:
            other.execute("ROLLBACK")
            other.close()
        exports.append(one.accepted())
        check_executed(one, exports)
        assert site.deaths == []


@fault("F41", everyday=(RABBITMQ,), long=SERVED)
def test_two_hundred_requests_on_an_exhausted_pool(site: Site, case: OpenCase) -> None:
    with case() as one:
        site["web"].kill()
        site["web"].start(database_pool="2")
        first = one.accepted()
        plans, before = [one.client.plan() for _ in range(4)], len(one.client.calls)
        locked, released = threading.Event(), threading.Event()

        def lock() -> None:
            with psycopg.connect(site.stack.database_url.replace("+psycopg", "")) as connection:
                connection.execute("LOCK TABLE exports IN SHARE ROW EXCLUSIVE MODE")
                locked.set()
                assert released.wait(300)

        with ThreadPoolExecutor(201) as threads:
            holder = threads.submit(lock)
            assert locked.wait(60)
            try:
                answers = list(threads.map(one.client.execute, plans * 50))
            finally:
                released.set()
            holder.result(60)
        seconds = [call.seconds for call in one.client.calls[before:]]
        half, most = share(seconds, 0.5), share(seconds, 0.99)
        one.note("200 requests at once: p50 and p99 in seconds", f"{half:.2f} {most:.2f}")
        assert most <= CROWD_SECONDS * measure_load()
        assert {None if answer is None else answer.status_code for answer in answers} <= {409, 429, 503}
        assert 503 in {answer.status_code for answer in answers if answer is not None}
        exports = [first, *(one.accepted(plan) for plan in plans)]
        site.start("worker")
        check_executed(one, exports)
