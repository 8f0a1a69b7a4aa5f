"""The statements that a database receives, and their query plans."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from pipeline.core.db import Database


@contextmanager
def record_statements(database: Database) -> Iterator[list[str]]:
    """Yield the statements sent to the database during the block; a statement with many rows counts once."""
    statements: list[str] = []

    def record_statement(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    with _listen_first(database, record_statement):
        yield statements


@contextmanager
def record_plans(database: Database) -> Iterator[list[str]]:
    """Yield the query plans, line by line. They use an index if possible; with few rows the planner would not."""
    plans: list[str] = []

    def explain(_: Any, cursor: Any, statement: str, parameters: Any, *__: Any) -> None:
        if not statement.startswith(("UPDATE", "SELECT")):
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
    postgresql = rf"\b{index}\b.*\n +Index Cond: .*\b{column} {bound} "
    return re.search(f"{sqlite}|{postgresql}", "\n".join(plans)) is not None
