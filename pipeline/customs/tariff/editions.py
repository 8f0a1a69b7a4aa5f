"""Editions of the tariff: import, list, remove and compare them, and find the one that is in force on a day."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import aliased
from sqlmodel import Session, SQLModel, col

from pipeline.core.db import table
from pipeline.core.errors import InvalidRequest, InvalidState, NotFound
from pipeline.core.ids import new_id
from pipeline.core.runtime import Runtime
from pipeline.customs.models import DutyCase, NumberFlag, TariffEdition, TariffRow
from pipeline.customs.tariff import cases, flags, reader
from pipeline.customs.tariff.cases import read_cases
from pipeline.customs.tariff.flags import read_flags
from pipeline.customs.tariff.reader import TariffLine, read_lines
from pipeline.customs.tariff.rows import RATE_DIGITS, check_size

EditionKind = Literal["tariff", "agency-flags", "duty-cases"]
#: The table of the rows of each kind.
MODELS: Final[Mapping[str, type[SQLModel]]] = {"tariff": TariffRow, "agency-flags": NumberFlag, "duty-cases": DutyCase}

_REMEDIES: Final = {"tariff": reader.SHAPE.remedy, "agency-flags": flags.SHAPE.remedy, "duty-cases": cases.SHAPE.remedy}
_BATCH: Final = 1_000
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_CHUNK: Final = 1_048_576
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


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


def import_edition(
    runtime: Runtime,
    path: Path,
    *,
    kind: EditionKind = "tariff",
    name: str,
    effective_from: date,
    effective_to: date | None = None,
    source: str,
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
) -> ImportedEdition:
    """Store the file as an edition of its kind, whole or not at all; the same file with the same days changes nothing.

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
    check_size(path, _REMEDIES[kind])
    content_hash = _hash_file(path)
    edition = TariffEdition(
        id=new_id("trf"),
        kind=kind,
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
            session.execute(insert(table(MODELS[kind])), rows[start : start + _BATCH])
            progress("writing rows", min(start + _BATCH, len(rows)), len(rows))
    return ImportedEdition(edition, created=True)


def _find_same(session: Session, new: TariffEdition) -> TariffEdition | None:
    """Return the stored edition of the same file, name and days; raises InvalidState if another one is in its place."""
    query = select(TariffEdition).where(
        (col(TariffEdition.name) == new.name)
        | ((col(TariffEdition.kind) == new.kind) & (col(TariffEdition.effective_from) == new.effective_from))
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


def _identity(edition: TariffEdition) -> tuple[str, str, str, date, date | None]:
    return edition.kind, edition.name, edition.content_hash, edition.effective_from, edition.effective_to


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
    for row in _READERS[edition.kind](path):
        rows.append({"edition_id": edition.id, "position": len(rows) + 1, **row})
        if len(rows) % _BATCH == 0:
            progress(f"{len(rows):,} rows read", len(rows), None)
    key = "case_number" if edition.kind == "duty-cases" else "number"
    edition.rows = len(rows)
    edition.numbers = (
        sum(1 for row in rows if row[key]) if edition.kind == "tariff" else len({row[key] for row in rows})
    )
    edition.chapters = [] if edition.kind == "duty-cases" else sorted({row[key][:2] for row in rows if row[key]})
    if not edition.numbers:
        raise InvalidRequest(f"the file has no tariff number in any row; {_REMEDIES['tariff']}")
    return rows


def _read_tariff(path: Path) -> Iterator[dict[str, Any]]:
    heading = ""
    for line in read_lines(path):
        heading = line.number[:4] or heading
        yield _build_row(heading, line)


def _build_row(heading: str, line: TariffLine) -> dict[str, Any]:
    return {
        "heading": heading,
        "number": line.number,
        "number8": line.number[:RATE_DIGITS] if len(line.number) >= RATE_DIGITS else None,
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


#: For each kind of edition, how its file is read.
_READERS: Final[Mapping[str, Callable[[Path], Iterator[dict[str, Any]]]]] = {
    "tariff": _read_tariff,
    "agency-flags": read_flags,
    "duty-cases": read_cases,
}


def list_editions(session: Session) -> list[EditionPeriod]:
    """Return all editions, the newest first, with the last day of each."""
    order = col(TariffEdition.effective_from).desc(), col(TariffEdition.kind)
    periods: list[EditionPeriod] = []
    following: dict[str, date] = {}
    for edition in session.scalars(select(TariffEdition).order_by(*order)):
        ends = [edition.effective_to] if edition.effective_to else []
        ends += [following[edition.kind] - timedelta(days=1)] if edition.kind in following else []
        periods.append(EditionPeriod(edition, min(ends, default=None)))
        following[edition.kind] = edition.effective_from
    return periods


def find_edition(session: Session, on: date, kind: EditionKind = "tariff") -> TariffEdition | None:
    """Return the edition of the kind that is in force on the day, or None if none is."""
    return find_editions(session, on).get(kind)


def find_editions(session: Session, on: date) -> dict[str, TariffEdition]:
    """Return the edition of each kind that is in force on the day, by one query."""
    other = aliased(TariffEdition)
    newest = (
        select(func.max(col(other.effective_from)))
        .where(col(other.kind) == col(TariffEdition.kind), col(other.effective_from) <= on)
        .scalar_subquery()
    )
    query = select(TariffEdition).where(col(TariffEdition.effective_from) == newest)
    return {
        edition.kind: edition
        for edition in session.scalars(query)
        if edition.effective_to is None or edition.effective_to >= on
    }


def get_edition(session: Session, name: str, kind: EditionKind = "tariff") -> TariffEdition:
    """Return the edition with this name, or that of the kind in force on this day such as 2026-11-24; raises NotFound."""
    found = session.scalars(select(TariffEdition).where(col(TariffEdition.name) == name)).first()
    if found is None and _DAY.fullmatch(name):
        try:
            found = find_edition(session, date.fromisoformat(name), kind)
        except ValueError:
            found = None
    if found is None:
        raise NotFound(f"there is no edition {name[:80]}; `exports tariff list` shows the editions")
    return found


def remove_edition(runtime: Runtime, name: str) -> TariffEdition:
    """Remove the edition with its rows and return it; raises NotFound."""
    with runtime.db.write() as session:
        edition = get_edition(session, name)
        rows = MODELS[edition.kind]
        session.execute(delete(rows).where(table(rows).c.edition_id == edition.id))
        session.delete(edition)
        return edition
