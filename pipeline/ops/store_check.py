"""The document store held against the database: each recorded document is there as its hash says, or is made again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Final

from pydantic import ValidationError
from sqlalchemy import select, tuple_
from sqlalchemy.exc import NoResultFound
from sqlmodel import Session, col

from pipeline.accounts import recipients
from pipeline.core.blob_store import BlobCondition
from pipeline.core.errors import OUTAGES, ExportsError, NotFound, StoreUnavailable
from pipeline.core.runtime import Runtime
from pipeline.documents import repository
from pipeline.documents.formats import broker_profile as profiles
from pipeline.documents.invoice.repository import recorded_invoice
from pipeline.documents.registry import Document
from pipeline.exports.models import Artifact, Export
from pipeline.exports.step_context import StepContext, build_context
from pipeline.workflow import render_documents

#: Rows that are read at a time, and documents that are read from the store at a time.
_PAGE_SIZE: Final = 200
_READER_THREADS: Final = 8

#: After so many in a row that the store does not give, it is the store that does not answer.
_UNREADABLE_IN_A_ROW: Final = 3

_PROFILE_REMEDY: Final = "give the broker the profile of then, and restore again"


@dataclass(frozen=True)
class DamagedDocument:
    """A recorded document that the store does not have as it was, and what was done about it.

    `condition` is `missing`, `damaged`, or `unreadable` where the store does not give it; `reason` says why it was not
    restored, and is None of one that was, or that was only looked at.
    """

    export_id: str
    unit_no: int
    artifact_type: str
    filename: str
    sha256: str
    condition: str
    restored: bool = False
    reason: str | None = None


@dataclass
class StoreReport:
    """How many documents were looked at so far, and what was found."""

    documents: int = 0
    size: int = 0
    conditions: Counter[str] = field(default_factory=Counter)  # of those that are bad
    restored: int = 0

    @property
    def unrestored(self) -> int:
        """How many recorded documents are not in the store as they were."""
        return self.conditions.total() - self.restored


@dataclass(frozen=True)
class _DocumentRow:
    export_id: str
    unit_no: int
    artifact_type: str
    filename: str
    size: int
    sha256: str
    template_version: str


@dataclass
class _StoreReader:
    """Looks at documents, several at a time, and knows when it is the store that does not answer."""

    runtime: Runtime
    pool: ThreadPoolExecutor
    unreadable_in_a_row: int = field(default=0, init=False)

    def conditions(self, rows: Sequence[_DocumentRow]) -> Iterator[tuple[_DocumentRow, DamagedDocument | None]]:
        for row, (condition, error) in zip(rows, self.pool.map(self._read_condition, rows), strict=True):
            self.unreadable_in_a_row = self.unreadable_in_a_row + 1 if error else 0
            if error is not None and self.unreadable_in_a_row >= _UNREADABLE_IN_A_ROW:
                raise error
            yield row, None if condition == BlobCondition.INTACT.value else _damaged(row, condition, error)

    def _read_condition(self, row: _DocumentRow) -> tuple[str, StoreUnavailable | None]:
        try:
            return self.runtime.store.condition(row.sha256).value, None
        except StoreUnavailable as error:
            return "unreadable", error


def check_store(
    runtime: Runtime,
    on_damaged: Callable[[DamagedDocument], None],
    on_progress: Callable[[StoreReport], None],
    *,
    export_id: str | None = None,
    restore: bool = False,
) -> StoreReport:
    """Look at every recorded document that was not purged, of all exports or of one, and return what was found.

    Each that is missing, damaged or unreadable is handed to `on_damaged`; with `restore` after it was made again from the records
    of its export, and put back where its bytes have the recorded hash. The database is not changed. `on_progress` hears of the
    progress after each unit. What is held in memory does not grow with the store.

    Raises NotFound where there is no such export, StoreUnavailable where the store does not answer, and RendererUnavailable.
    """
    report = StoreReport()
    if export_id is not None:
        _ensure_export_exists(runtime, export_id)
    pool = ThreadPoolExecutor(_READER_THREADS, thread_name_prefix="look")
    reader = _StoreReader(runtime, pool)
    try:
        for (of_export, unit_no), rows in groupby(
            _rows(runtime, export_id), key=lambda row: (row.export_id, row.unit_no)
        ):
            damaged: list[tuple[_DocumentRow, DamagedDocument]] = []
            for row, document in reader.conditions(list(rows)):
                report.documents += 1
                report.size += row.size
                if document is not None:
                    damaged.append((row, document))
            if damaged and _is_purged(runtime, of_export):  # meanwhile
                damaged = []
            outcomes = (
                _restore_unit(runtime, of_export, unit_no, damaged)
                if restore and damaged
                else (bad for _, bad in damaged)
            )
            for document in outcomes:
                report.conditions[document.condition] += 1
                report.restored += document.restored
                on_damaged(document)
            on_progress(report)
    finally:
        pool.shutdown(cancel_futures=True)
    return report


def _damaged(row: _DocumentRow, condition: str, error: StoreUnavailable | None) -> DamagedDocument:
    reason = str(error) if error else None
    return DamagedDocument(
        row.export_id, row.unit_no, row.artifact_type, row.filename, row.sha256, condition, reason=reason
    )


def _ensure_export_exists(runtime: Runtime, export_id: str) -> None:
    with runtime.db.read() as session:
        if session.get(Export, export_id) is None:
            raise NotFound(f"there is no export {export_id}")


def _is_purged(runtime: Runtime, export_id: str) -> bool:
    with runtime.db.read() as session:
        return session.scalar(select(col(Export.purged_at)).where(col(Export.id) == export_id)) is not None


def _rows(runtime: Runtime, export_id: str | None) -> Iterator[_DocumentRow]:
    """Yield the rows of documents whose bytes are to be in the store, unit by unit, a page at a time."""
    sort_key = (col(Artifact.export_id), col(Artifact.unit_no), col(Artifact.artifact_type))
    query = (
        select(
            *sort_key, col(Artifact.filename), col(Artifact.size), col(Artifact.sha256), col(Artifact.template_version)
        )
        .join(Export, col(Export.id) == col(Artifact.export_id))
        .where(col(Artifact.purged_at).is_(None), col(Export.purged_at).is_(None))
        .order_by(*sort_key)
        .limit(_PAGE_SIZE)
    )
    if export_id is not None:
        query = query.where(col(Artifact.export_id) == export_id)
    after: _DocumentRow | None = None
    while True:
        page = query
        if after is not None:
            page = query.where(tuple_(*sort_key) > (after.export_id, after.unit_no, after.artifact_type))
        with runtime.db.read() as session:
            rows = [_DocumentRow(*row) for row in session.execute(page)]
        yield from rows
        if len(rows) < _PAGE_SIZE:
            return
        after = rows[-1]


def _restore_unit(
    runtime: Runtime, export_id: str, unit_no: int, damaged: Sequence[tuple[_DocumentRow, DamagedDocument]]
) -> Iterator[DamagedDocument]:
    """Make what is wrong with a unit's documents again, and yield what came of each."""
    pending = {row.artifact_type: (row, document) for row, document in damaged if document.condition != "unreadable"}
    yield from (bad for _, bad in damaged if bad.condition == "unreadable")
    reason = "this version makes no such document; restore it with the release that made it"
    try:
        with runtime.db.read() as session:
            context = _context(session, export_id, unit_no)
        for document in _render_again(runtime, context, pending.keys() == {profiles.ARTIFACT_TYPE}):
            if document.artifact_type in pending:
                row, bad = pending.pop(document.artifact_type)
                yield _restore_document(runtime, row, bad, document)
            if not pending:
                break
    except OUTAGES:
        raise
    except (ExportsError, ValidationError, NoResultFound) as error:
        reason = f"its unit cannot be made again: {str(error).splitlines()[0]}; `exports rebuild --check` says more"
    else:
        if profiles.ARTIFACT_TYPE in pending:
            _, bad = pending.pop(profiles.ARTIFACT_TYPE)
            yield replace(bad, reason=f"the broker has no profile any more; {_PROFILE_REMEDY}")
    yield from (replace(bad, reason=reason) for _, bad in pending.values())


def _context(session: Session, export_id: str, unit_no: int) -> StepContext:
    export = session.get_one(Export, export_id)
    return build_context(export, unit_no=unit_no, step="render_documents", fence=0, attempt=0)


def _render_again(runtime: Runtime, context: StepContext, only_profile: bool) -> Iterator[Document]:  # noqa: FBT001
    if not only_profile:
        yield from render_documents.render_unit(runtime, context)
    with runtime.db.read() as session:
        partners = recipients.resolve_recipients(session, context.account_id, [context.broker_id], test=context.test)
    broker = partners.get(context.broker_id)
    if broker is not None and broker.profile is not None:
        yield profiles.profile_document(broker.profile, recorded_invoice(runtime, context))


def _restore_document(
    runtime: Runtime, row: _DocumentRow, damaged: DamagedDocument, document: Document
) -> DamagedDocument:
    sha256 = document.digest.removeprefix("sha256:")
    if sha256 != row.sha256:
        return replace(damaged, reason=_hash_mismatch(row, document, sha256))
    if not repository.restore_document(runtime, row.sha256, document.body):
        return replace(damaged, reason="its export was purged meanwhile")
    return replace(damaged, restored=True)


def _hash_mismatch(row: _DocumentRow, document: Document, sha256: str) -> str:
    if document.template_version == row.template_version:
        return f"it comes out as {sha256}: rules, fonts or records were changed since"
    if row.artifact_type == profiles.ARTIFACT_TYPE:
        return (
            f"profile {row.template_version} made it, and the broker's is now {document.template_version};"
            f" {_PROFILE_REMEDY}"
        )
    return (
        f"template {row.template_version} made it, and this version has {document.template_version}; restore it with the"
        " release that made it"
    )
