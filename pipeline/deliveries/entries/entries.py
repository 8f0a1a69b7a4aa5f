"""The rows of entries, and the answers that they are folded from."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Row, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from pipeline.core.db import database_now, table
from pipeline.core.errors import NotInHandoff
from pipeline.customs.reference.entry import entry_rules
from pipeline.deliveries.entries.entries_change import EntriesChange
from pipeline.deliveries.entries.facets import (
    AT_CUSTOMS,
    SUMMARY_TROUBLES,
    Answer,
    AnswerStatus,
    EntryFacets,
    fold_entries,
)
from pipeline.deliveries.entries.headline_text import describe_headlines
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission, CustomsEntry
from pipeline.exports.models import Export, ExportUnit
from pipeline.exports.schemas.assessment import Assessment
from pipeline.exports.schemas.submissions import EntryView

_units, _answers, _entries = table(ExportUnit).c, table(Acknowledgement).c, table(CustomsEntry).c
_submissions, _exports = table(BrokerSubmission).c, table(Export).c

#: A post summary correction is accepted for so long after the entry (82 FR 2385, 2017-01-09).
_CORRECTION: Final = timedelta(days=300)
#: A protest is filed within so many days after the liquidation (19 CFR 174.12(e), 19 USC 1514(c)(3)).
_PROTEST: Final = timedelta(days=180)

#: The columns of an entry that the fold decides.
_FOLDED: Final = ("headline", "broker", "release", "holds", "bill", "summary", "entry_number")

_UPSERT: Final = {
    dialect: insert.on_conflict_do_update(
        index_elements=["submission_id", "package_number"],
        set_={name: insert.excluded[name] for name in (*_FOLDED, "updated_at")},
    )
    for dialect, insert in (
        ("postgresql", postgresql.insert(table(CustomsEntry)).values(updated_at=database_now())),
        ("sqlite", sqlite.insert(table(CustomsEntry)).values(updated_at=database_now())),
    )
}

#: What the fold needs of recorded answers.
_SELECT_ANSWERS: Final = select(
    _answers.submission_id,
    _answers.id,
    _answers.status,
    _answers.at,
    _answers.received_at,
    _answers.packages,
    _answers.hold,
    _answers.entry_number,
    _answers.corrects,
    _answers.comparison,
)


def read_package_numbers(session: Session, export_id: str) -> list[str]:
    """Return the numbers of the export's customs packages, in the order of its units."""
    query = select(_units.package_number).where(_units.export_id == export_id).order_by(_units.unit_no)
    return [number for number in session.scalars(query) if number is not None]


def check_packages(session: Session, export_id: str, numbers: Sequence[str]) -> None:
    """Raise NotInHandoff for the first number that is not of a customs package of the export."""
    known = read_package_numbers(session, export_id) if numbers else []
    for row, number in enumerate(numbers):
        if number not in known:
            raise NotInHandoff(
                f"the handoff does not have the customs package {number}; it has {', '.join(known[:20])}",
                field=f"/customsPackageNumbers/{row}",
            )


def read_answers(session: Session, submission_id: str) -> list[Answer]:
    """Return what the fold needs of the recorded answers to a handoff."""
    return [to_answer(row) for row in session.execute(_SELECT_ANSWERS.where(_answers.submission_id == submission_id))]


@dataclass(frozen=True)
class AmountsDifference:
    """The amounts of a handoff that differ from the estimate, and since when it is known; None if none differ now."""

    text: str
    since: datetime | None


def find_differences(session: Session, submission_ids: Sequence[str]) -> dict[str, AmountsDifference]:
    """Return the difference of each of these handoffs. A correction may have just ended it: then the text is empty."""
    of_handoff: dict[str, list[Row[Any]]] = {each: [] for each in submission_ids}
    counts = or_(_answers.comparison.is_not(None), _answers.corrects.is_not(None))
    for row in session.execute(_SELECT_ANSWERS.where(_answers.submission_id.in_(submission_ids), counts)):
        of_handoff[row.submission_id].append(row)
    return {handoff: _describe_difference(rows) for handoff, rows in of_handoff.items()}


def _describe_difference(rows: Sequence[Row[Any]]) -> AmountsDifference:
    answers = [to_answer(row) for row in rows]
    packages = sorted({each.assessment.customs_package_number for each in answers if each.assessment is not None})
    found = [each.assessment for each in fold_entries(packages, answers).values() if each.assessment is not None]
    differing = {each.answer_id: each for each in found if each.differs}
    texts = (f"{each.customs_package_number}: {each.describe_differences()}" for each in [*differing.values()][:20])
    since = max((row.received_at for row in rows if row.id in differing), default=None)
    return AmountsDifference("; ".join(texts), since)


def to_answer(row: Any) -> Answer:
    """Return what the fold needs of a recorded answer."""
    return Answer(
        id=row.id,
        status=AnswerStatus(row.status),
        at=row.at or row.received_at,
        packages=row.packages or (),
        hold=row.hold,
        entry_number=row.entry_number,
        corrects=row.corrects,
        assessment=None if row.comparison is None else Assessment.model_validate(row.comparison),
    )


def entry_columns(facets: EntryFacets) -> dict[str, Any]:
    """Return the values of the columns that the fold decides."""
    return {
        "headline": facets.headline.value,
        "broker": facets.broker,
        "release": facets.release,
        "holds": sorted(facets.holds),
        "bill": facets.bill,
        "summary": facets.summary,
        "entry_number": facets.entry_number,
    }


def count_headlines(session: Session, export_id: str) -> dict[str, Counter[str]]:
    """Return how many entries of each answered submission of the export have each headline."""
    return _count_by(session, _submissions.id, [export_id])


def describe_differing(session: Session, export_ids: Sequence[str]) -> dict[str, str]:
    """Return such as "1 of 2 released, 1 held" for each of these exports whose entries differ."""
    counted = _count_by(session, _submissions.export_id, export_ids) if export_ids else {}
    described = {export_id: describe_headlines(each) for export_id, each in counted.items()}
    return {export_id: text for export_id, text in described.items() if text is not None}


def _count_by(session: Session, key: ColumnElement[str], export_ids: Sequence[str]) -> dict[str, Counter[str]]:
    query = (
        select(key, _entries.headline, func.count())
        .join_from(table(CustomsEntry), table(BrokerSubmission), _entries.submission_id == _submissions.id)
        .where(_submissions.export_id.in_(export_ids))
        .group_by(key, _entries.headline)
    )
    counted: dict[str, Counter[str]] = {}
    for of, headline, entries in session.execute(query):
        counted.setdefault(of, Counter())[headline] = entries
    return counted


def find_without_bill(session: Session, submission_ids: Iterable[str]) -> dict[str, list[str]]:
    """Return the customs packages of each submission that are at customs and match no bill, if it has such."""
    query = (
        select(_entries.submission_id, _entries.package_number)
        .where(
            _entries.submission_id.in_(list(submission_ids)),
            _entries.bill == AnswerStatus.BILL_UNMATCHED.value,
            _entries.headline.in_([each.value for each in AT_CUSTOMS]),
        )
        .order_by(_entries.submission_id, _entries.package_number)
    )
    found: dict[str, list[str]] = {}
    for row in session.execute(query):
        found.setdefault(row.submission_id, []).append(row.package_number)
    return found


def name_entries(filed: Iterable[tuple[str, str | None]]) -> str:
    """Return the numbers of customs packages, each with its entry number."""
    return ", ".join(f"{package} ({entry or 'no number yet'})" for package, entry in filed)


def read_stored(session: Session, export_id: str, submission_id: str) -> dict[str, dict[str, Any]]:
    """Return what the fold decided before, by the number of each customs package of the export."""
    of_handoff = (_entries.package_number == _units.package_number) & (_entries.submission_id == submission_id)
    query = (
        select(_units.package_number, *(_entries[name] for name in _FOLDED))
        .join_from(table(ExportUnit), table(CustomsEntry), of_handoff, isouter=True)
        .where(_units.export_id == export_id, _units.package_number.is_not(None))
        .order_by(_units.unit_no)
    )
    return {row.package_number: {name: getattr(row, name) for name in _FOLDED} for row in session.execute(query)}


def write_changed(
    session: Session, submission_id: str, entries: Mapping[str, EntryFacets], stored: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write the rows of the entries that differ from the stored ones."""
    changed = [
        {"submission_id": submission_id, "package_number": number, **columns}
        for number, facets in entries.items()
        if (columns := entry_columns(facets)) != stored[number]
    ]
    if changed:
        session.execute(_UPSERT[session.get_bind().dialect.name], changed)


def any_differs(entries: Mapping[str, EntryFacets]) -> bool:
    """Return whether customs assessed other amounts than the estimate for an entry."""
    return any(each.assessment is not None and each.assessment.differs for each in entries.values())


def any_summary_trouble(entries: Mapping[str, EntryFacets]) -> bool:
    """Return whether customs rejects the summary of an entry, or requests documents about it."""
    return any(each.summary in SUMMARY_TROUBLES for each in entries.values())


def mark_troubles(
    session: Session,
    export_id: str,
    change: EntriesChange,
    *,
    superseded: bool = False,
    late_before: bool = False,
    late: bool = False,
) -> None:
    """Write whether assessed amounts differ from the estimate, and whether a summary needs a person, if that changes.

    The latter also if it is `late`. The summaries of a superseded export are those of the newest one; what it left is an
    item of its own.
    """
    before, after = change.before, change.after
    judged = {"amounts_differ": (any_differs(before), any_differs(after))}
    if not superseded:
        judged["summary_trouble"] = any_summary_trouble(before) or late_before, any_summary_trouble(after) or late
    changed = {name: is_now or None for name, (was, is_now) in judged.items() if is_now is not was}
    if changed:
        session.execute(update(table(Export)).where(_exports.id == export_id).values(changed))


def build_entry_views(entries: Mapping[str, EntryFacets]) -> list[EntryView]:
    """Return the views of the entries."""
    return [
        EntryView(
            customs_package_number=number,
            assessment=facets.assessment,
            **entry_columns(facets),
            **_find_windows(facets),
        )
        for number, facets in entries.items()
    ]


def _find_windows(facets: EntryFacets) -> dict[str, Any]:
    """Return the last days on which the summary of a released entry can be corrected, or its liquidation protested."""
    zone = ZoneInfo(entry_rules().clock.zone)
    if facets.liquidated_at is not None and facets.summary is AnswerStatus.SUMMARY_LIQUIDATED:
        return {"protest_until": facets.liquidated_at.astimezone(zone).date() + _PROTEST}
    if facets.released_at is None or facets.release is not AnswerStatus.RELEASED:
        return {}
    return {"correction_until": facets.released_at.astimezone(zone).date() + _CORRECTION}
