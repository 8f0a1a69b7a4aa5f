"""Editions of the tariff: import, list, remove and compare them, and find the one that is in force on a day."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from heapq import merge
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from sqlalchemy import delete, insert, select
from sqlmodel import Session, col

from pipeline.core.db import table
from pipeline.core.errors import InvalidRequest, InvalidState, NotFound
from pipeline.core.ids import new_id
from pipeline.core.runtime import Runtime
from pipeline.customs.models import TariffEdition, TariffRow
from pipeline.customs.tariff.reader import TariffLine, check_size, read_lines

_BATCH: Final = 1_000
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_CHUNK: Final = 1_048_576
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
#: A number of eight digits has rates; its statistical suffixes have two more.
_RATE_DIGITS: Final = 8
#: The columns that a change of the tariff is about, each with its words.
_COMPARED: Final = {
    "description": "description",
    "units": "units of quantity",
    "general": "general rate",
    "special": "special rate",
    "other": "column 2 rate",
    "quota_quantity": "quota quantity",
    "additional_duties": "additional duties",
    "footnotes": "footnotes",
}


@dataclass(frozen=True)
class ImportedEdition:
    """An edition after its import; not `created` if the same file was imported before."""

    edition: TariffEdition
    created: bool


@dataclass(frozen=True)
class EditionPeriod:
    """An edition with the last day on which it is in force: its own, or the day before the next edition."""

    edition: TariffEdition
    last_day: date | None


@dataclass(frozen=True)
class TariffChange:
    """What changed for one number between two editions: `added`, `removed`, or `changed` in one column."""

    number: str
    what: str
    column: str | None = None
    before: str | None = None
    after: str | None = None


def import_edition(
    runtime: Runtime,
    path: Path,
    *,
    name: str,
    effective_from: date,
    effective_to: date | None = None,
    source: str,
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
) -> ImportedEdition:
    """Store the tariff file as an edition, whole or not at all; the same file with the same days changes nothing.

    Raises InvalidRequest for a wrong file, name or period, and InvalidState if the name or the first day has an edition.
    """
    if _NAME.fullmatch(name) is None or _DAY.fullmatch(name):
        raise InvalidRequest(
            f"the name {name[:80]!r} must have letters, digits, points, dashes or underscores, at most 80, and must not be "
            "a day; give another one"
        )
    if effective_to is not None and effective_to < effective_from:
        raise InvalidRequest(
            f"the last day {effective_to} is before the first day {effective_from}; correct one of them"
        )
    check_size(path)
    content_hash = _hash_file(path)
    edition = TariffEdition(
        id=new_id("trf"),
        name=name,
        effective_from=effective_from,
        effective_to=effective_to,
        content_hash=content_hash,
        source=source,
        rows=0,
        numbers=0,
        chapters=[],
    )
    with runtime.db.read() as session:
        existing = _find_same(session, edition)
    if existing is not None:
        return ImportedEdition(existing, created=False)
    rows = _read_file(path, edition, progress)
    if _hash_file(path) != content_hash:
        raise InvalidState("the file was changed while it was read; import it again")
    # The file was read before: the one writer of SQLite waits only while the rows are written.
    with runtime.db.write() as session:
        existing = _find_same(session, edition)
        if existing is not None:
            return ImportedEdition(existing, created=False)
        session.add(edition)
        session.flush()
        for start in range(0, len(rows), _BATCH):
            session.execute(insert(table(TariffRow)), rows[start : start + _BATCH])
            progress("writing rows", min(start + _BATCH, len(rows)), len(rows))
    return ImportedEdition(edition, created=True)


def _find_same(session: Session, new: TariffEdition) -> TariffEdition | None:
    """Return the stored edition of the same file, name and days; raises InvalidState if another one is in its place."""
    query = select(TariffEdition).where(
        (col(TariffEdition.name) == new.name) | (col(TariffEdition.effective_from) == new.effective_from)
    )
    for stored in session.scalars(query):
        if _identity(stored) == _identity(new):
            return stored
        what = f"is named {new.name}" if stored.name == new.name else f"begins on {new.effective_from}"
        raise InvalidState(
            f"another edition, {stored.name} from {stored.effective_from}, {what}; remove it first by "
            f"`exports tariff remove {stored.name}`, or give another name and day"
        )
    return None


def _identity(edition: TariffEdition) -> tuple[str, str, date, date | None]:
    return edition.name, edition.content_hash, edition.effective_from, edition.effective_to


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def _read_file(
    path: Path, edition: TariffEdition, progress: Callable[[str, int, int | None], None]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    heading, chapters = "", set()
    for position, line in enumerate(read_lines(path), start=1):
        heading = line.number[:4] or heading
        if line.number:
            chapters.add(line.number[:2])
        rows.append(_build_row(edition.id, position, heading, line))
        if position % _BATCH == 0:
            progress(f"{position:,} rows read", position, None)
    edition.rows = len(rows)
    edition.numbers = sum(1 for row in rows if row["number"])
    edition.chapters = sorted(chapters)
    if not edition.numbers:
        raise InvalidRequest("the file has no tariff number in any row; import the file as the USITC publishes it")
    return rows


def _build_row(edition_id: str, position: int, heading: str, line: TariffLine) -> dict[str, Any]:
    return {
        "edition_id": edition_id,
        "position": position,
        "heading": heading,
        "number": line.number,
        "number8": line.number[:8] if len(line.number) >= _RATE_DIGITS else None,
        "indent": line.indent,
        "description": line.description,
        "units": list(line.units),
        "general": line.general,
        "special": line.special,
        "other": line.other,
        "quota_quantity": line.quota_quantity,
        "additional_duties": line.additional_duties,
        "footnotes": list(line.footnotes),
    }


def list_editions(session: Session) -> list[EditionPeriod]:
    """Return all editions, the newest first, with the last day of each."""
    editions = session.scalars(select(TariffEdition).order_by(col(TariffEdition.effective_from).desc())).all()
    periods: list[EditionPeriod] = []
    following: date | None = None
    for edition in editions:
        ends = [edition.effective_to] if edition.effective_to else []
        ends += [following - timedelta(days=1)] if following else []
        periods.append(EditionPeriod(edition, min(ends, default=None)))
        following = edition.effective_from
    return periods


def find_edition(session: Session, on: date) -> TariffEdition | None:
    """Return the edition that is in force on the day, or None if none is."""
    newest = session.scalars(
        select(TariffEdition)
        .where(col(TariffEdition.effective_from) <= on)
        .order_by(col(TariffEdition.effective_from).desc())
        .limit(1)
    ).first()
    ended = newest is not None and newest.effective_to is not None and newest.effective_to < on
    return None if ended else newest


def get_edition(session: Session, name: str) -> TariffEdition:
    """Return the edition with this name, or in force on this day such as 2026-11-24; raises NotFound."""
    found = session.scalars(select(TariffEdition).where(col(TariffEdition.name) == name)).first()
    if found is None and _DAY.fullmatch(name):
        try:
            found = find_edition(session, date.fromisoformat(name))
        except ValueError:
            found = None
    if found is None:
        raise NotFound(f"there is no edition {name[:80]}; `exports tariff list` shows the editions")
    return found


def remove_edition(runtime: Runtime, name: str) -> TariffEdition:
    """Remove the edition with its rows and return it; raises NotFound."""
    with runtime.db.write() as session:
        edition = get_edition(session, name)
        session.execute(delete(TariffRow).where(col(TariffRow.edition_id) == edition.id))
        session.delete(edition)
        return edition


def compare_editions(session: Session, before: TariffEdition, after: TariffEdition) -> Iterator[TariffChange]:
    """Yield what changed between two editions, in the order of the numbers. Rows without a number are not compared."""
    sides = [_group_rows(session, edition, place) for place, edition in enumerate((before, after))]
    for number, found in groupby(merge(*sides, key=itemgetter(0)), key=itemgetter(0)):
        rows = {place: each for _, place, each in found}
        if 0 not in rows:
            yield TariffChange(number, "added", after=rows[1][0].description)
        elif 1 not in rows:
            yield TariffChange(number, "removed", before=rows[0][0].description)
        else:
            yield from _compare_rows(number, rows[0], rows[1])


def _group_rows(session: Session, edition: TariffEdition, place: int) -> Iterator[tuple[str, int, Sequence[TariffRow]]]:
    query = (
        select(TariffRow)
        .where(col(TariffRow.edition_id) == edition.id, col(TariffRow.number) != "")
        .order_by(col(TariffRow.number), col(TariffRow.position))
        .execution_options(yield_per=_BATCH)
    )
    for number, rows in groupby(session.scalars(query), key=lambda row: row.number):
        yield number, place, list(rows)


def _compare_rows(number: str, before: Sequence[TariffRow], after: Sequence[TariffRow]) -> Iterator[TariffChange]:
    for name, words in _COMPARED.items():
        values = [" / ".join(_to_text(getattr(row, name)) for row in rows) for rows in (before, after)]
        if values[0] != values[1]:
            yield TariffChange(number, "changed", words, *values)


def _to_text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)
