"""Pages of a list, newest first: each is read by an index, and begins after the last row of the page before."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, SQLColumnExpression, true, tuple_
from sqlmodel import Session

from pipeline.core.errors import ValidationFailed
from pipeline.core.json_input import validation_failed
from pipeline.core.problems import Issue

Item = TypeVar("Item")


@dataclass(frozen=True)
class Page(Generic[Item]):
    """A page of a list; `next_cursor` is the id of its last item, or None if no item follows."""

    items: Sequence[Item]
    next_cursor: str | None


def unknown_cursor(of: str = "a list") -> ValidationFailed:
    """Return the error for a cursor that no page of the list gave."""
    message = f"is not a cursor of {of}; leave it out to begin with the newest"
    return validation_failed([Issue(path="/query/cursor", message=message, code="cursor")])


def read_page(
    session: Session,
    query: Select[*tuple[Any, ...]],
    order: Sequence[SQLColumnExpression[Any]],
    build: Callable[..., Item],
    *,
    after: str | None,
    limit: int,
    wanted: ColumnElement[bool] | None = None,
) -> Page[Item]:
    """Return at most `limit` items of the query that are `wanted`, built from its rows, after the one with the id `after`.

    The query selects all rows that the reader may see. An index has the columns of `order`; the last one is the id.
    Raises ValidationFailed if the query has no row with the id `after`.
    """
    page = query.add_columns(order[-1].label("cursor")).where(true() if wanted is None else wanted)
    if after is not None:
        # The row gives the border, though it may have left the wanted ones since. PostgreSQL refuses a NUL in a text.
        border = query.with_only_columns(*order).where(order[-1] == after)
        last = session.execute(border).first() if after.isprintable() else None
        if last is None:
            raise unknown_cursor("this list")
        page = page.where(tuple_(*order) < tuple(last))
    rows = session.execute(page.order_by(*(column.desc() for column in order)).limit(limit + 1)).all()
    more = len(rows) > limit
    return Page([build(*row[:-1]) for row in rows[:limit]], rows[limit - 1].cursor if more else None)
