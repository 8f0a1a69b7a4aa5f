"""Copies one export many times inside PostgreSQL; the copies have other ids and, if asked, older times."""

from collections.abc import Mapping
from typing import Any, Final

import psycopg
from psycopg import sql

#: table -> its column that leads to the export, and its columns that must differ from copy to copy.
STORED_TABLES: Final = {
    "plans": ("id", ("id", "batch_id")),
    "exports": ("id", ("id", "batch_id", "plan_id")),
    "units": ("export_id", ("export_id", "customs_package_id", "package_number", "control_number_key")),
    "steps": ("export_id", ("export_id",)),
    "broker_submissions": ("export_id", ("id", "export_id")),
    "acknowledgements": ("submission_id", ("submission_id",)),
    "entries": ("submission_id", ("submission_id",)),
    "notifications": ("export_id", ("id", "export_id")),
    "deliveries": ("subject_id", ("id", "notification_id", "subject_id")),
    "idempotency_records": ("export_id", ("key", "export_id")),
}
_CHUNK: Final = 50_000
_DIGITS: Final = 8
#: Where the rows of one export are found; `plans` does not name it.
_SOURCES: Final = {
    "id": "SELECT plan_id FROM exports WHERE id = %(export_id)s UNION ALL SELECT %(export_id)s",
    "export_id": "SELECT %(export_id)s::text",
    "subject_id": "SELECT %(export_id)s::text",
    "submission_id": "SELECT id FROM broker_submissions WHERE export_id = %(export_id)s",
}


def copy_id(id_: str, number: int) -> str:
    """Return the id that the copy with that number has in place of `id_`."""
    return f"{id_[:-_DIGITS]}{number:0{_DIGITS}d}"


def copy_export(
    connection: psycopg.Connection[Any],
    export_id: str,
    count: int,
    *,
    changes: Mapping[str, str] = {},
    seconds_apart: int = 0,
) -> None:
    """Add `count` copies, numbered from 1, the last one the newest.

    `changes` maps `table.column`, or `column` of all tables, to an SQL expression of the copy's number `n`. Text columns
    that nothing measured reads can be emptied so. The secondary indexes are built afterwards, which takes less time.
    """
    age = f"make_interval(secs => {seconds_apart} * ({count} - n))"
    connection.execute("SET session_replication_role = replica")  # no check of foreign keys: the copies are whole
    for table, (owner, ids) in STORED_TABLES.items():
        columns = connection.execute(
            "SELECT column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = 'public' AND table_name = %s ORDER BY ordinal_position",
            [table],
        ).fetchall()
        chosen = []
        for name, kind in columns:
            change = changes.get(f"{table}.{name}") or changes.get(name)
            if change:
                chosen.append(change)
            elif name in ids:
                chosen.append(f"left({name}, -{_DIGITS}) || lpad(n::text, {_DIGITS}, '0')")
            elif kind.startswith("timestamp"):
                chosen.append(f"{name} - {age}")
            else:
                chosen.append(name)
        names = ", ".join(name for name, _ in columns)
        copying = (
            f"INSERT INTO {table} ({names}) SELECT {', '.join(chosen)} FROM {table}"  # noqa: S608 - our own names
            f" CROSS JOIN generate_series(%(first)s::int, %(last)s::int) n WHERE {owner} IN ({_SOURCES[owner]})"
        )
        indexes = _drop_indexes(connection, table) if count > _CHUNK else []
        for first in range(1, count + 1, _CHUNK):
            last = min(first + _CHUNK - 1, count)
            connection.execute(copying.encode(), {"export_id": export_id, "first": first, "last": last})
        for definition in indexes:
            connection.execute(definition.encode())
    connection.execute("SET session_replication_role = origin")
    connection.execute("VACUUM ANALYZE")


def _drop_indexes(connection: psycopg.Connection[Any], table: str) -> list[str]:
    """Drop the indexes that belong to no constraint; return their definitions."""
    found = connection.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid = %s::regclass AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)",
        [table],
    ).fetchall()
    for name, *_ in found:
        connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
    return [str(row[1]) for row in found]
