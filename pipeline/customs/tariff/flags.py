"""Flags of partner government agencies by tariff number: their file, and those of a plan's numbers on a day."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlmodel import Session, col, select

from pipeline.core.errors import InvalidRequest
from pipeline.customs.models import NumberFlag, TariffEdition
from pipeline.customs.tariff.rows import LENGTHS, NUMBER, FileShape, read_rows, read_text, remove_points, split_chunks

SHAPE: Final = FileShape(
    headers={
        "htsno": "HTS Number",
        "flag": "Agency Tariff Code",
        "agency": "Agency",
        "requirement": "Requirement",
        "meaning": "Meaning",
    },
    needed=("htsno", "flag", "agency"),
    remedy="the documentation, Load the tariff, has the columns of agency flags",
)
_FLAG: Final = re.compile(r"[A-Z0-9]{3}")
_AGENCY: Final = re.compile(r"[A-Z]{3}")
_REQUIREMENTS: Final = frozenset({"", "may", "must"})


@dataclass(frozen=True)
class FlagsOnDay:
    """An edition of agency flags, with the rows of a plan's numbers."""

    edition: TariffEdition
    rows: Mapping[str, Sequence[NumberFlag]]

    def list_flags(self, number: str) -> list[NumberFlag]:
        """Return the flags of a number; if two rows have a flag, the one with more digits counts."""
        found: dict[str, NumberFlag] = {}
        for length in LENGTHS:
            found |= {row.flag: row for row in self.rows.get(number[:length], ()) if len(number) >= length}
        return list(found.values())


def read_flags(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file of agency flags; raises InvalidRequest with the number of the first wrong row."""
    seen: set[tuple[str, str]] = set()
    for number, row in read_rows(path, SHAPE):
        texts = {name: read_text(row, name, number, SHAPE.remedy) for name in SHAPE.headers}
        digits = remove_points(texts["htsno"])
        flag, agency, requirement = texts["flag"].upper(), texts["agency"].upper(), texts["requirement"].lower()
        for name, value, fits in (
            ("htsno", texts["htsno"], NUMBER.fullmatch(digits)),
            ("flag", texts["flag"], _FLAG.fullmatch(flag)),
            ("agency", texts["agency"], _AGENCY.fullmatch(agency)),
            ("requirement", texts["requirement"], requirement in _REQUIREMENTS),
        ):
            if not fits:
                raise InvalidRequest(f"row {number}: {name} {value[:40]!r} is not valid; {SHAPE.remedy}")
        if (digits, flag) in seen:
            raise InvalidRequest(f"row {number}: {texts['htsno']} has flag {flag} twice; remove one row")
        seen.add((digits, flag))
        yield {
            "number": digits,
            "flag": flag,
            "agency": agency,
            "requirement": requirement,
            "meaning": texts["meaning"],
        }


def load_flags(session: Session, edition: TariffEdition, numbers: set[str]) -> FlagsOnDay:
    """Return the edition with the rows of the numbers and of their first digits."""
    wanted = {number[:length] for number in numbers for length in LENGTHS}
    rows: dict[str, list[NumberFlag]] = {}
    for part in split_chunks(sorted(wanted)):
        query = (
            select(NumberFlag)
            .where(col(NumberFlag.edition_id) == edition.id, col(NumberFlag.number).in_(part))
            .order_by(col(NumberFlag.position))
        )
        for row in session.exec(query):
            rows.setdefault(row.number, []).append(row)
    return FlagsOnDay(edition, rows)
