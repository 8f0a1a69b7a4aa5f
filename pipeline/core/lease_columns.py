"""Conditions on the rows that workers lease: steps and deliveries, which have the same four columns for it.

`lease_until` is only a claim: a worker holds the row until then. `due_at` is when a sweep looks at the row next. Of a
row with an error that no sweep has found since (`stalled_since`), it is the time of the next attempt.

No lease ends later than `lease_seconds` from now. One that does was written before the database's clock was set back,
and holds nothing. Readers that have no such limit leave it out: the next sweep ends that lease.
"""

from typing import Any, Final

from sqlalchemy import BindParameter, ColumnElement, and_, bindparam, or_

from pipeline.core.db import database_now

#: The parameter of frequent statements for the setting `lease_seconds`.
LEASE_SECONDS: Final[BindParameter[Any]] = bindparam("lease_seconds")

LeaseSeconds = float | ColumnElement[Any] | None


def is_free(row: Any, lease_seconds: LeaseSeconds = None) -> ColumnElement[bool]:
    """Return the condition that no worker holds the row."""
    until = row.lease_until
    is_over = or_(until.is_(None), until <= database_now())
    return is_over if lease_seconds is None else or_(is_over, until > database_now(lease_seconds))


def is_blocked(row: Any, lease_seconds: LeaseSeconds = None, *, seconds: float = 0) -> ColumnElement[bool]:
    """Return the condition that a worker holds the row, or that it waits for its next attempt.

    It stays true of a row for `seconds` after that ended, if nothing has happened to the row since.
    """
    is_held = row.lease_until > database_now(-seconds)
    if lease_seconds is not None:
        is_held = and_(is_held, row.lease_until <= database_now(lease_seconds))
    return or_(is_held, waits_for_retry(row, seconds=seconds))


def waits_for_retry(row: Any, *, seconds: float = 0) -> ColumnElement[bool]:
    """Return the condition that the row's last attempt failed and that its next one is later, or not `seconds` ago."""
    return and_(
        row.error.is_not(None),
        row.lease_until.is_(None),
        row.stalled_since.is_(None),
        row.due_at > database_now(-seconds),
    )
