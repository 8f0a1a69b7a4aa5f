"""The cases of antidumping and countervailing duty that a line declares, and the deposits that an export keeps of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.customs.tariff.cases import CasesOnDay, format_case, parse_case
from pipeline.exports.line_declarations import CASES, SEPARATOR, split_cases
from pipeline.exports.schemas.plan import Line

#: The attributes of a line: its cases, their deposit rates in the same order, and why no case covers the goods.
RATES: Final = "adCvdRate"
DISCLAIMER: Final = "adCvdDisclaimer"
#: The kinds of duty by the first letter of a case.
KINDS: Final = {"A": "antidumping deposit", "C": "countervailing deposit"}


@dataclass(frozen=True)
class DeclaredCase:
    """A case as the line declares it; `number` is None if the text is not a case number, `rate` if none is given."""

    text: str
    number: str | None
    rate: str | None

    @property
    def name(self) -> str:
        """The case number with dashes, or the text if it is not one."""
        return self.text if self.number is None else format_case(self.number)


def list_declared(line: Line) -> list[DeclaredCase]:
    """Return the cases that the line declares, in its order."""
    return list(_read_declared(line.attributes.get(CASES) or "", line.attributes.get(RATES) or ""))


def _read_declared(cases: str, rates: str) -> Iterator[DeclaredCase]:
    given = [text.strip() for text in SEPARATOR.split(rates)]
    for place, text in enumerate(split_cases(cases)):
        rate = given[place] if place < len(given) else ""
        yield DeclaredCase(text, parse_case(text), rate or None)


def list_all_declared(lines: Sequence[Line]) -> list[DeclaredCase]:
    """Return each declared case once, in the order of the lines."""
    return list(dict.fromkeys(case for line in lines for case in list_declared(line)))


def find_deposit_rate(cases: CasesOnDay, case: DeclaredCase) -> str | None:
    """Return the deposit rate of an active case on the day; None if the edition has none."""
    row = None if case.number is None else cases.find_case(case.number)
    return row.rate if row is not None and row.status == "active" and row.rate else None
