"""The exports that a waiver was used for, read from the log of their acceptance."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import and_, select
from sqlmodel import Session, col

from pipeline.core.ids import first_id
from pipeline.customs.schemas import WaiverView
from pipeline.exports.event_models import Event
from pipeline.exports.models import Export

#: The most exports that one search reads.
MOST_SEARCHED: Final = 500

#: An export's id has the time at which its plan was checked: a waiver may be recorded while the check runs.
_CHECK_SECONDS: Final = 60


@dataclass(frozen=True)
class WaiverUse:
    """An export that was accepted under a waiver."""

    export_id: str
    batch_id: str
    accepted_at: datetime


@dataclass(frozen=True)
class WaiverUses:
    """The exports that used a waiver, of those that were searched; `before` continues the search, None at its end."""

    found: Sequence[WaiverUse]
    searched: int
    before: str | None


def find_waiver_uses(
    session: Session, account_id: str, waiver: WaiverView, *, before: str | None = None, limit: int = MOST_SEARCHED
) -> WaiverUses:
    """Return which of the account's exports used the waiver: of the newest `limit` before the export `before`.

    Only exports that were accepted after the waiver was granted are searched. The log keeps the waivers of an export for
    good, so revoked waivers and purged exports count too.
    """
    wanted = [
        col(Export.account_id) == account_id,
        col(Export.id) >= first_id("exp", waiver.created_at - timedelta(seconds=_CHECK_SECONDS)),
    ]
    if before is not None:
        wanted.append(col(Export.id) < before)
    rows = session.execute(
        select(col(Export.id), col(Export.batch_id), col(Export.accepted_at), col(Event.data)["waivers"])
        .join(Event, and_(col(Event.export_id) == col(Export.id), col(Event.seq) == 1))
        .where(*wanted)
        .order_by(col(Export.id).desc())
        .limit(limit + 1)
    ).all()
    searched = rows[:limit]
    found = [
        WaiverUse(export_id, batch_id, accepted_at)
        for export_id, batch_id, accepted_at, waivers in searched
        if any(each["id"] == waiver.id for each in waivers or ())
    ]
    return WaiverUses(found, len(searched), searched[-1][0] if len(rows) > limit else None)
