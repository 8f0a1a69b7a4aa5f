"""Connections to PostgreSQL that the server has ended are replaced before their next use."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from pipeline.core import db_engines
from pipeline.core.db import Database
from tests.conftest import OwnServer
from tests.support.servers import PostgreSQL


@pytest.fixture
def pings(monkeypatch: pytest.MonkeyPatch, postgres_server: PostgreSQL) -> Iterator[tuple[Database, list[object]]]:
    """A database on PostgreSQL, and the pings that it sends."""
    database, sent = Database(postgres_server.fresh_url()), list[object]()
    ping = database.engine.dialect.do_ping

    def count_ping(connection: object) -> bool:
        sent.append(connection)
        return ping(connection)  # type: ignore[arg-type]  # the driver's connection

    monkeypatch.setattr(database.engine.dialect, "do_ping", count_ping)
    yield database, sent
    database.dispose()


def process_id(database: Database) -> int:
    """Return the server's process of the connection that a reader gets."""
    with database.read() as session:
        return int(session.execute(text("SELECT pg_backend_pid()")).scalar_one())


def test_connection_just_used_is_not_pinged(
    pings: tuple[Database, list[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, sent = pings
    first = process_id(database)
    assert process_id(database) == first
    assert sent == []
    monkeypatch.setattr(db_engines, "_TRUSTED_SECONDS", 0)
    assert process_id(database) == first
    assert len(sent) == 1


def test_connection_ended_by_the_server_is_replaced(
    pings: tuple[Database, list[object]], postgres_server: PostgreSQL
) -> None:
    database, sent = pings
    first = process_id(database)
    with postgres_server.connection() as administrator:
        administrator.execute("SELECT pg_terminate_backend(%s, 10000)", [first])
    assert process_id(database) != first
    assert len(sent) == 1


def test_default_isolation_of_the_server_changes_no_transaction(postgres_server: PostgreSQL) -> None:
    url = postgres_server.fresh_url()
    with postgres_server.connection() as administrator:
        name = url.rsplit("/", 1)[1]
        administrator.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = serializable".encode())
    database = Database(url)
    for open_session, level in ((database.read, "repeatable read"), (database.write, "read committed")):
        with open_session() as session:
            assert session.scalar(text("SHOW transaction_isolation")) == level
    database.dispose()


@pytest.mark.parametrize("trusted_seconds", [0, 3600])
@pytest.mark.system
def test_restarted_server_is_used_again_at_once(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch, trusted_seconds: int
) -> None:
    monkeypatch.setattr(db_engines, "_TRUSTED_SECONDS", trusted_seconds)
    server = own_server(PostgreSQL)
    database = Database(server.url)
    process_id(database)
    server.kill()
    server.start()
    process_id(database)
    database.dispose()
