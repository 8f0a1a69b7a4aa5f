"""The feed of an account: every event of every export in one order, which a reader can resume after any event.

Triggers note which events each transaction wrote. A reader that is at the end of the feed gives these notes the next
positions of the account, while it holds the account's row. So a position is given only to committed events, and becomes
visible only after all lower ones, whatever the order in which the transactions began, took numbers or committed.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, func, or_, select, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from pipeline.core.db import row_count
from pipeline.core.errors import ValidationFailed
from pipeline.core.failpoints import failpoint
from pipeline.core.json_input import validation_failed
from pipeline.core.problems import Issue
from pipeline.core.runtime import Runtime
from pipeline.exports.event_models import Event, FeedRange
from pipeline.exports.events import EventType
from pipeline.exports.models import Account, Export
from pipeline.exports.queries import event_view
from pipeline.exports.schemas.feed import FeedEventView, FeedPage

#: How many ranges of events one transaction gives positions: a feed that nobody read for years has millions.
_PLACED_AT_ONCE: Final = 5_000
#: How many ranges one page reads, however few of their events it wants.
_RANGES_OF_PAGE: Final = 1_000

_position = col(FeedRange.position)
_unplaced = (
    select(col(FeedRange.id)).where(col(FeedRange.account_id) == bindparam("of_account"), _position.is_(None))
).correlate(None)
_ANY_UNPLACED: Final = select(_unplaced.exists())

_LOCK: Final = select(col(Account.id)).where(col(Account.id) == bindparam("of_account")).with_for_update(key_share=True)
_placed = aliased(FeedRange)
_last_position = (
    select(func.coalesce(func.max(col(_placed.position)), 0))
    .where(col(_placed.account_id) == bindparam("of_account"), col(_placed.position).is_not(None))
    .scalar_subquery()
)
_oldest = _unplaced.order_by(col(FeedRange.id)).limit(bindparam("at_most")).subquery()
_next = select(_oldest.c.id, func.row_number().over(order_by=_oldest.c.id).label("place")).subquery()
_PLACE: Final = (
    update(FeedRange)
    .where(col(FeedRange.id) == _next.c.id)
    .values(position=_last_position + _next.c.place)
    .execution_options(synchronize_session=False)
)


class _Start(NamedTuple):
    """Where a page begins: after an event of the range with this position, which is None until it is placed."""

    position: int | None
    seq: int
    any_unplaced: bool


def read_feed(
    runtime: Runtime,
    account_id: str,
    after: str | None,
    *,
    types: Sequence[EventType] = (),
    limit: int,
    given_as: str = "/query/after",
) -> FeedPage:
    """Return at most `limit` events of these types, or of all, after the event with the id `after`, or from the first.

    Raises ValidationFailed, named by where it was `given_as`, if the account has no event `after`.
    """
    all_placed = False
    while True:
        with runtime.db.read() as session:
            start = _find_start(session, account_id, after, given_as)
            page = None
            if start.position is not None:
                page = _read_page(session, account_id, after, start.position, start.seq, types, limit)
        if page is not None and (all_placed or page.more or not start.any_unplaced):
            return page
        with runtime.db.write() as session:
            all_placed = place_ranges(session, account_id, _PLACED_AT_ONCE) < _PLACED_AT_ONCE
            failpoint("feed.mid")
        failpoint("feed.after")


def place_ranges(session: Session, account_id: str, at_most: int) -> int:
    """Give the oldest ranges without a position the next ones of the account; return how many these were."""
    # A statement of its own: the next one then sees what the transaction wrote that held the row.
    session.execute(_LOCK, {"of_account": account_id})
    return row_count(session.execute(_PLACE, {"of_account": account_id, "at_most": at_most}))


def _find_start(session: Session, account_id: str, after: str | None, given_as: str) -> _Start:
    any_unplaced = bool(session.scalar(_ANY_UNPLACED, {"of_account": account_id}))
    if after is None:
        return _Start(0, 0, any_unplaced)
    export_id, _, number = after.rpartition(".")
    # PostgreSQL refuses a NUL in a text, and a larger number.
    seq = int(number) if number.isdecimal() and number.isascii() and len(number) < 10 and after.isprintable() else 0
    found = session.execute(
        select(_position)
        .where(
            col(FeedRange.account_id) == account_id,
            col(FeedRange.export_id) == export_id,
            col(FeedRange.first_seq) <= seq,
            col(FeedRange.last_seq) >= seq,
        )
        .order_by(col(FeedRange.last_seq))
        .limit(1)
    ).first()
    if not seq or found is None:
        raise _unknown_event(given_as)
    return _Start(found.position, seq, any_unplaced)


def _unknown_event(given_as: str) -> ValidationFailed:
    message = (
        "is not the id of an event of this account; give that of one you have, or leave it out to begin with the first"
    )
    return validation_failed([Issue(path=given_as, message=message, code="cursor")])


def _read_page(
    session: Session,
    account_id: str,
    after: str | None,
    position: int,
    seq: int,
    types: Sequence[EventType],
    limit: int,
) -> FeedPage:
    # Each range has an event, so a page without a choice of types needs no more ranges than events.
    last_position = position + (_RANGES_OF_PAGE if types else min(limit, _RANGES_OF_PAGE))
    window = col(FeedRange.account_id) == account_id, _position.between(position, last_position)
    query = (
        select(Event, col(Export.batch_id), col(Export.test))
        .select_from(FeedRange)
        .join(
            Event,
            (col(Event.export_id) == col(FeedRange.export_id))
            & col(Event.seq).between(col(FeedRange.first_seq), col(FeedRange.last_seq)),
        )
        .join(Export, col(Export.id) == col(FeedRange.export_id))
        .where(*window, or_(_position > position, col(Event.seq) > seq))
        .order_by(_position, col(Event.seq))
        .limit(limit)
    )
    if types:
        query = query.where(col(Event.type).in_([each.value for each in types]))
    items = [_feed_event(*row) for row in session.execute(query)]
    if len(items) == limit:
        return FeedPage(items=items, next_after=items[-1].id, more=True)
    end = session.execute(
        select(col(FeedRange.export_id), col(FeedRange.last_seq), _position)
        .where(*window)
        .order_by(_position.desc())
        .limit(1)
    ).first()
    if end is None:
        return FeedPage(items=items, next_after=after, more=False)
    return FeedPage(items=items, next_after=f"{end.export_id}.{end.last_seq}", more=end.position == last_position)


def _feed_event(event: Event, batch_id: str, test: Any) -> FeedEventView:
    return FeedEventView(
        **event_view(event).model_dump(), export_id=event.export_id, batch_id=batch_id, test=bool(test)
    )
