"""What is asked of a database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from pipeline.core.db import Database


@contextmanager
def record_statements(database: Database) -> Iterator[list[str]]:
    """Give the statements that are sent to the database while the block runs; many rows in one statement are one."""
    heard: list[str] = []

    def record_statement(_: Any, __: Any, statement: str, *___: Any) -> None:
        heard.append(statement)

    with _listen_first(database, record_statement):
        yield heard


@contextmanager
def record_plans(database: Database) -> Iterator[list[str]]:
    """Give how each statement is carried out, line by line, by an index wherever one can be: with few rows none would be."""
    plans: list[str] = []

    def explain(_: Any, cursor: Any, statement: str, parameters: Any, *__: Any) -> None:
        if not statement.startswith(("UPDATE", "SELECT")):
            return
        asks = cursor.connection.cursor()
        if not database.is_sqlite:
            asks.execute("SET LOCAL enable_seqscan = off")
        asks.execute(f"EXPLAIN {'QUERY PLAN' if database.is_sqlite else ''} {statement}", parameters)
        plans.extend(str(row[-1]) for row in asks.fetchall())

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
    """Tell whether an index is searched from or to a border (`due_at <=`), and not read whole."""
    column, bound = border.split()
    sqlite = rf"INDEX {index} \(.*{column}{bound[0]}\?"
    postgresql = rf"\b{index}\b.*\n +Index Cond: .*\b{column} {bound} "
    return re.search(f"{sqlite}|{postgresql}", "\n".join(plans)) is not None
