"""The models of the headings files: rows of headings, import bans, duties without a heading, and open questions."""

import re
from datetime import date
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline.core.money import format_plain
from pipeline.customs.reference.base import CHAPTERS, Figure, ReferenceData, ReferenceRow, without_dots
from pipeline.customs.reference.chapter99 import TOTAL_WITH_COLUMN_1, Basis, Country, HeadingRow, Origin

_PREFIX = re.compile(r"^\d{2}(\d{2}(\.\d{2}(\.\d{2}(\d{2})?)?)?)?$")


def _check_prefix(code: str) -> str:
    if not _PREFIX.match(code) or code[:2] not in CHAPTERS:
        raise ValueError(f"{code!r} is not a chapter or an HTS provision such as 85, 8541, 8541.43.00 or 8541.43.0010")
    return code


Prefix = Annotated[str, AfterValidator(_check_prefix)]


class ImportBan(ReferenceRow):
    """Goods whose import is excluded; `unless` is an exception that only a person can confirm."""

    list: str
    origins: frozenset[Country]
    what: str
    unless: str | None = None


class GoodsRule(ReferenceRow):
    """A rule for goods by the first digits of their numbers, and by their origins if it names some."""

    codes: Annotated[tuple[Prefix, ...], Field(min_length=1)]
    origins: frozenset[Origin] = frozenset()

    @cached_property
    def prefixes(self) -> tuple[str, ...]:
        """The codes without dots."""
        return tuple(map(without_dots, self.codes))

    def covers(self, hts_code: str, origin: str, on: date) -> bool:
        """Return whether the row is for goods of the number and the origin on the day."""
        return self.in_force(on) and (not self.origins or origin in self.origins) and hts_code.startswith(self.prefixes)


class PriceFloor(ReferenceData):
    """A duty of `amount` US dollars for each `per`; with the document it is what the entered value is below that."""

    amount: Figure
    per: str
    document: str


class OpenDuty(GoodsRule):
    """A duty on goods whose heading no text names yet: a rate in percent, or a price floor.

    The first row of a program that covers the goods decides. `unless` is an exception that only a person can confirm.
    """

    program: str
    description: str
    rate_percent: Figure | None = None
    basis: Basis = "full_value"
    floor: PriceFloor | None = None
    unless: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.rate_percent is None) == (self.floor is None):
            raise ValueError("a duty without a heading has either rate_percent or floor")
        return self

    @property
    def name(self) -> str:
        """The program and what the row is for; rows of one name follow one another in time."""
        return f"{self.program}, {self.description}"

    @property
    def rate(self) -> str:
        """The rate as the estimate writes it, such as `15 %` or `$0.38/W`."""
        if self.floor is not None:
            return f"${format_plain(self.floor.amount)}/{self.floor.per}"
        return f"{format_plain(self.rate_percent)} %" if self.rate_percent is not None else ""

    @property
    def text(self) -> str:
        """The program and the rate, what lowers it and what excepts from it, in sentences."""
        total = " in all with column 1" if self.basis == TOTAL_WITH_COLUMN_1 else ""
        text = f"{self.program}, {self.description}: {self.rate}{total}."
        if self.floor is not None:
            text += f" It is only what the entered value is below that, if {self.floor.document}."
        return text if self.unless is None else f"{text} It is not due if {self.unless}."


class Question(GoodsRule):
    """A known program whose text these rules lack: what is not known of the goods, and who decides it.

    One of `relief` can only lower a duty.
    """

    id: str
    unknown: str
    decides: str
    relief: bool = False


class HeadingSheet(ReferenceData):
    """A part of a headings file, whose rows share their `defaults`; `open` are duties whose heading is open."""

    rows: tuple[HeadingRow, ...] = ()
    bans: tuple[ImportBan, ...] = ()
    open: tuple[OpenDuty, ...] = ()
    questions: tuple[Question, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, sheet: Any) -> Any:
        if not isinstance(sheet, dict) or not isinstance(sheet.get("defaults", {}), dict):
            return sheet
        result = dict(sheet)
        defaults = result.pop("defaults", {})
        common = {key: value for key, value in defaults.items() if key not in ("program", "basis")}
        for name, shared in (("rows", defaults), ("bans", common), ("open", defaults), ("questions", common)):
            if isinstance(result.get(name), list):
                result[name] = [shared | row if isinstance(row, dict) else row for row in result[name]]
        return result
