"""Filters of the list of exports that the people of an account saved under a name, for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col

from pipeline.core.db import database_now, table
from pipeline.core.errors import InvalidState, ValidationFailed
from pipeline.core.runtime import Runtime
from pipeline.core.text_safety import check_readable
from pipeline.exports.models import SavedFilter

MOST_FILTERS: Final = 50
MAX_NAME: Final = 60


_SAVE: Final = {
    dialect: each.on_conflict_do_update(
        index_elements=["account_id", "name"],
        set_={"query": each.excluded.query, "saved_by": each.excluded.saved_by, "saved_at": database_now()},
    )
    for dialect, each in (
        ("postgresql", postgresql.insert(table(SavedFilter))),
        ("sqlite", sqlite.insert(table(SavedFilter))),
    )
}


@dataclass(frozen=True)
class SavedFilterView:
    """A saved filter; `query` is the query string of the list's address."""

    name: str
    query: str


def list_filters(runtime: Runtime, account_id: str) -> Sequence[SavedFilterView]:
    """Return the account's saved filters by name."""
    with runtime.db.read() as session:
        rows = session.scalars(
            select(SavedFilter).where(col(SavedFilter.account_id) == account_id).order_by(col(SavedFilter.name))
        ).all()
    return [SavedFilterView(row.name, row.query) for row in rows]


def save_filter(runtime: Runtime, account_id: str, name: str, query: str, saved_by: str) -> None:
    """Save a filter; one with the same name is replaced.

    Raises ValidationFailed if the name or the filter is empty or the name is not readable, InvalidState if the account
    has MOST_FILTERS others.
    """
    if not name or len(name) > MAX_NAME:
        raise ValidationFailed(f"give the filter a name of at most {MAX_NAME} characters", field="name")
    try:
        check_readable(name)
    except ValueError as error:
        raise ValidationFailed(f"the name of the filter {error}", field="name") from error
    if not query:
        raise ValidationFailed("nothing is filtered; choose a filter, then save it", field="query")
    with runtime.db.write() as session:
        of_account = col(SavedFilter.account_id) == account_id
        others = select(func.count()).where(of_account, col(SavedFilter.name) != name)
        if session.execute(others).scalar_one() >= MOST_FILTERS:
            raise InvalidState(f"the account has {MOST_FILTERS} saved filters; delete one first")
        new = {"account_id": account_id, "name": name, "query": query, "saved_by": saved_by}
        session.execute(_SAVE[session.get_bind().dialect.name], new)


def delete_filter(runtime: Runtime, account_id: str, name: str) -> None:
    """Delete a saved filter. Deleting it again changes nothing."""
    with runtime.db.write() as session:
        session.execute(
            delete(SavedFilter).where(col(SavedFilter.account_id) == account_id, col(SavedFilter.name) == name)
        )
