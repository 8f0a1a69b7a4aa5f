"""Field types of a plan: decimals in strings, ISO 8601 days and instants, text of one line.

Pydantic reads a string of digits as seconds since 1970, so these types parse days and instants themselves. They return
dates and datetimes, because strict validation does not accept a string after a validator function has run.
"""

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, ValidationInfo

from pipeline.core.money import CURRENCIES, to_decimal

#: The only way to write a number, so that every program hashes the same digits: no bare point, leading or negative zero.
NUMBER = re.compile(r"^(-(?=.*[1-9]))?(0|[1-9][0-9]*)(\.[0-9]+)?$")
#: The first and last year of a day or an instant. Near year 1 and year 9999 an offset leads out of the calendar, and
#: programs write such years for a missing date.
FIRST_YEAR: Final = 1970
LAST_YEAR: Final = 2199

#: The validation context of data that arrives now. Stored data is read without it: it was valid when it arrived.
INCOMING: Final[dict[str, Any]] = {"incoming": True}

Moment = TypeVar("Moment", date, datetime)

_DAY = re.compile(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")
_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
# Three, two and four digits with separators. IRS numbers (12-3456789AB), DUNS numbers and CBP numbers never have that form.
_SOCIAL_SECURITY = re.compile(r"\s*[0-9]{3}[-.\s\u2010-\u2015][0-9]{2}[-.\s\u2010-\u2015]([0-9]{4})\s*")
# In a text only with dashes: other separators are those of dates, weights and telephone numbers too.
_SOCIAL_SECURITY_INSIDE = re.compile(r"(?<![\w-])[0-9]{3}-[0-9]{2}-([0-9]{4})(?![\w-])")
_INSTANT = re.compile(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:")


def parse_decimal(value: object) -> Decimal:
    """Return the decimal in a string. Raises ValueError."""
    # Most languages read a JSON number as a binary float: only a string keeps the digits.
    if isinstance(value, Decimal):
        return value
    if not isinstance(value, str):
        raise ValueError('must be a decimal in a string, such as "12.50"')
    if len(value) > 24:
        raise ValueError("must have at most 24 characters")
    if not NUMBER.fullmatch(value):
        raise ValueError('must be a plain decimal, such as "12.50"')
    return to_decimal(value)


def parse_day(value: object) -> object:
    """Return the day in a string; other values are left to pydantic. Raises ValueError."""
    if not isinstance(value, str):
        return value
    if not _DAY.match(value):
        raise ValueError("must be an ISO 8601 date, such as 2026-11-24")
    return date.fromisoformat(value)


def parse_instant(value: object) -> object:
    """Return the instant in a string; other values are left to pydantic. Raises ValueError."""
    if not isinstance(value, str):
        return value
    try:
        return datetime.fromisoformat(value if _INSTANT.match(value) else "")
    except ValueError:
        message = "must be an ISO 8601 instant with its offset, such as 2026-11-24T15:04:05Z"
        raise ValueError(message) from None  # the library's message repeats the value, which may be personal


def is_social_security_number(number: str) -> bool:
    """Return whether `number` has the form of a Social Security number."""
    return _SOCIAL_SECURITY.fullmatch(number) is not None


def mask_number(number: str) -> str:
    """Return a party's number for display; a Social Security number keeps only its last four digits."""
    found = _SOCIAL_SECURITY.fullmatch(number)
    return number if found is None else f"XXX-XX-{found[1]}"


def mask_numbers(text: str) -> str:
    """Return the text for display; each Social Security number in it keeps only its last four digits."""
    return _SOCIAL_SECURITY_INSIDE.sub(r"XXX-XX-\1", text)


def check_year(value: Moment) -> Moment:
    """Return the day or instant. Raises ValueError if its year is before FIRST_YEAR or after LAST_YEAR."""
    if not FIRST_YEAR <= value.year <= LAST_YEAR:
        raise ValueError(f"must be in the years {FIRST_YEAR} to {LAST_YEAR}; give the real date, or leave it out")
    return value


def check_incoming_year(value: Moment, info: ValidationInfo) -> Moment:
    """Return the day or instant. Raises ValueError as `check_year` does if the context is INCOMING."""
    return check_year(value) if info.context == INCOMING else value


def check_currency(value: str) -> str:
    """Return the currency code. Raises ValueError if it is unknown."""
    if value not in CURRENCIES:
        raise ValueError("must be an ISO 4217 currency code, such as USD or CAD")
    return value


def check_printable(value: str) -> str:
    """Return the text if it is one line without control characters. Raises ValueError."""
    # Control characters break CSV, XML and e-mail, and mean nothing in a customs document.
    if _CONTROL.search(value):
        raise ValueError("must not hold control characters; give plain text on one line")
    if value != value.strip():
        raise ValueError("must not begin or end with a space; remove it")
    return value


#: Older versions accepted and stored plans with any year: only plans that arrive now are bounded.
Instant = Annotated[AwareDatetime, BeforeValidator(parse_instant), AfterValidator(check_incoming_year)]
Day = Annotated[date, BeforeValidator(parse_day), AfterValidator(check_incoming_year)]
#: For values that are not stored as they arrived. The year is checked in every context.
BoundedInstant = Annotated[Instant, AfterValidator(check_year)]
BoundedDay = Annotated[Day, AfterValidator(check_year)]
