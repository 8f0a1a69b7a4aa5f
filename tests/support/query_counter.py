"""The statements that a database receives, and their query plans."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import psycopg
from sqlalchemy import Connection, event

from pipeline.core.db import Database


@contextmanager
def record_statements(database: Database) -> Iterator[list[str]]:
    """Yield the statements sent to the database during the block; a statement with many rows counts once."""
    statements: list[str] = []

    def record_statement(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    with _listen_first(database, record_statement):
        yield statements


@dataclass
class Traffic:
    """What a database was asked: statements without BEGIN, transactions, and the commits of those that write.

    `waits` counts how often psycopg waited for PostgreSQL's answer; on SQLite it is 0.
    """

    statements: int = 0
    transactions: int = 0
    commits: int = 0
    waits: int = 0


@contextmanager
def count_traffic(database: Database) -> Iterator[Traffic]:
    """Yield the traffic of the block, by all threads; the counts are final at its end."""
    traffic = Traffic()
    wait = psycopg.Connection.wait

    def count_wait(self: Any, steps: Any, *given: Any, **named: Any) -> Any:
        return wait(self, watch(steps), *given, **named)

    def watch(steps: Any) -> Any:
        # A pipeline of many rows takes three calls, and only one of them waits.
        waited, ready = False, None
        while True:
            try:
                wanted = steps.send(ready)
            except StopIteration as end:
                traffic.waits += waited
                return end.value
            waited = True
            ready = yield wanted

    def count_commit(connection: Connection) -> None:
        # A reader's COMMIT writes nothing.
        traffic.commits += bool(connection.get_execution_options().get("writes"))

    event.listen(database.engine, "commit", count_commit)
    with record_statements(database) as statements, patch.object(psycopg.Connection, "wait", count_wait):
        yield traffic
    event.remove(database.engine, "commit", count_commit)
    traffic.transactions = sum(statement.startswith("BEGIN") for statement in statements)
    traffic.statements = len(statements) - traffic.transactions


@contextmanager
def count_reads(database: Database) -> Iterator[list[int]]:
    """Yield how many rows each SELECT of the block finds, by the order of the statements."""
    rows: list[int] = []

    def count_rows(_: Any, cursor: Any, statement: str, parameters: Any, *__: Any) -> None:
        if statement.startswith("SELECT"):
            counting = cursor.connection.cursor()
            counting.execute(f"SELECT count(*) FROM ({statement}) AS found", parameters)  # noqa: S608 - our own text
            rows.append(counting.fetchone()[0])

    with _listen_first(database, count_rows):
        yield rows


@contextmanager
def record_plans(database: Database) -> Iterator[list[str]]:
    """Yield the query plans, line by line. They use an index if possible; with few rows the planner would not."""
    plans: list[str] = []

    def explain(_: Any, cursor: Any, statement: str, parameters: Any, *__: Any) -> None:
        if not statement.startswith(("UPDATE", "SELECT", "WITH")):
            return
        explain_cursor = cursor.connection.cursor()
        if not database.is_sqlite:
            explain_cursor.execute("SET LOCAL enable_seqscan = off")
        explain_cursor.execute(f"EXPLAIN {'QUERY PLAN' if database.is_sqlite else ''} {statement}", parameters)
        plans.extend(str(row[-1]) for row in explain_cursor.fetchall())

    with _listen_first(database, explain):
        yield plans


@contextmanager
def _listen_first(database: Database, listener: Callable[..., None]) -> Iterator[None]:
    event.listen(database.engine, "before_cursor_execute", listener)
    try:
        yield
    finally:
        event.remove(database.engine, "before_cursor_execute", listener)


def searches(plans: Sequence[str], index: str, border: str) -> bool:
    """Return whether an index is searched from or to a limit (`due_at <=`), and not read as a whole."""
    column, bound = border.split()
    sqlite = rf"INDEX {index} \(.*{column}{bound[0]}\?"
    postgresql = rf"\b{index}\b.*\n +Index Cond: .*\b{column}(?:\)::text)? {bound} "
    return re.search(f"{sqlite}|{postgresql}", "\n".join(plans)) is not None
