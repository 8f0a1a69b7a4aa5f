"""What the database promises to those who read it."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from pipeline.db import Database

ROOT: Final = Path(__file__).resolve().parents[1]


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


def test_an_error_does_not_say_what_was_bound(bare_database_url: str) -> None:
    database = Database(bare_database_url)
    for options in ({"reads": True}, {"writes": True}):
        with pytest.raises(DBAPIError) as failed, database.engine.execution_options(**options).begin() as connection:
            connection.execute(text("SELECT :price FROM nowhere"), {"price": "canary"})
        assert "nowhere" in str(failed.value)
        assert "canary" not in str(failed.value)
    database.dispose()


FORKS: Final = """
import os
from sqlalchemy import text
from pipeline.runtime import process_runtime

database = process_runtime().db

def connection():
    with database.write() as session:
        session.execute(text("SELECT 1"))
        return session.connection().connection.dbapi_connection

before = connection()
assert connection() is before, "a connection is kept"
if database.is_sqlite:
    database._writer.acquire()  # as another thread of the parent may have it
pid = os.fork()
if not pid:
    os._exit(connection() is before)
assert os.waitpid(pid, 0)[1] == 0, "the child used its parent's connection"
if database.is_sqlite:
    database._writer.release()
assert connection() is before, "the child closed its parent's connection"
"""


def test_child_of_a_worker_pool_uses_no_connection_of_its_parent(database_url: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FORKS],
        env={
            "PYTHONPATH": str(ROOT),
            "EXPORTS_DATABASE_URL": database_url,
            "EXPORTS_SECRET_KEY": secrets.token_hex(),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
