"""Formats amounts, numbers, codes and addresses of an invoice for people."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, TypeVar

from pipeline.core import money
from pipeline.core.errors import StepFailed
from pipeline.documents.schemas.invoice import Pair, Printed
from pipeline.exports.schemas.plan import Address

T = TypeVar("T")

#: The most ranges of line numbers that are listed; of more, only the count is given.
MAX_RANGES = 12

# The places between a small letter or digit and a capital, at which camelCase splits into words.
_CAPITALS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

#: Words that are written in capitals: agencies, and numbers that they give.
_ABBREVIATIONS: Final = frozenset(
    "aphis atf bn cas cbp cpsc ddtc dea dot duns ein eori epa fcc fda fei fsis fws gln gtin hts id irs lpco mid nhtsa nmfs ssn"
    " ttb uid usda vat".split()
)


def look_up(items: Mapping[str, T], ref: str, kind: str, wanted_by: str) -> T:
    """Return the item with this ref; raises StepFailed, naming `wanted_by`, if it does not exist."""
    try:
        return items[ref]
    except KeyError:
        raise StepFailed(
            f"{wanted_by} names {kind} {ref}, which the unit does not have; correct the reference."
        ) from None


def sorted_pairs(values: Mapping[str, str]) -> tuple[Pair, ...]:
    """Return the named values sorted by name, because their order in the plan has no meaning."""
    return tuple(Pair(name=name, value=value) for name, value in sorted(values.items()))


def spell_names(values: tuple[Pair, ...]) -> tuple[Pair, ...]:
    """Return the pairs with their names as words."""
    return tuple(pair.model_copy(update={"name": spell_name(pair.name)}) for pair in values)


def spell_name(name: str) -> str:
    """Return a name of the plan's data as words, such as `FDA product code` for `fdaProductCode`."""
    words = _CAPITALS.sub(" ", space_words(name)).lower().split(" ")
    return " ".join(word.upper() if word in _ABBREVIATIONS else word for word in words)


def spell_title(name: str) -> str:
    """Return a name of the plan's data as words with a capital, such as `Business number` for `businessNumber`."""
    words = spell_name(name)
    return words[:1].upper() + words[1:]


def format_amount(value: Decimal, currency: str) -> Printed:
    """Return an amount in `currency`: the exact value, and with grouped digits and its decimals."""
    return Printed(value, money.format_amount(value, currency))


def format_number(value: Decimal) -> Printed:
    """Return a quantity, weight or length: the exact value, and with grouped digits."""
    return Printed(value, group_digits(value))


def group_digits(value: Decimal) -> str:
    """Return `value` with all of its digits and a comma at every thousand."""
    return f"{value:,f}"


def format_moment(moment: datetime) -> Printed:
    """Return a time with its zone: in UTC, and as the plan gives it, such as `2026-11-27 13:00 UTC-05:00`."""
    return Printed(f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}", f"{moment:%Y-%m-%d %H:%M} {moment.tzname()}")


def format_code(word: str) -> Printed:
    """Return a code of the plan and its words, such as `inland_freight` and `Inland freight`."""
    return Printed(word, space_words(word).capitalize())


def space_words(code: str) -> str:
    """Return `code` with spaces for underscores."""
    return code.replace("_", " ")


def format_hts(code: str) -> Printed:
    """Return an HTS code as ten digits and in the form of the tariff, `7323.93.0045`."""
    return Printed(code, f"{code[:4]}.{code[4:6]}.{code[6:]}")


def format_address(address: Address) -> tuple[str, ...]:
    """Return the printed lines of an address."""
    place = " ".join(part for part in (address.city, address.region, address.postal_code) if part)
    return tuple(line for line in (address.line1, address.line2, f"{place}, {address.country}") if line)


def format_ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as ranges, such as `1-3, 7` for 1, 2, 3, 7."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in spans)


def format_line_numbers(numbers: Sequence[int]) -> str:
    """Return ascending line numbers as ranges, or as `count of first-last` if there are many ranges."""
    text = format_ranges(numbers)
    return text if text.count(",") < MAX_RANGES else f"{len(numbers):,} of {numbers[0]}-{numbers[-1]}"
