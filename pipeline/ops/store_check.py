"""The check of the document store: each recorded document and file must be there unchanged; a damaged one can be restored."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Final

from pydantic import ValidationError
from sqlalchemy import Select, func, select, tuple_
from sqlalchemy.exc import NoResultFound
from sqlmodel import Session, col

from pipeline.accounts import recipients
from pipeline.core.blob_store import BlobCondition
from pipeline.core.errors import OUTAGES, ExportsError, NotFound, StoreUnavailable
from pipeline.core.runtime import Runtime
from pipeline.deliveries.outbox.entry_facts import recorded_invoice
from pipeline.deliveries.submissions.attachments import ARTIFACT_TYPE
from pipeline.documents import broker_profile as profiles
from pipeline.documents import repository
from pipeline.documents.registry import Document
from pipeline.exports.file_models import ConversationFile
from pipeline.exports.models import Artifact, Export
from pipeline.exports.step_context import StepContext, build_context
from pipeline.workflow import render_documents
from pipeline.workflow.steps import RENDER_DOCUMENTS

#: The rows read at a time, and the threads that read documents from the store.
_PAGE_SIZE: Final = 200
_READER_THREADS: Final = 8

#: After so many unreadable documents in a row, the store itself is taken to be down.
_UNREADABLE_IN_A_ROW: Final = 3

#: The unit of a conversation's file. The service cannot render it again.
_NO_UNIT: Final = 0
_FILE_REMEDY: Final = "only its sender and a backup have it; restore it from the backup"

_PROFILE_REMEDY: Final = "give the broker its former profile, and restore again"


@dataclass(frozen=True)
class DamagedDocument:
    """A recorded document that the store lacks or holds damaged, and what was done about it.

    `condition` is `missing`, `damaged`, or `unreadable` if the store does not return it. `reason` says why it was not
    restored; it is None if it was restored, or only checked.
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
    """The number of documents checked so far, and what was found."""

    documents: int = 0
    total: int = 0  # to check
    size: int = 0
    conditions: Counter[str] = field(default_factory=Counter)  # of the damaged documents
    restored: int = 0

    @property
    def unrestored(self) -> int:
        """The number of recorded documents that the store still lacks or holds damaged."""
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
    """Checks several documents at a time, and notices if the store itself does not answer."""

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
    """Check every recorded document that was not purged, of all exports or of one, and return what was found.

    Each missing, damaged or unreadable document is passed to `on_damaged`. With `restore` it is first rendered again
    from the records of its export, and stored if it has the recorded hash. The database is not changed. `on_progress`
    is called after each unit. Memory does not grow with the store.

    Raises NotFound for an unknown export, StoreUnavailable if the store does not answer, and RendererUnavailable.
    """
    if export_id is not None:
        _ensure_export_exists(runtime, export_id)
    report = StoreReport(total=_count_rows(runtime, export_id))
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
            if damaged and _is_purged(runtime, of_export):  # the purge ran meanwhile
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


def _kept(model: type[Artifact | ConversationFile], export_id: str | None, *columns: Any) -> Select[Any]:
    """Return the query for these columns of the documents, or files, that the store must hold."""
    query = (
        select(*columns)
        .select_from(model)
        .join(Export, col(Export.id) == col(model.export_id))
        .where(col(model.purged_at).is_(None), col(Export.purged_at).is_(None))
    )
    return query if export_id is None else query.where(col(model.export_id) == export_id)


def _count_rows(runtime: Runtime, export_id: str | None) -> int:
    with runtime.db.read() as session:
        kept = (session.scalar(_kept(model, export_id, func.count())) or 0 for model in (Artifact, ConversationFile))
        return sum(kept)


def _rows(runtime: Runtime, export_id: str | None) -> Iterator[_DocumentRow]:
    """Yield the rows of documents that the store must hold, unit by unit, then of files, a page at a time."""
    sort_key = (col(Artifact.export_id), col(Artifact.unit_no), col(Artifact.artifact_type))
    more = (col(Artifact.filename), col(Artifact.size), col(Artifact.sha256), col(Artifact.template_version))
    query = _kept(Artifact, export_id, *sort_key, *more).order_by(*sort_key).limit(_PAGE_SIZE)
    after: _DocumentRow | None = None
    while True:
        page = query
        if after is not None:
            page = query.where(tuple_(*sort_key) > (after.export_id, after.unit_no, after.artifact_type))
        with runtime.db.read() as session:
            rows = [_DocumentRow(*row) for row in session.execute(page)]
        yield from rows
        if len(rows) < _PAGE_SIZE:
            break
        after = rows[-1]
    yield from _file_rows(runtime, export_id)


def _file_rows(runtime: Runtime, export_id: str | None) -> Iterator[_DocumentRow]:
    """Yield the rows of conversations' files that the store must hold, a page at a time."""
    key = (col(ConversationFile.export_id), col(ConversationFile.id))
    query = _kept(
        ConversationFile,
        export_id,
        *key,
        *(col(getattr(ConversationFile, each)) for each in ("filename", "size", "sha256")),
    )
    query = query.order_by(*key).limit(_PAGE_SIZE)
    page = query
    while True:
        with runtime.db.read() as session:
            rows = session.execute(page).all()
        for of_export, _, filename, size, sha256 in rows:
            yield _DocumentRow(of_export, _NO_UNIT, ARTIFACT_TYPE, filename or "", size, sha256, "")
        if len(rows) < _PAGE_SIZE:
            return
        page = query.where(tuple_(*key) > tuple(rows[-1][:2]))


def _restore_unit(
    runtime: Runtime, export_id: str, unit_no: int, damaged: Sequence[tuple[_DocumentRow, DamagedDocument]]
) -> Iterator[DamagedDocument]:
    """Render a unit's damaged documents again, and yield the result of each."""
    if unit_no == _NO_UNIT:
        yield from (replace(bad, reason=bad.reason or _FILE_REMEDY) for _, bad in damaged)
        return
    pending = {row.artifact_type: (row, document) for row, document in damaged if document.condition != "unreadable"}
    yield from (bad for _, bad in damaged if bad.condition == "unreadable")
    reason = "this version does not render this document; restore it with the release that rendered it"
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
        reason = f"its unit cannot be rendered again: {str(error).splitlines()[0]}; see `exports rebuild --check`"
    else:
        if profiles.ARTIFACT_TYPE in pending:
            _, bad = pending.pop(profiles.ARTIFACT_TYPE)
            yield replace(bad, reason=f"the broker no longer has a profile; {_PROFILE_REMEDY}")
    yield from (replace(bad, reason=reason) for _, bad in pending.values())


def _context(session: Session, export_id: str, unit_no: int) -> StepContext:
    export = session.get_one(Export, export_id)
    return build_context(export, unit_no=unit_no, step=RENDER_DOCUMENTS.name, fence=0, attempt=0)


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
        return f"rendered again, its hash is {sha256}: rules, fonts or records have changed since"
    if row.artifact_type == profiles.ARTIFACT_TYPE:
        return (
            f"profile {row.template_version} rendered it, and the broker's is now {document.template_version};"
            f" {_PROFILE_REMEDY}"
        )
    return (
        f"template {row.template_version} rendered it, and this version has {document.template_version}; restore it with the"
        " release that rendered it"
    )
