"""The entries of a batch's earlier revisions: which go on in a newer one, and which it corrects."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from sqlalchemy import select
from sqlmodel import Session

from pipeline.core.db import table
from pipeline.deliveries.entries.facets import AnswerStatus, EntryFacets, Headline
from pipeline.deliveries.models import BrokerSubmission, CustomsEntry
from pipeline.exports.models import Export, ExportUnit

_units, _entries = table(ExportUnit).c, table(CustomsEntry).c
_submissions, _exports = table(BrokerSubmission).c, table(Export).c

#: The columns of an entry's facets that decide whether it goes on.
_FACETS: Final = (_entries.broker, _entries.release)


class Revision(Protocol):
    """A revision of a batch: an export, or the context of its step."""

    @property
    def account_id(self) -> str:
        """The account."""

    @property
    def batch_id(self) -> str:
        """The batch."""

    @property
    def test(self) -> bool:
        """Whether it is a test."""

    @property
    def revision(self) -> int:
        """Its number."""


@dataclass(frozen=True)
class EarlierHandoff:
    """The handoff of an earlier revision."""

    export_id: str
    revision: int
    submission_id: str


@dataclass(frozen=True)
class EarlierEntry(EarlierHandoff):
    """An entry of an earlier handoff, as its answers say it; `status` is the headline."""

    unit_ref: str
    customs_package_number: str
    entry_number: str | None
    status: str


def lock_earlier(session: Session, of: Revision) -> None:
    """Lock the exports of the batch's earlier revisions, so that no answer to them comes before the transaction ends."""
    session.execute(select(_exports.id).where(*_is_earlier(of)).order_by(_exports.revision).with_for_update()).all()


def find_earlier_handoff(session: Session, of: Revision, partner_id: str) -> EarlierHandoff | None:
    """Return the newest handoff of an earlier revision to this customs broker, None if it had none."""
    row = session.execute(
        select(_exports.id, _exports.revision, _submissions.id)
        .join_from(table(Export), table(BrokerSubmission), _submissions.export_id == _exports.id)
        .where(*_is_earlier(of), _submissions.partner_id == partner_id)
        .order_by(_exports.revision.desc())
        .limit(1)
    ).first()
    return None if row is None else EarlierHandoff(*row)


def find_newest_broker(session: Session, of: Revision) -> str | None:
    """Return the customs broker of the batch's newest revision."""
    batch = _exports.account_id == of.account_id, _exports.batch_id == of.batch_id, _exports.test == of.test
    return session.scalar(select(_exports.broker_id).where(*batch).order_by(_exports.revision.desc()).limit(1))


def find_kept_entries(session: Session, export_id: str, earlier: EarlierHandoff) -> list[EarlierEntry]:
    """Return the entries of an earlier handoff that go on in the export, in the order of its units.

    Their units did not change since. What the customs broker sent back, or customs cancelled, begins again.
    """
    of_entry = (_entries.submission_id == earlier.submission_id) & (_entries.package_number == _units.package_number)
    query = (
        select(_units.unit_ref, _units.package_number, _entries.entry_number, _entries.headline, *_FACETS)
        .join_from(table(ExportUnit), table(CustomsEntry), of_entry, isouter=True)
        .where(_units.export_id == export_id, _units.same_since <= earlier.revision)
        .order_by(_units.unit_no)
    )
    return [
        EarlierEntry(
            earlier.export_id,
            earlier.revision,
            earlier.submission_id,
            row.unit_ref,
            row.package_number,
            row.entry_number,
            row.headline or Headline.AWAITING.value,
        )
        for row in session.execute(query)
        if row.package_number is not None and _read_facets(row).goes_on
    ]


def find_filed_entries(
    session: Session, of: Revision, same: Mapping[str, int | None], *, cancelled: bool = False
) -> list[EarlierEntry]:
    """Return the filed entries of earlier revisions that do not go on in this one, in the order of revisions and units.

    `same` says since which revision the customs package of each number is the same. A cancelled entry counts only with
    `cancelled`.
    """
    query = (
        select(
            _exports.id.label("export_id"),
            _exports.revision,
            _entries.submission_id,
            _units.unit_ref,
            _entries.package_number,
            _entries.entry_number,
            _entries.headline,
            _units.same_since,
            *_FACETS,
        )
        .join_from(table(Export), table(BrokerSubmission), _submissions.export_id == _exports.id)
        .join(table(CustomsEntry), _entries.submission_id == _submissions.id)
        .join(table(ExportUnit), (_units.export_id == _exports.id) & (_units.package_number == _entries.package_number))
        .where(*_is_earlier(of))
        .order_by(_exports.revision, _units.unit_no)
    )

    def counts(row: Any) -> bool:
        facets = _read_facets(row)
        return facets.is_filed or (cancelled and facets.release is not None)

    counting: dict[str, Any] = {}
    for row in session.execute(query):
        before = counting.get(row.package_number)
        # An entry that goes on in a later handoff is as the later one says.
        if counts(row) or (before is not None and _is_same(row.same_since, before.revision)):
            counting[row.package_number] = row
    return [
        EarlierEntry(
            row.export_id, row.revision, row.submission_id, row.unit_ref, number, row.entry_number, row.headline
        )
        for number, row in counting.items()
        if counts(row) and not _is_same(same.get(number), row.revision)
    ]


def read_same(session: Session, export_id: str) -> dict[str, int | None]:
    """Return since which revision each customs package of the export is the same, by its number."""
    query = select(_units.package_number, _units.same_since).where(_units.export_id == export_id)
    return {number: since for number, since in session.execute(query) if number is not None}


def _is_earlier(of: Revision) -> tuple[Any, ...]:
    return (
        _exports.account_id == of.account_id,
        _exports.batch_id == of.batch_id,
        _exports.test == of.test,
        _exports.revision < of.revision,
    )


def _is_same(since: int | None, revision: int) -> bool:
    return since is not None and since <= revision


def _read_facets(row: Any) -> EntryFacets:
    broker, release = (None if each is None else AnswerStatus(each) for each in (row.broker, row.release))
    return EntryFacets(broker=broker, release=release)
