"""Tests of database sessions: snapshots, timeouts, deadlines and forks."""

import os
import secrets
import socket
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from pipeline.core import deadline
from pipeline.core.db import Database
from pipeline.core.errors import DatabaseBusy
from tests.support.interpreter import run_interpreter
from tests.support.servers import PostgreSQL

pytestmark = pytest.mark.databases


def test_reader_sees_one_snapshot_while_others_write(bare_database_url: str) -> None:
    database = Database(bare_database_url)
    count = text("SELECT count(*) FROM things")
    with database.write() as session:
        session.execute(text("CREATE TABLE things (number INTEGER)"))
    with database.read() as reader:
        assert reader.scalar(count) == 0
        with database.write() as writer:
            writer.execute(text("INSERT INTO things VALUES (1)"))
        assert reader.scalar(count) == 0
    with database.read() as reader:
        assert reader.scalar(count) == 1
    database.dispose()


def test_database_error_hides_parameters(bare_database_url: str) -> None:
    database = Database(bare_database_url)
    for options in ({"reads": True}, {"writes": True}):
        with pytest.raises(DBAPIError) as failed, database.engine.execution_options(**options).begin() as connection:
            connection.execute(text("SELECT :price FROM nowhere"), {"price": "canary"})
        assert "nowhere" in str(failed.value)
        assert "canary" not in str(failed.value)
    database.dispose()


@pytest.mark.servers
@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no TCP_USER_TIMEOUT")
def test_dead_connection_has_socket_timeouts(postgres_server: PostgreSQL) -> None:
    """A lost machine sends nothing at all: without timeouts a worker would wait for it forever."""
    database = Database(postgres_server.fresh_url(), timeout_seconds=8)
    with database.engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        with socket.socket(fileno=os.dup(driver.fileno())) as wire:
            found = {
                name: wire.getsockopt(level, getattr(socket, name))
                for level, name in (
                    (socket.SOL_SOCKET, "SO_KEEPALIVE"),
                    (socket.IPPROTO_TCP, "TCP_KEEPIDLE"),
                    (socket.IPPROTO_TCP, "TCP_KEEPINTVL"),
                    (socket.IPPROTO_TCP, "TCP_KEEPCNT"),
                    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT"),
                )
            }
    assert found == {
        "SO_KEEPALIVE": 1,
        "TCP_KEEPIDLE": 8,
        "TCP_KEEPINTVL": 2,
        "TCP_KEEPCNT": 4,
        "TCP_USER_TIMEOUT": 24_000,
    }
    database.dispose()


def test_deadline_bounds_waits_for_locks_and_connections(bare_database_url: str) -> None:
    """A request's deadline is shorter than the database's timeout; it does not affect the next request."""
    other, database = Database(bare_database_url), Database(bare_database_url, pool=1, timeout_seconds=60)
    change = text("UPDATE things SET number = number + 1")
    with other.write() as session:
        session.execute(text("CREATE TABLE things (number INTEGER)"))
        session.execute(text("INSERT INTO things VALUES (1)"))

    def pass_small_deadline() -> float:
        deadline.set_deadline(0.1)
        began = time.monotonic()
        with pytest.raises(DatabaseBusy, match=r"did not answer|kept the database busy"), database.write() as late:
            late.execute(change)
        return time.monotonic() - began

    with other.write() as session:
        session.execute(change)
        assert copy_context().run(pass_small_deadline) < 20, "a lock"
    with ExitStack() as sessions:
        for _ in range(1 if database.is_sqlite else 2):
            sessions.enter_context(database.write())
        assert copy_context().run(pass_small_deadline) < 20, "a connection"
    with database.write() as session:
        assert session.scalar(text("SELECT number FROM things")) == 2
        session.execute(change)
    for each in (other, database):
        each.dispose()


def test_passed_deadline_still_takes_a_free_connection(bare_database_url: str) -> None:
    """A plan is stored even if its body took long to read."""
    database = Database(bare_database_url)

    def late() -> None:
        deadline.set_deadline(0)
        with database.write() as session:
            session.execute(text("CREATE TABLE things (number INTEGER)"))
        with database.read() as session:
            assert session.scalar(text("SELECT count(*) FROM things")) == 0

    copy_context().run(late)
    database.dispose()


TIMEOUT_SECONDS: Final = 2.0


@contextmanager
def hold_write_lock(path: Path) -> Iterator[None]:
    """Hold SQLite's write lock, as another process would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.parametrize("apart_seconds", [0, 0.1])
def test_several_waiting_writers_wait_at_most_the_timeout(tmp_path: Path, apart_seconds: float) -> None:
    """The waits of several writers do not add up, nor do the waits for the semaphore and for SQLite."""
    database = Database(f"sqlite:///{tmp_path / 'exports.db'}", timeout_seconds=TIMEOUT_SECONDS)
    with database.write() as session:
        session.execute(text("CREATE TABLE things (number INTEGER)"))

    def write(number: int) -> None:
        with database.write() as session:
            assert session.scalar(text("PRAGMA busy_timeout")) == TIMEOUT_SECONDS * 1000, (
                "the next statements must have the full timeout"
            )
            session.execute(text("INSERT INTO things VALUES (:number)"), {"number": number})

    def waited(number: int) -> float:
        time.sleep(number * apart_seconds)
        began = time.monotonic()
        with pytest.raises(DatabaseBusy, match=r"did not answer|kept the database busy"):
            write(number)
        return time.monotonic() - began

    with ThreadPoolExecutor(5) as threads:
        with hold_write_lock(tmp_path / "exports.db"):
            waits = list(threads.map(waited, range(5)))
        assert min(waits) > TIMEOUT_SECONDS * 0.9
        assert max(waits) < TIMEOUT_SECONDS * 1.9
        list(threads.map(write, range(5)))
    with database.read() as session:
        assert session.scalars(text("SELECT number FROM things ORDER BY number")).all() == [*range(5)]
    database.dispose()


def test_commit_on_sqlite_survives_a_power_cut(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/exports.db")
    with database.write() as session:
        # SQLite's number of FULL is 2.
        found = [session.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "foreign_keys")]
    assert found == ["wal", 2, 1]
    database.dispose()


def test_nested_writer_raises_database_busy() -> None:
    database = Database("sqlite://", timeout_seconds=0.1)
    with database.write() as session:
        session.execute(text("CREATE TABLE things (number INTEGER)"))
        with pytest.raises(DatabaseBusy), database.write():
            pass
    with database.write() as session:
        session.execute(text("INSERT INTO things VALUES (1)"))
    database.dispose()


FORKS: Final = """
import os
from sqlalchemy import text
from pipeline.core.runtime import process_runtime

database = process_runtime().db

def connection():
    with database.write() as session:
        session.execute(text("SELECT 1"))
        return session.connection().connection.dbapi_connection

before = connection()
assert connection() is before, "the connection must be kept"
if database.is_sqlite:
    database._semaphore.acquire(0)  # another thread of the parent may hold it at the fork
pid = os.fork()
if not pid:
    os._exit(connection() is before)
assert os.waitpid(pid, 0)[1] == 0, "the child used its parent's connection"
if database.is_sqlite:
    database._semaphore.release()
assert connection() is before, "the child closed its parent's connection"
"""


@pytest.mark.system
def test_forked_child_does_not_use_its_parents_connections(database_url: str) -> None:
    ended = run_interpreter(FORKS, EXPORTS_DATABASE_URL=database_url, EXPORTS_SECRET_KEY=secrets.token_hex())
    assert (ended.returncode, ended.stderr) == (0, "")
