"""The base types of the dated reference data in config/rules. A file is read once and validated before its first use."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from pipeline.core.findings import Finding, Severity
from pipeline.core.money import ZERO, to_decimal

Status = Literal["confirmed", "probable", "check"]
_BY_CERTAINTY: Final = get_args(Status)  # the most certain first
Metal = Literal["steel", "aluminum", "copper"]


def _parse_figure(value: object) -> object:
    if not isinstance(value, str | Decimal) and type(value) is not int:
        # A YAML float has lost its exact digits before it gets here.
        raise PydanticCustomError("figure_form", "{value} is not a number in quotes", {"value": repr(value)})
    figure = to_decimal(str(value))
    if figure < ZERO:
        raise PydanticCustomError("negative_figure", "{value} is less than zero", {"value": str(value)})
    return figure


def _check_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise ValueError(f"{text!r} is not an id of at most 64 letters, digits, dots and hyphens")
    return text


Figure = Annotated[Decimal, BeforeValidator(_parse_figure)]

RulesetId = Annotated[str, AfterValidator(_check_id)]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")
_ISO_DAY = re.compile(r"^\d{4}-\d{2}-\d{2}$")
CHAPTERS: Final = frozenset(f"{number:02d}" for number in range(1, 98)) - {
    "77"
}  # 77 is reserved; 98 and 99 are not chapters of goods


def _check_day(value: object) -> object:
    # Without this check Pydantic would read a number as seconds since 1970.
    if not isinstance(value, date | None) and not (isinstance(value, str) and _ISO_DAY.match(value)):
        raise PydanticCustomError("day_form", "{value} is not a date", {"value": repr(value)})
    return value


def _check_chapter(text: str) -> str:
    if text not in CHAPTERS:
        raise ValueError(f"{text!r} is not a chapter of goods; chapters are 01 to 97 without 77")
    return text


Day = Annotated[date | None, BeforeValidator(_check_day)]
Chapter = Annotated[str, AfterValidator(_check_chapter)]


class ReferenceData(BaseModel):
    """Reference data: frozen, and closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ReferenceRow(ReferenceData):
    """A rule with its source, its certainty, and its period of validity."""

    effective_from: Day = None
    effective_to: Day = None
    source: Annotated[str, Field(min_length=1)]
    confidence: Literal["high", "medium", "low"]
    status: Status

    @model_validator(mode="after")
    def _days_in_order(self) -> Self:
        begins, ends = self.effective_from, self.effective_to
        if begins is not None and ends is not None and ends < begins:
            raise PydanticCustomError(
                "day_order",
                "effective_to {ends} is before effective_from {begins}",
                {"ends": str(ends), "begins": str(begins)},
            )
        return self

    def in_force(self, on: date) -> bool:
        """Return whether the row is in force on the day; its first and last day count."""
        return (self.effective_from is None or self.effective_from <= on) and (
            self.effective_to is None or on <= self.effective_to
        )

    def has_ended(self, on: date) -> bool:
        """Return whether the row ended before the day."""
        return self.effective_to is not None and self.effective_to < on

    def lies_within(self, other: "ReferenceRow") -> bool:
        """Return whether the other row is in force on every day on which this row is."""
        begins = (self.effective_from or date.min) >= (other.effective_from or date.min)
        return begins and (self.effective_to or date.max) <= (other.effective_to or date.max)

    def overlaps(self, other: "ReferenceRow") -> bool:
        """Return whether both rows are in force on at least one day."""
        begins = max(self.effective_from or date.min, other.effective_from or date.min)
        return begins <= min(self.effective_to or date.max, other.effective_to or date.max)

    @property
    def severity(self) -> Severity:
        """The severity of a breach: a rule with status `check` only warns, others block."""
        return "warn" if self.status == "check" else "block"

    def finding(self, rule: str, pointer: str, message: str, remedy: str) -> Finding:
        """Return a finding with the row's severity and source."""
        return Finding(
            rule=rule, severity=self.severity, pointer=pointer, message=message, remedy=remedy, source=self.source
        )

    def warning(self, rule: str, pointer: str, message: str, remedy: str) -> Finding:
        """Return a finding that warns, whatever the certainty of the row, with its source."""
        return Finding.warning(rule, pointer, message, remedy, self.source)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence for a finding of chapter 99: the status and the source of the rules."""

    status: Status
    source: str

    @property
    def severity(self) -> Severity:
        """The severity of the finding: only rules that were confirmed in the law itself block."""
        return "block" if self.status == "confirmed" else "warn"

    @property
    def cited(self) -> str:
        """The status and the source."""
        return f"{self.status}: {self.source}"

    def rest_on(self, status: Status, source: str) -> "Evidence":
        """Return the evidence that also rests on another source, and is at most as certain."""
        return Evidence(max(self.status, status, key=_BY_CERTAINTY.index), f"{self.source}; {source}")


def combine_evidence(*rows: ReferenceRow) -> Evidence:
    """Return the evidence of the rows together: the status of the least certain row and the source of the first."""
    return Evidence(max((row.status for row in rows), key=_BY_CERTAINTY.index), rows[0].source)


def without_dots(code: str) -> str:
    """Return a dotted tariff code without its dots."""
    return code.replace(".", "")


def join_words(names: Iterable[str]) -> str:
    """Return the names as `A, B and C`; an empty string for no names."""
    names = tuple(names)
    *others, last = names or ("",)
    return f"{', '.join(others)} and {last}" if others else last
