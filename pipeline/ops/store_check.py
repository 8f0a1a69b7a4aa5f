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
_PAGE: Final = 200
_READERS: Final = 8

#: After so many in a row that the store does not give, it is the store that does not answer.
_UNREADABLE_IN_A_ROW: Final = 3

_PROFILE_OF_THEN: Final = "give the broker the profile of then, and restore again"


@dataclass(frozen=True)
class Bad:
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
class Survey:
    """How many documents were looked at so far, and what was found."""

    documents: int = 0
    size: int = 0
    conditions: Counter[str] = field(default_factory=Counter)  # of those that are bad
    restored: int = 0

    @property
    def left(self) -> int:
        """How many recorded documents are not in the store as they were."""
        return self.conditions.total() - self.restored


@dataclass(frozen=True)
class _Row:
    export_id: str
    unit_no: int
    artifact_type: str
    filename: str
    size: int
    sha256: str
    template_version: str


@dataclass
class _Reader:
    """Looks at documents, several at a time, and knows when it is the store that does not answer."""

    runtime: Runtime
    pool: ThreadPoolExecutor
    unreadable_in_a_row: int = field(default=0, init=False)

    def conditions(self, rows: Sequence[_Row]) -> Iterator[tuple[_Row, Bad | None]]:
        for row, (condition, error) in zip(rows, self.pool.map(self._look, rows), strict=True):
            self.unreadable_in_a_row = self.unreadable_in_a_row + 1 if error else 0
            if error is not None and self.unreadable_in_a_row >= _UNREADABLE_IN_A_ROW:
                raise error
            yield row, None if condition == BlobCondition.INTACT.value else _bad(row, condition, error)

    def _look(self, row: _Row) -> tuple[str, StoreUnavailable | None]:
        try:
            return self.runtime.store.condition(row.sha256).value, None
        except StoreUnavailable as error:
            return "unreadable", error


def look_through(
    runtime: Runtime,
    found: Callable[[Bad], None],
    told: Callable[[Survey], None],
    *,
    export_id: str | None = None,
    restore: bool = False,
) -> Survey:
    """Look at every recorded document that was not purged, of all exports or of one, and return what was found.

    Each that is missing, damaged or unreadable is handed to `found`; with `restore` after it was made again from the records
    of its export, and put back where its bytes have the recorded hash. The database is not changed. `told` hears of the
    progress after each unit. What is held in memory does not grow with the store.

    Raises NotFound where there is no such export, StoreUnavailable where the store does not answer, and RendererUnavailable.
    """
    survey = Survey()
    if export_id is not None:
        _ensure_there(runtime, export_id)
    pool = ThreadPoolExecutor(_READERS, thread_name_prefix="look")
    reader = _Reader(runtime, pool)
    try:
        for (of_export, unit_no), rows in groupby(
            _rows(runtime, export_id), key=lambda row: (row.export_id, row.unit_no)
        ):
            wrong: list[tuple[_Row, Bad]] = []
            for row, bad in reader.conditions(list(rows)):
                survey.documents += 1
                survey.size += row.size
                if bad is not None:
                    wrong.append((row, bad))
            if wrong and _is_purged(runtime, of_export):  # meanwhile
                wrong = []
            outcomes = _restored(runtime, of_export, unit_no, wrong) if restore and wrong else (bad for _, bad in wrong)
            for bad in outcomes:
                survey.conditions[bad.condition] += 1
                survey.restored += bad.restored
                found(bad)
            told(survey)
    finally:
        pool.shutdown(cancel_futures=True)
    return survey


def _bad(row: _Row, condition: str, error: StoreUnavailable | None) -> Bad:
    reason = str(error) if error else None
    return Bad(row.export_id, row.unit_no, row.artifact_type, row.filename, row.sha256, condition, reason=reason)


def _ensure_there(runtime: Runtime, export_id: str) -> None:
    with runtime.db.read() as session:
        if session.get(Export, export_id) is None:
            raise NotFound(f"there is no export {export_id}")


def _is_purged(runtime: Runtime, export_id: str) -> bool:
    with runtime.db.read() as session:
        return session.scalar(select(col(Export.purged_at)).where(col(Export.id) == export_id)) is not None


def _rows(runtime: Runtime, export_id: str | None) -> Iterator[_Row]:
    """Yield the rows of documents whose bytes are to be in the store, unit by unit, a page at a time."""
    of_one = (col(Artifact.export_id), col(Artifact.unit_no), col(Artifact.artifact_type))
    query = (
        select(
            *of_one, col(Artifact.filename), col(Artifact.size), col(Artifact.sha256), col(Artifact.template_version)
        )
        .join(Export, col(Export.id) == col(Artifact.export_id))
        .where(col(Artifact.purged_at).is_(None), col(Export.purged_at).is_(None))
        .order_by(*of_one)
        .limit(_PAGE)
    )
    if export_id is not None:
        query = query.where(col(Artifact.export_id) == export_id)
    after: _Row | None = None
    while True:
        page = query
        if after is not None:
            page = query.where(tuple_(*of_one) > (after.export_id, after.unit_no, after.artifact_type))
        with runtime.db.read() as session:
            rows = [_Row(*row) for row in session.execute(page)]
        yield from rows
        if len(rows) < _PAGE:
            return
        after = rows[-1]


def _restored(runtime: Runtime, export_id: str, unit_no: int, wrong: Sequence[tuple[_Row, Bad]]) -> Iterator[Bad]:
    """Make what is wrong with a unit's documents again, and yield what came of each."""
    owed = {row.artifact_type: (row, bad) for row, bad in wrong if bad.condition != "unreadable"}
    yield from (bad for _, bad in wrong if bad.condition == "unreadable")
    why = "this version makes no such document; restore it with the release that made it"
    try:
        with runtime.db.read() as session:
            context = _context(session, export_id, unit_no)
        for document in _made_again(runtime, context, owed.keys() == {profiles.ARTIFACT_TYPE}):
            if document.artifact_type in owed:
                row, bad = owed.pop(document.artifact_type)
                yield _put_back(runtime, row, bad, document)
            if not owed:
                break
    except OUTAGES:
        raise
    except (ExportsError, ValidationError, NoResultFound) as error:
        why = f"its unit cannot be made again: {str(error).splitlines()[0]}; `exports rebuild --check` says more"
    else:
        if profiles.ARTIFACT_TYPE in owed:
            _, bad = owed.pop(profiles.ARTIFACT_TYPE)
            yield replace(bad, reason=f"the broker has no profile any more; {_PROFILE_OF_THEN}")
    yield from (replace(bad, reason=why) for _, bad in owed.values())


def _context(session: Session, export_id: str, unit_no: int) -> StepContext:
    export = session.get_one(Export, export_id)
    return build_context(export, unit_no=unit_no, step="render_documents", fence=0, attempt=0)


def _made_again(runtime: Runtime, context: StepContext, only_profile: bool) -> Iterator[Document]:  # noqa: FBT001
    if not only_profile:
        yield from render_documents.render_unit(runtime, context)
    with runtime.db.read() as session:
        partners = recipients.resolve_recipients(session, context.account_id, [context.broker_id], test=context.test)
    broker = partners.get(context.broker_id)
    if broker is not None and broker.profile is not None:
        yield profiles.profile_document(broker.profile, recorded_invoice(runtime, context))


def _put_back(runtime: Runtime, row: _Row, bad: Bad, document: Document) -> Bad:
    made = document.digest.removeprefix("sha256:")
    if made != row.sha256:
        return replace(bad, reason=_differs(row, document, made))
    if not repository.put_back(runtime, row.sha256, document.body):
        return replace(bad, reason="its export was purged meanwhile")
    return replace(bad, restored=True)


def _differs(row: _Row, document: Document, made: str) -> str:
    if document.template_version == row.template_version:
        return f"it comes out as {made}: rules, fonts or records were changed since"
    if row.artifact_type == profiles.ARTIFACT_TYPE:
        return (
            f"profile {row.template_version} made it, and the broker's is now {document.template_version};"
            f" {_PROFILE_OF_THEN}"
        )
    return (
        f"template {row.template_version} made it, and this version has {document.template_version}; restore it with the"
        " release that made it"
    )
