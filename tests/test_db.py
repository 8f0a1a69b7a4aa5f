"""What the database promises to those who read it."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from pipeline.db import Database


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
