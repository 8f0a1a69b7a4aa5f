"""PostgreSQL's disk is full: requests get 503, no write is partial, and all continues when there is space."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import psycopg
import pytest

from pipeline.core.db import Database
from pipeline.ops.migrations.runner import upgrade_database
from tests.conftest import SERVERS, OwnServer, Stack
from tests.support.fork_server import ForkServer
from tests.support.servers import ForeignServer, PostgreSQL, Redis, poll
from tests.system.faults.case import Case, open_case
from tests.system.faults.client import export_id_of
from tests.system.faults.matrix import REDIS, mark_own_stack
from tests.system.faults.site import Site
from tests.system.faults.test_limits import fill_disk, mount_small_disk, needs_mount

#: Space for a cluster, our database and some exports.
POSTGRES_KILOBYTES: Final = 160 * 1024
#: From the time when there is space and PostgreSQL runs until all work is done, on a busy machine.
RECOVERY_SECONDS: Final = 90.0


class SmallPostgreSQL(PostgreSQL):
    """A PostgreSQL with a short write-ahead log, to fit its disk."""

    def command(self) -> list[str]:
        settings = {"max_wal_size": "32MB", "min_wal_size": "32MB", "autovacuum": "off"}
        return [*super().command(), *(part for key, value in settings.items() for part in ("-c", f"{key}={value}"))]


@needs_mount
@SERVERS
@mark_own_stack("F12")
@pytest.mark.timeout(900)
def test_full_disk_of_postgresql(parent: ForkServer, own_server: OwnServer, tmp_path: Path) -> None:
    """First its tables cannot grow; then its log cannot, and it ends. All accepted exports are there."""
    server = SmallPostgreSQL()
    try:
        with mount_small_disk(server.folder / "data", POSTGRES_KILOBYTES) as disk:
            server.own(disk)
            server.start()
            stack = Stack(REDIS, server.fresh_url(), own_server(Redis).fresh_url(), f"file:{tmp_path / 'artifacts'}")
            migrated = Database(stack.database_url)
            upgrade_database(migrated)
            migrated.dispose()
            site = Site(stack, tmp_path, parent, database=server)
            try:
                with open_case(site, tmp_path) as one:
                    check_no_room_for(server, disk, one)
            finally:
                site.close()
                if server.process is not None:
                    server.stop()
    finally:
        server.close()


def check_no_room_for(server: PostgreSQL, disk: Path, one: Case) -> None:
    one.site.start("steps", "deliveries")
    exports = [one.accepted()]
    one.wait_until_finished(exports)
    under_way = [one.accepted(one.client.plan(units=4, lines=20)) for _ in range(2)]
    exports += under_way
    with fill_disk(disk):
        exports += accepted_until_full(server, one)
        assert one.client.inspect(exports[0]) is not None, "a read failed"
        fill_log(server)
        answer = one.client.execute(one.client.plan())
        assert answer is not None
        assert (answer.status_code, answer.json()["errorCode"]) == (503, "NOT_READY")
    poll(lambda: is_running_again(server), 60, "PostgreSQL does not recover")
    began = time.monotonic()
    exports.append(one.accepted())
    one.wait_until_finished(exports, RECOVERY_SECONDS)
    assert time.monotonic() - began < RECOVERY_SECONDS
    assert one.list_states() == ["executed"] * len(exports)
    assert one.site.deaths == []
    one.check(again=exports[-1:])


def accepted_until_full(server: PostgreSQL, one: Case) -> list[str]:
    """Send plans until the tables have no space; return the accepted exports."""
    exports: list[str] = []
    while "could not extend file" not in log(server):
        answer = one.client.execute(one.client.plan(units=8, lines=20))
        assert answer is not None
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) > 0
        else:
            exports.append(export_id_of(answer))
        assert len(exports) < 200, "the disk is not full"
    return exports


def fill_log(server: PostgreSQL) -> None:
    """Make PostgreSQL switch log files until it has no space and ends."""

    def ended() -> bool:
        try:
            with server.connection() as connection:
                connection.execute("SELECT pg_switch_wal(), pg_logical_emit_message(false, '', repeat('x', 1000))")
        except psycopg.OperationalError:
            return True
        return False

    poll(ended, 120, "the log still has space")
    assert "PANIC" in log(server)


def is_running_again(server: PostgreSQL) -> bool:
    """Return whether it answers; start it again if it could not even recover."""
    if server.running().poll() is not None:
        server.process = None
        server.start()
    with suppress(RuntimeError, ForeignServer):  # it may end at this moment
        return server.listens_and_answers()
    return False


def log(server: PostgreSQL) -> str:
    """Return its whole log, which is on another disk than its data."""
    return (server.folder / "log").read_text(errors="replace")
