"""Whether the entries that a superseded revision left need a person: they do not go on, and newer goods may be filed."""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import update
from sqlmodel import Session

from pipeline.core.db import table
from pipeline.deliveries.entries.facets import FACETS, NEEDS_LOOK, AnswerStatus, EntryFacets, Facet
from pipeline.deliveries.submissions.carried_answers import LaterRevisions
from pipeline.exports.models import Export

#: The answers after which a person must look at an entry that a newer revision corrects or drops.
_MATTERS: Final = NEEDS_LOOK | {each for each, facet in FACETS.items() if facet is Facet.RELEASE}


def judge_left(status: AnswerStatus, entries: Mapping[str, EntryFacets], later: LaterRevisions) -> bool | None:
    """Return whether a person must look at the entries that a revision left, None if the answer does not change that.

    If the next handoff is still to come, it says what the answer says. With another customs broker, each filed entry may
    be a second one of the same goods, until it is cancelled.
    """
    if not any(_is_in_sight(entries[number], later) for number in later.left):
        return False if later.marked else None
    matters = status in _MATTERS and later.concerns and (later.reassigned or not later.prepares)
    return True if matters and not later.marked else None


def mark_left(session: Session, export_id: str, *, needs_person: bool) -> dict[str, bool]:
    """Write whether a person must look at the entries that the export left; return the fact for the event."""
    values = {"earlier_entry": needs_person or None}
    session.execute(update(table(Export)).where(table(Export).c.id == export_id).values(values))
    return {"earlierEntry": needs_person}


def _is_in_sight(entry: EntryFacets, later: LaterRevisions) -> bool:
    is_cancelled = entry.release is AnswerStatus.CANCELLED
    return entry.is_filed or bool(entry.holds) or (is_cancelled and not later.reassigned)
