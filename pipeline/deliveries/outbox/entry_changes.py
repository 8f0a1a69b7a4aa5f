"""What the handoff of a newer revision says about earlier entries: those that go on, and those that it corrects."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from typing import Any, Final

from sqlalchemy import select, tuple_
from sqlmodel import Session

from pipeline.core.db import table
from pipeline.core.field_types import mask_numbers
from pipeline.deliveries.entries.revisions import EarlierEntry
from pipeline.deliveries.schemas.to_broker import ChangedField, CorrectedEntry, KeptEntry
from pipeline.documents.repository import PURGED
from pipeline.exports.models import ExportUnit
from pipeline.exports.revision_diff import FieldChange, compare_plans

#: The most differences that a handoff lists, of all entries together, and the most characters of a value.
MAX_CHANGES: Final = 200
_MAX_VALUE: Final = 400

_units = table(ExportUnit).c


def describe_kept(kept: Sequence[EarlierEntry]) -> dict[str, KeptEntry]:
    """Return what the handoff says about the entries that go on, by unitRef."""
    return {
        each.unit_ref: KeptEntry(
            export_id=each.export_id,
            revision=each.revision,
            submission_id=each.submission_id,
            entry_number=each.entry_number,
            status=each.status,
        )
        for each in kept
    }


def describe_corrected(
    session: Session, corrected: Sequence[EarlierEntry], documents: Mapping[str, str]
) -> list[CorrectedEntry]:
    """Return what the handoff says about the entries that it corrects; `documents` are its units as JSON, by unitRef."""
    earlier = _load_documents(session, corrected)
    left, described = MAX_CHANGES, []
    for each in corrected:
        unit_no, before = earlier[each.export_id, each.unit_ref]
        after = documents.get(each.unit_ref)
        changes: list[ChangedField] = []
        omitted = 0
        if after is not None and before != PURGED:
            found = _compare_units(before, after, unit_no)
            changes = [_describe_change(change) for change in islice(found, left)]
            omitted = sum(1 for _ in found)
        left -= len(changes)
        described.append(
            CorrectedEntry(**asdict(each), removed=after is None, changes=changes, changes_omitted=omitted)
        )
    return described


def _compare_units(before: str, after: str, unit_no: int) -> Iterator[FieldChange]:
    """Yield the differences of a unit, as JSON texts; the older plan has it at this number."""
    old, new = ({"units": [json.loads(each)]} for each in (before, after))
    for change in compare_plans(old, new):
        pointer = change.pointer
        if pointer is not None:
            pointer = f"/units/{unit_no - 1}{pointer.removeprefix('/units/0')}"
        yield replace(change, pointer=pointer)


def _load_documents(session: Session, corrected: Sequence[EarlierEntry]) -> dict[tuple[str, str], tuple[int, str]]:
    if not corrected:
        return {}
    wanted = [(each.export_id, each.unit_ref) for each in corrected]
    rows = session.execute(
        select(_units.export_id, _units.unit_ref, _units.unit_no, _units.document).where(
            tuple_(_units.export_id, _units.unit_ref).in_(wanted)
        )
    )
    return {(row.export_id, row.unit_ref): (row.unit_no, row.document) for row in rows}


def _describe_change(change: FieldChange) -> ChangedField:
    words = [word for word in (change.entry_ref, change.field or "whole entry") if word]
    return ChangedField(
        pointer=change.pointer, field=": ".join(words), old=_describe_value(change.old), new=_describe_value(change.new)
    )


def _describe_value(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = mask_numbers(text)
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}…"
