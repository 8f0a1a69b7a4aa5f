"""The dated customs reference data of config/rules, read once and validated before anything is decided by it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache, wraps
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from pipeline.core.errors import RulesInvalid
from pipeline.core.findings import Severity
from pipeline.core.money import to_decimal
from pipeline.customs.reference.loader import RulesReader

#: Where the rules of this version are.
RULES: Final = Path(str(files("config") / "rules"))

Status = Literal["confirmed", "probable", "check"]
_BY_CERTAINTY: Final = get_args(Status)  # from the surest on
Metal = Literal["steel", "aluminum", "copper"]


def _parse_figure(value: object) -> object:
    if not isinstance(value, str | Decimal) and type(value) is not int:
        # A float has lost its digits before anybody could look at them.
        raise PydanticCustomError("figure_form", "{value} is no figure in quotes", {"value": repr(value)})
    return to_decimal(str(value))


Figure = Annotated[Decimal, BeforeValidator(_parse_figure)]

_ISO_DAY = re.compile(r"^\d{4}-\d{2}-\d{2}$")
CHAPTERS: Final = frozenset(f"{number:02d}" for number in range(1, 98)) - {
    "77"
}  # 77 is reserved, 98 and 99 are no goods


def _check_day(value: object) -> object:
    # Else a number would be taken for seconds since 1970.
    if not isinstance(value, date | None) and not (isinstance(value, str) and _ISO_DAY.match(value)):
        raise PydanticCustomError("day_form", "{value} is no day", {"value": repr(value)})
    return value


def _check_chapter(text: str) -> str:
    if text not in CHAPTERS:
        raise ValueError(f"there are no goods of chapter {text}")
    return text


Day = Annotated[date | None, BeforeValidator(_check_day)]
Chapter = Annotated[str, AfterValidator(_check_chapter)]


class ReferenceData(BaseModel):
    """A closed, frozen piece of reference data."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ReferenceRow(ReferenceData):
    """A rule with where it comes from, how sure that is, and when it holds."""

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
                "it ends on {ends}, before it begins on {begins}",
                {"ends": str(ends), "begins": str(begins)},
            )
        return self

    def in_force(self, on: date) -> bool:
        """Tell whether the row is in force on the day, both ends included."""
        return (self.effective_from is None or self.effective_from <= on) and (
            self.effective_to is None or on <= self.effective_to
        )

    def has_ended(self, on: date) -> bool:
        """Tell whether the row was in force before the day and is no more."""
        return self.effective_to is not None and self.effective_to < on

    def lies_within(self, other: ReferenceRow) -> bool:
        """Tell whether the row is in force on no day on which the other is not."""
        begins = (self.effective_from or date.min) >= (other.effective_from or date.min)
        return begins and (self.effective_to or date.max) <= (other.effective_to or date.max)

    def overlaps(self, other: ReferenceRow) -> bool:
        """Tell whether there is a day on which both rows are in force."""
        begins = max(self.effective_from or date.min, other.effective_from or date.min)
        return begins <= min(self.effective_to or date.max, other.effective_to or date.max)

    @property
    def severity(self) -> Severity:
        """Say how loud a breach is: what was only heard of never refuses a plan."""
        return "warn" if self.status == "check" else "block"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a finding of chapter 99 rests on: how sure the rules are, and where they say it."""

    status: Status
    source: str

    @property
    def severity(self) -> Severity:
        """Say how loud the finding is: only law that was read at first hand blocks."""
        return "block" if self.status == "confirmed" else "warn"

    @property
    def cited(self) -> str:
        """The source, with how sure it is."""
        return f"{self.status}: {self.source}"


def combine_evidence(*rows: ReferenceRow) -> Evidence:
    """Return what the rows prove together: they are as sure as the least sure of them, and the first names the source."""
    return Evidence(max((row.status for row in rows), key=_BY_CERTAINTY.index), rows[0].source)


def without_dots(code: str) -> str:
    """Return a dotted tariff code as digits alone."""
    return code.replace(".", "")


def join_words(names: Iterable[str]) -> str:
    """Return the names as a person says them; nothing of none."""
    names = tuple(names)
    *others, last = names or ("",)
    return f"{', '.join(others)} and {last}" if others else last


Loaded = TypeVar("Loaded", bound=ReferenceData)
LoadedOnce = TypeVar("LoadedOnce")


def load_once(load_rules: Callable[[], LoadedOnce]) -> Callable[[], LoadedOnce]:
    """Return the function with its answer kept; threads that call it at once wait for the one that loads.

    `functools.cache` would let each of them load a copy, and what is decided with one copy does not fit another.
    """
    cached, loading = cache(load_rules), threading.Lock()

    @wraps(load_rules)
    def loaded() -> LoadedOnce:
        with loading:
            return cached()

    return loaded


def load_rules_file(model: type[Loaded], name: str) -> Loaded:
    """Return what the file `name` of config/rules holds; raises RulesInvalid, with all that is wrong, where it cannot be right."""
    reader = RulesReader(RULES)
    loaded = reader.read_as(model, name)
    if loaded is None:
        raise RulesInvalid(reader.errors)
    return loaded
