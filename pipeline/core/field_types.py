"""How the values of a plan are written: plain numbers in strings, days and instants of ISO 8601, text of one line.

Pydantic reads digits in a string as seconds since 1970; a day or an instant is written out, or it is a mistake. What is
returned is no string any more: strict validation takes one for a day only before a function of ours has seen it.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, ValidationInfo

from pipeline.core.money import CURRENCIES, to_decimal

#: The one way to write a number, so that its digits can be hashed by anybody: no bare point, leading or negative zero.
NUMBER = re.compile(r"^(-(?=.*[1-9]))?(0|[1-9][0-9]*)(\.[0-9]+)?$")
#: The years that a day or an instant may lie in: at the ends of time an offset leads out of the calendar. A date of year 1
#: or 9999 is what a program writes that was given none.
FIRST_YEAR: Final = 1970
LAST_YEAR: Final = 2199

#: The validation context of what arrives now. What is kept is read without it: it was good when it came.
INCOMING: Final[dict[str, Any]] = {"incoming": True}

Moment = TypeVar("Moment", date, datetime)

_DAY = re.compile(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")
_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
# Three, two and four digits, parted: no IRS number (12-3456789AB), DUNS number or number of CBP's has that form.
_SOCIAL_SECURITY = re.compile(r"\s*[0-9]{3}[-.\s\u2010-\u2015][0-9]{2}[-.\s\u2010-\u2015]([0-9]{4})\s*")
_INSTANT = re.compile(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:")


def parse_decimal(value: object) -> Decimal:
    """Return the decimal that a string writes plainly; raises ValueError."""
    # A JSON number has already been through a binary float in most languages: only a string carries the digits.
    if isinstance(value, Decimal):
        return value
    if not isinstance(value, str):
        raise ValueError('must be a decimal in a string, such as "12.50"')
    if len(value) > 24:
        raise ValueError("has more than 24 characters")
    if not NUMBER.fullmatch(value):
        raise ValueError('must be written plainly, such as "12.50"')
    return to_decimal(value)


def parse_day(value: object) -> object:
    """Return the day that a string writes; what is no string is left to pydantic. Raises ValueError."""
    if not isinstance(value, str):
        return value
    if not _DAY.match(value):
        raise ValueError("must be a date written as ISO 8601 has it, such as 2026-11-24")
    return date.fromisoformat(value)


def parse_instant(value: object) -> object:
    """Return the instant that a string writes; what is no string is left to pydantic. Raises ValueError."""
    if not isinstance(value, str):
        return value
    try:
        return datetime.fromisoformat(value if _INSTANT.match(value) else "")
    except ValueError:
        message = "must be an instant written as ISO 8601 has it, with its offset, such as 2026-11-24T15:04:05Z"
        raise ValueError(message) from None  # the library's own words repeat the value


def is_social_security_number(number: str) -> bool:
    """Tell whether `number` has the form of a Social Security number."""
    return _SOCIAL_SECURITY.fullmatch(number) is not None


def mask_number(number: str) -> str:
    """Return a party's number as people are shown it: of a Social Security number the last four digits alone."""
    found = _SOCIAL_SECURITY.fullmatch(number)
    return number if found is None else f"XXX-XX-{found[1]}"


def check_year(value: Moment) -> Moment:
    """Return the day or instant; raises ValueError where its year is before FIRST_YEAR or after LAST_YEAR."""
    if not FIRST_YEAR <= value.year <= LAST_YEAR:
        raise ValueError(f"must lie in the years {FIRST_YEAR} to {LAST_YEAR}; give the real one, or leave it out")
    return value


def check_incoming_year(value: Moment, info: ValidationInfo) -> Moment:
    """Return the day or instant; raises ValueError as `check_year` does where the context is INCOMING."""
    return check_year(value) if info.context == INCOMING else value


def check_currency(value: str) -> str:
    """Return the code of a currency; raises ValueError where there is none of it."""
    if value not in CURRENCIES:
        raise ValueError("is not an ISO 4217 currency code, such as USD or CAD")
    return value


def check_printable(value: str) -> str:
    """Return text of one line without control characters; raises ValueError."""
    # Control characters have no place in a customs document, and break CSV, XML and e-mail in turn.
    if _CONTROL.search(value):
        raise ValueError("holds a control character; give plain text on one line")
    if value != value.strip():
        raise ValueError("begins or ends with a space")
    return value


#: Plans are kept, and an older version took any year: only what arrives is bounded.
Instant = Annotated[AwareDatetime, BeforeValidator(parse_instant), AfterValidator(check_incoming_year)]
Day = Annotated[date, BeforeValidator(parse_day), AfterValidator(check_incoming_year)]
#: Of what is not kept as it came. It may also be made without a parser.
BoundedInstant = Annotated[Instant, AfterValidator(check_year)]
BoundedDay = Annotated[Day, AfterValidator(check_year)]
