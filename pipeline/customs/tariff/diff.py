"""Compares two editions of one kind: what was added, removed and changed, by tariff number or by case."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any, Final

from sqlalchemy import Text, cast, select
from sqlmodel import Session

from pipeline.core.db import table
from pipeline.core.errors import InvalidRequest
from pipeline.customs.models import TariffEdition, TariffRow
from pipeline.customs.tariff.editions import MODELS

_BATCH: Final = 1_000
#: For each kind, the column that names a row, the one that describes it, and those that are compared, with their words.
_KEYS: Final = {"tariff": "number", "agency-flags": "number", "duty-cases": "case_number"}
_TITLES: Final = {"tariff": "description", "agency-flags": "flag", "duty-cases": "name"}
_COMPARED: Final[Mapping[str, Mapping[str, str]]] = {
    "tariff": {
        "description": "description",
        "units": "units of quantity",
        "general": "general rate",
        "special": "special rate",
        "other": "column 2 rate",
        "quota_quantity": "quota quantity",
        "additional_duties": "additional duties",
        "footnotes": "footnotes",
    },
    "agency-flags": {"flag": "flag", "requirement": "requirement", "agency": "agency", "meaning": "meaning"},
    "duty-cases": {
        "name": "name",
        "country": "country",
        "numbers": "tariff numbers",
        "effective_from": "days",
        "status": "status",
        "rate": "deposit rate",
    },
}


@dataclass(frozen=True)
class TariffChange:
    """What changed for one number between two editions: `added`, `removed`, or `changed` in one column."""

    number: str
    what: str
    column: str | None = None
    before: str | None = None
    after: str | None = None


def compare_editions(session: Session, before: TariffEdition, after: TariffEdition) -> Iterator[TariffChange]:
    """Yield what changed between two editions, in the order of their numbers. Rows without a number are not compared.

    Footnotes are compared only if both editions have them: the CSV of the USITC has none.
    Raises InvalidRequest for editions of two kinds.
    """
    if before.kind != after.kind:
        raise InvalidRequest(
            f"{before.name} is an edition of the kind {before.kind}, and {after.name} of {after.kind}; name two of one kind"
        )
    title = attrgetter(_TITLES[before.kind])
    compared = dict(_COMPARED[before.kind])
    if not all(_has_footnotes(session, edition) for edition in (before, after)):
        compared.pop("footnotes", None)
    sides = [_group_rows(session, edition, place) for place, edition in enumerate((before, after))]
    for number, found in groupby(merge(*sides, key=itemgetter(0)), key=itemgetter(0)):
        rows = {place: each for _, place, each in found}
        if 0 not in rows:
            yield TariffChange(number, "added", after=title(rows[1][0]))
        elif 1 not in rows:
            yield TariffChange(number, "removed", before=title(rows[0][0]))
        else:
            yield from _compare_rows(number, rows[0], rows[1], compared)


def _has_footnotes(session: Session, edition: TariffEdition) -> bool:
    if edition.kind != "tariff":
        return False
    columns = table(TariffRow).c
    query = select(columns.position).where(
        columns.edition_id == edition.id, cast(columns.footnotes, Text).not_in(["[]", "null"])
    )
    return session.scalars(query.limit(1)).first() is not None


def _group_rows(session: Session, edition: TariffEdition, place: int) -> Iterator[tuple[str, int, Sequence[Any]]]:
    model = MODELS[edition.kind]
    columns = table(model).c
    key = columns[_KEYS[edition.kind]]
    query = (
        select(model)
        .where(columns.edition_id == edition.id, key != "")
        .order_by(key, columns.position)
        .execution_options(yield_per=_BATCH)
    )
    for number, rows in groupby(session.scalars(query), key=attrgetter(key.name)):
        yield number, place, list(rows)


def _compare_rows(
    number: str, before: Sequence[Any], after: Sequence[Any], compared: Mapping[str, str]
) -> Iterator[TariffChange]:
    for name, words in compared.items():
        values = [" / ".join(_to_text(getattr(row, name)) for row in rows) for rows in (before, after)]
        if values[0] != values[1]:
            yield TariffChange(number, "changed", words, *values)


def _to_text(value: object) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
