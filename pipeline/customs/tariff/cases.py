"""Cases of antidumping and countervailing duty: their file, and those that may concern a plan on a day."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Text, cast, or_
from sqlmodel import Session, col, select

from pipeline.core.errors import InvalidRequest
from pipeline.customs.models import DutyCase, TariffEdition
from pipeline.customs.tariff.rows import (
    LENGTHS,
    NUMBER,
    FileShape,
    is_list,
    list_texts,
    read_rows,
    read_text,
    remove_points,
    split_chunks,
)

SHAPE: Final = FileShape(
    headers={
        "case": "Case Number",
        "name": "Case Name",
        "country": "Country",
        "numbers": "HTS Numbers",
        "status": "Status",
        "rate": "Deposit Rate",
        "from": "From",
        "source": "Source",
    },
    needed=("case", "name", "country", "numbers", "status", "rate", "from", "source"),
    remedy="the documentation, Load the tariff, has the columns of duty cases",
)
#: A-122-857-000: antidumping (A) or countervailing (C), country, product, company. `000` is all others.
_CASE: Final = re.compile(r"([AC])-?(\d{3})-?(\d{3})(?:-?(\d{3}))?", re.ASCII)
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_STATUSES: Final = frozenset({"active", "revoked"})
_ROOT: Final = 7
_ALL_OTHERS: Final = "000"


def parse_case(text: str) -> str | None:
    """Return the case number without dashes, of 10 characters or, without a company, of 7; None if it is not one."""
    found = _CASE.fullmatch(text.strip().upper())
    return None if found is None else "".join(part or "" for part in found.groups())


def format_case(case: str) -> str:
    """Return the case number with dashes, such as A-122-857-000."""
    return "-".join(part for part in (case[:1], case[1:4], case[4:7], case[7:]) if part)


@dataclass(frozen=True)
class CasesOnDay:
    """An edition of duty cases, with the cases that may concern a plan as they are on a day."""

    edition: TariffEdition
    cases: Sequence[DutyCase]

    @cached_property
    def _by_number(self) -> Mapping[str, DutyCase]:
        return {row.case_number: row for row in self.cases}

    @cached_property
    def _active(self) -> Mapping[tuple[str, str], Sequence[DutyCase]]:
        # A plan may have thousands of lines, and a country thousands of cases.
        found: dict[tuple[str, str], list[DutyCase]] = {}
        for row in self.cases:
            if row.status == "active":
                for number in row.numbers:
                    found.setdefault((row.country, number), []).append(row)
        return found

    def find_case(self, case: str) -> DutyCase | None:
        """Return the case of a number; without a company, that of all others. None if the edition does not have it."""
        return self._by_number.get(case if len(case) > _ROOT else f"{case}{_ALL_OTHERS}")

    def list_in_scope(self, number: str, country: str) -> list[DutyCase]:
        """Return the active cases of the country that name the number, one for each product."""
        return _list_products(row for length in LENGTHS for row in self._active.get((country, number[:length]), ()))

    def list_named(self, number: str) -> list[DutyCase]:
        """Return the cases of all countries that name the number, one for each product: an active one before a revoked one."""
        prefixes = _list_prefixes(number)
        named = [row for row in self.cases if prefixes.intersection(row.numbers)]
        active = {row.root for row in named if row.status == "active"}
        return _list_products(row for row in named if row.status == "active" or row.root not in active)


def _list_products(cases: Iterable[DutyCase]) -> list[DutyCase]:
    """Return the first case of each product, which is that of all others if there is one."""
    first = {row.root: row for row in sorted(cases, key=lambda row: row.case_number, reverse=True)}
    return sorted(first.values(), key=lambda row: row.case_number)


def _list_prefixes(number: str) -> set[str]:
    return {number[:length] for length in LENGTHS if length <= len(number)}


def read_cases(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file of duty cases; raises InvalidRequest with the number of the first wrong row."""
    seen: set[tuple[str, date]] = set()
    for number, row in read_rows(path, SHAPE):
        texts = {name: read_text(row, name, number, SHAPE.remedy) for name in SHAPE.headers if name != "numbers"}
        case, country, status = parse_case(texts["case"]), texts["country"].upper(), texts["status"].lower()
        starts = _parse_day(texts["from"])
        if case is None or len(case) == _ROOT:
            raise _wrong(number, "case", texts["case"])
        if not _COUNTRY.fullmatch(country):
            raise _wrong(number, "country", texts["country"])
        if status not in _STATUSES:
            raise _wrong(number, "status", texts["status"])
        if starts is None:
            raise _wrong(number, "from", texts["from"])
        if (case, starts) in seen:
            raise InvalidRequest(f"row {number}: case {texts['case']} begins twice on {starts}; remove one row")
        seen.add((case, starts))
        yield {
            "case_number": case,
            "root": case[:_ROOT],
            "name": texts["name"],
            "country": country,
            "numbers": list(_read_numbers(row["numbers"], number)),
            "status": status,
            "rate": texts["rate"],
            "effective_from": starts,
            "source": texts["source"],
        }


def _read_numbers(value: object, row: int) -> Iterator[str]:
    """Yield the tariff numbers of a row: a list in JSON, in CSV numbers with spaces, commas or semicolons between them."""
    texts = (
        list_texts(value, "numbers", row, SHAPE.remedy) if is_list(value) else re.split(r"[\s,;]+", str(value or ""))
    )
    for text in filter(None, texts):
        digits = remove_points(text)
        if not NUMBER.fullmatch(digits):
            raise _wrong(row, "numbers", text)
        yield digits


def _parse_day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _wrong(row: int, name: str, value: str) -> InvalidRequest:
    return InvalidRequest(f"row {row}: {name} {value[:40]!r} is not valid; {SHAPE.remedy}")


def load_cases(
    session: Session, edition: TariffEdition, on: date, countries: set[str], declared: set[str]
) -> CasesOnDay:
    """Return the edition with the cases of the countries and the declared cases, each as it is on the day."""
    # The last row of a case that has begun is its state.
    states: dict[str, DutyCase] = {}
    roots = sorted({case[:_ROOT] for case in declared})
    for part in split_chunks(roots) if roots else [[]]:
        query = (
            select(DutyCase)
            .where(
                col(DutyCase.edition_id) == edition.id,
                col(DutyCase.effective_from) <= on,
                or_(col(DutyCase.country).in_(sorted(countries)), col(DutyCase.root).in_(part)),
            )
            .order_by(col(DutyCase.effective_from))
        )
        states |= {row.case_number: row for row in session.exec(query)}
    return CasesOnDay(edition, sorted(states.values(), key=lambda row: row.case_number))


def load_number_cases(session: Session, edition: TariffEdition, on: date, number: str) -> CasesOnDay:
    """Return the edition with the cases that name the number or its first digits on the day or named it before."""
    numbers = cast(col(DutyCase.numbers), Text)
    query = (
        select(DutyCase.root)
        .where(
            col(DutyCase.edition_id) == edition.id,
            or_(*(numbers.contains(f'"{prefix}"', autoescape=True) for prefix in sorted(_list_prefixes(number)))),
        )
        .distinct()
    )
    roots = set(session.exec(query))
    return load_cases(session, edition, on, set(), roots) if roots else CasesOnDay(edition, [])
