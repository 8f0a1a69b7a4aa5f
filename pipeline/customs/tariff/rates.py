"""Reads rates of duty: free, ad valorem, specific and compound ones; any other text stays text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from pipeline.core.money import multiply, to_decimal
from pipeline.customs.schemas import RateKind

_FREE: Final = re.compile(r"free", re.IGNORECASE)
_NUMBER: Final = r"\d{1,6}(?:\.\d{1,6})?"
_PERCENT: Final = re.compile(rf"({_NUMBER}) ?%")
_SPECIFIC: Final = re.compile(
    rf"(?:(?P<cents>{_NUMBER}) ?(?:¢|cents?)|\$ ?(?P<dollars>{_NUMBER})) ?"
    r"(?:/ ?(?P<per>[A-Za-z][A-Za-z0-9]{0,11}\.?(?: [A-Za-z0-9]{1,12}\.?)?)|(?P<each>each))"
)
#: A rate and the programs that it is for, such as `Free (A+,AU,S)`.
_GROUP: Final = re.compile(r"(?P<rate>[^()]+)\((?P<programs>[A-Z0-9+*, ]+)\)")
_PROGRAM: Final = re.compile(r"[A-Z]{1,2}[+*]?")
_CENT: Final = to_decimal("0.01")


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate of duty: its text, and its parts if the text is understood.

    `percent` is of the value; `amount` is in US dollars for each `per`, a unit of quantity as the tariff writes it. A rate
    of the kind `text` has neither part: a person must read it.
    """

    text: str
    kind: RateKind
    percent: Decimal | None = None
    amount: Decimal | None = None
    per: str | None = None


@dataclass(frozen=True, slots=True)
class SpecialRate:
    """A rate of the special column, and the symbols of the programs that it is for; a text may have none."""

    rate: Rate
    programs: tuple[str, ...]


def parse_rate(text: str) -> Rate | None:
    """Return the rate that the text of a column says; None if the column is empty."""
    text = text.strip()
    if not text:
        return None
    if _FREE.fullmatch(text):
        return Rate(text, "free")
    percent: Decimal | None = None
    specific: re.Match[str] | None = None
    for part in (each.strip() for each in text.split("+")):
        if percent is None and (found := _PERCENT.fullmatch(part)):
            percent = to_decimal(found[1])
        elif specific is None and (found := _SPECIFIC.fullmatch(part)):
            specific = found
        else:
            return Rate(text, "text")
    if specific is None:
        return Rate(text, "ad_valorem", percent=percent)
    amount = to_decimal(specific["dollars"]) if specific["dollars"] else multiply(to_decimal(specific["cents"]), _CENT)
    per = specific["each"] or specific["per"].strip()
    return Rate(text, "specific" if percent is None else "compound", percent=percent, amount=amount, per=per)


def parse_special_rates(text: str) -> tuple[SpecialRate, ...]:
    """Return the rates of the special column with their programs; a part that is not understood is a rate of text."""
    return tuple(_parse_groups(" ".join(text.split())))


def _parse_groups(text: str) -> Iterator[SpecialRate]:
    position = 0
    while position < len(text):
        group = _GROUP.match(text, position)
        programs = tuple(each.strip() for each in group["programs"].split(",")) if group else ()
        rate = parse_rate(group["rate"]) if group else None
        if group is None or rate is None or not all(_PROGRAM.fullmatch(each) for each in programs):
            yield SpecialRate(Rate(text[position:].strip(), "text"), ())
            return
        yield SpecialRate(rate, programs)
        position = group.end()
        while position < len(text) and text[position] in " ;,":
            position += 1
