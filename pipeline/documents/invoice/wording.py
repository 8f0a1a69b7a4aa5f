"""The words of an invoice: how amounts, numbers and codes are written for people."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TypeVar

from pipeline.core import money
from pipeline.core.errors import StepFailed
from pipeline.documents.schemas.invoice import Pair, Printed
from pipeline.exports.schemas.plan import Address

T = TypeVar("T")

#: Ranges of line numbers that are told one by one.
MAX_RANGES = 12

# Between a small letter or digit and a capital one, where a name of several words has its joints.
_CAPITALS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def look_up(items: Mapping[str, T], ref: str, kind: str, wanted_by: str) -> T:
    """Return what `ref` names; raises StepFailed, naming `wanted_by`, where it names nothing."""
    try:
        return items[ref]
    except KeyError:
        raise StepFailed(
            f"{wanted_by} names {kind} {ref}, which the unit does not have; correct the reference."
        ) from None


def sorted_pairs(values: Mapping[str, str]) -> tuple[Pair, ...]:
    """Return the named values by name: their order in the plan is not a fact."""
    return tuple(Pair(name=name, value=value) for name, value in sorted(values.items()))


def spell_names(values: tuple[Pair, ...]) -> tuple[Pair, ...]:
    """Return pairs whose names are written as words: `fibreContent` as `fibre content`."""
    return tuple(
        pair.model_copy(update={"name": _CAPITALS.sub(" ", space_words(pair.name)).lower()}) for pair in values
    )


def format_amount(value: Decimal, currency: str) -> Printed:
    """Return an amount in `currency`: exact, and grouped with its decimals."""
    return Printed(value, money.format_amount(value, currency))


def format_number(value: Decimal) -> Printed:
    """Return a quantity, weight or length: exact, and grouped."""
    return Printed(value, group_digits(value))


def group_digits(value: Decimal) -> str:
    """Return `value` with its digits as they came and a comma at every thousand."""
    return f"{value:,f}"


def format_code(word: str) -> Printed:
    """Return a code word of the plan, and the same as a word: `inland_freight`, `Inland freight`."""
    return Printed(word, space_words(word).capitalize())


def space_words(code: str) -> str:
    """Return `code` with spaces for underscores."""
    return code.replace("_", " ")


def format_hts(code: str) -> Printed:
    """Return an HTS code: ten digits, and as the tariff prints it, `7323.93.0045`."""
    return Printed(code, f"{code[:4]}.{code[4:6]}.{code[6:]}")


def format_address(address: Address) -> tuple[str, ...]:
    """Return an address as it is printed."""
    place = " ".join(part for part in (address.city, address.region, address.postal_code) if part)
    return tuple(line for line in (address.line1, address.line2, f"{place}, {address.country}") if line)


def format_ranges(numbers: Sequence[int]) -> str:
    """Return rising numbers in words: 1, 2, 3, 7 as `1-3, 7`."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in spans)


def format_line_numbers(numbers: Sequence[int]) -> str:
    """Return rising line numbers in words; of many, how many there are between the first and the last."""
    text = format_ranges(numbers)
    return text if text.count(",") < MAX_RANGES else f"{len(numbers):,} of {numbers[0]}-{numbers[-1]}"
