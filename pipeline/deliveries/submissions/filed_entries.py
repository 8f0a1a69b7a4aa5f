"""Imports a report of filed entries: what the file says of an entry's amounts counts as an answer about the entry."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

from pydantic import ValidationError
from sqlalchemy import Row, or_, select

from config import ace_report
from pipeline.core.db import table
from pipeline.core.errors import InvalidState, NotInHandoff, Purged
from pipeline.core.money import sum_exact
from pipeline.core.runtime import Runtime
from pipeline.deliveries.entries.assessment import AmountsSource
from pipeline.deliveries.entries.entries import read_answers
from pipeline.deliveries.entries.facets import fold_entries
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission, CustomsEntry
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.submissions.broker_answers import compare_answer, receive_answer
from pipeline.deliveries.submissions.carried_answers import COPIED
from pipeline.deliveries.submissions.filed_report import ReadEntry, read_report
from pipeline.exports.models import Export
from pipeline.exports.schemas.assessment import Assessment
from pipeline.exports.schemas.entry_filing import format_entry_number
from pipeline.exports.schemas.filed_entries import FiledEntriesReport, FiledEntriesRequest, FiledEntry
from pipeline.exports.schemas.plan import as_json

_MAX_BAD: Final = 200
_MAX_NOT_COMPARED: Final = 20
#: One number may be that of entries of several packages and revisions.
_MAX_PLACES: Final = 20

_answers, _submissions, _exports = table(Acknowledgement).c, table(BrokerSubmission).c, table(Export).c
_entries = table(CustomsEntry).c


def import_filed_entries(
    runtime: Runtime, account_id: str, request: FiledEntriesRequest, actor: str, *, test_only: bool
) -> FiledEntriesReport:
    """Record the amounts of each entry of the file, once by their content, and return what became of each.

    Each entry is a transaction of its own; an entry with a bad row is not recorded. `test_only` leaves out live exports.
    Raises ValidationFailed if the file lacks a column or has too many rows or entries, and StoreUnavailable.
    """
    read = read_report(request.text, request.columns)
    found = []
    for number, entry in read.entries.items():
        if entry.is_bad:
            text = "it has a bad row; correct the row and send the file again"
            found.append(FiledEntry(entry_number=number, source=entry.source, result="refused", text=text))
        else:
            importer = None if request.dry_run else actor
            found.append(_import_entry(runtime, account_id, number, entry, importer, test_only=test_only))
    used = {name for name, column in read.columns.model_dump(by_alias=False).items() if column is not None}
    is_given = used <= request.columns.model_dump(by_alias=False, exclude_none=True).keys()
    return FiledEntriesReport(
        dry_run=request.dry_run,
        entries=found,
        bad_rows=read.bad_rows[:_MAX_BAD],
        bad_row_count=len(read.bad_rows),
        columns=read.columns,
        columns_status="given" if is_given else ace_report.STATUS,
        columns_source="the request" if is_given else f"{ace_report.SOURCE} (as of {ace_report.AS_OF})",
        not_read=read.not_read,
    )


def _import_entry(
    runtime: Runtime, account_id: str, number: str, entry: ReadEntry, actor: str | None, *, test_only: bool
) -> FiledEntry:
    """Return what became of an entry. Without an actor, it is compared and not recorded."""
    result = FiledEntry(entry_number=number, source=entry.source, result="unknown")
    places = _find_places(runtime, account_id, number, test_only=test_only)
    if not places:
        return result
    place = places[0]
    if len({each.batch_id for each in places}) > 1:
        named = ", ".join(sorted({each.batch_id for each in places})[:5])
        return _change(result, "refused", text=f"the batches {named} have this entry number")
    result = result.model_copy(update={"export_id": place.export_id})
    if [each.submission_id for each in places].count(place.submission_id) > 1:
        return _change(result, "refused", text="several customs packages of the export have this entry number")
    result = result.model_copy(update={"customs_package_number": place.package_number})
    try:
        answer = _build_answer(number, place.package_number, entry)
    except ValidationError:
        return _change(result, "refused", text="an answer has at most 500 headings and amounts of 12 digits")
    source = AmountsSource(entry.source, frozenset(entry.fees))
    if actor is None and not _is_recorded(runtime, place.submission_id, answer):
        if place.purged_at is not None:
            return _change(result, "refused", text=str(Purged.for_export(place.export_id, "nothing was compared")))
        compared = compare_answer(runtime, place.submission_id, answer, strict=True, source=source)
        return _describe(_change(result, "new"), compared)
    return _record(runtime, place, answer, source, actor, result)


def _record(
    runtime: Runtime,
    place: Row[Any],
    answer: AcknowledgementBody,
    source: AmountsSource,
    actor: str | None,
    result: FiledEntry,
) -> FiledEntry:
    recorded = False
    try:
        if actor is not None and not _is_recorded(runtime, place.submission_id, answer):
            recorded = receive_answer(
                runtime, place.submission_id, answer, actor, by_person=True, source=source
            ).recorded
    except (Purged, InvalidState, NotInHandoff) as error:
        # Two imports at the same time may read the same amounts from other lines.
        if not _is_recorded(runtime, place.submission_id, answer):
            return _change(result, "refused", text=str(error))
    with runtime.db.read() as session:
        answers = read_answers(session, place.submission_id)
    counts = fold_entries([place.package_number], answers)[place.package_number].assessment
    is_newest = counts is not None and counts.answer_id.rpartition(COPIED)[2] == answer.id
    text = None if is_newest or counts is None else f"the amounts of the answer {counts.answer_id} are newer and count"
    return _describe(_change(result, "recorded" if recorded else "repeated", text=text), counts)


def _change(result: FiledEntry, name: str, *, text: str | None = None) -> FiledEntry:
    return result.model_copy(update={"result": name, "text": text})


def _describe(result: FiledEntry, compared: Assessment | None) -> FiledEntry:
    if compared is None:
        return result
    skipped = [f"{each.kind} {each.code}: {each.note}" for each in compared.lines if each.within_tolerance is None]
    return result.model_copy(
        update={
            "differs": compared.differs,
            "differences": compared.describe_differences() or None,
            "not_compared": skipped[:_MAX_NOT_COMPARED],
        }
    )


def _build_answer(number: str, package: str, entry: ReadEntry) -> AcknowledgementBody:
    """Return the answer with the entry's amounts. Its id depends on nothing else, so a repeated file counts once."""
    duties = {heading: f"{sum_exact(amounts):.2f}" for heading, amounts in sorted(entry.duties.items())}
    fees = entry.fees
    digest = hashlib.sha256(json.dumps([number, duties, fees]).encode()).hexdigest()
    return AcknowledgementBody.model_validate(
        {
            "id": f"filed:{digest[:40]}",
            "status": "remark",  # it moves no facet
            "message": f"Imported by the exporter: {entry.source}.",
            "customsPackageNumbers": [package],
            "assessed": {
                "currency": "USD",
                "duties": [{"heading": heading, "amountUsd": amount} for heading, amount in duties.items()],
                "fees": [{"code": code, "amountUsd": amount} for code, amount in fees.items()],
            },
        }
    )


def _is_recorded(runtime: Runtime, submission_id: str, answer: AcknowledgementBody) -> bool:
    """Return whether the handoff has these amounts already, read from whatever lines."""
    is_same = or_(_answers.id == answer.id, _answers.id.endswith(f"{COPIED}{answer.id}"))
    query = select(_answers.assessed).where(_answers.submission_id == submission_id, is_same)
    with runtime.db.read() as session:
        return as_json(answer)["assessed"] in session.scalars(query).all()


def _find_places(runtime: Runtime, account_id: str, number: str, *, test_only: bool) -> Sequence[Row[Any]]:
    """Return the entries with this number, those of the newest revision first; those of test exports without live ones."""
    spelled = [number, format_entry_number(number)]
    query = (
        select(
            _submissions.id.label("submission_id"),
            _submissions.export_id,
            _entries.package_number,
            _exports.batch_id,
            _exports.test,
            _exports.purged_at,
        )
        .join_from(table(BrokerSubmission), table(Export), _exports.id == _submissions.export_id)
        .join(table(CustomsEntry), _entries.submission_id == _submissions.id)
        .where(
            _submissions.id.in_(select(_answers.submission_id).where(_answers.entry_number.in_(spelled))),
            _submissions.account_id == account_id,
            _entries.entry_number.in_(spelled),
        )
        .order_by(_exports.test, _exports.revision.desc(), _exports.id.desc(), _entries.package_number)
        .limit(_MAX_PLACES)
    )
    if test_only:
        query = query.where(_exports.test.is_(True))
    with runtime.db.read() as session:
        found = session.execute(query).all()
    return [each for each in found if each.test == found[0].test]
