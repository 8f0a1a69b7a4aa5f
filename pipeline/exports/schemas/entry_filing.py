"""What a plan knows of how its entry is filed: filer, entry number, place of the goods, bond, authority and payment."""

import re
from typing import Annotated, Final

from pydantic import Field

from pipeline.core.field_types import Day
from pipeline.exports.schemas.plan_fields import Amount, PartnerId, StrictModel, Text

_ENTRY_NUMBER: Final = re.compile(r"([A-Z0-9]{3})-?([0-9]{7})-?([0-9])")

#: The digit of each letter of a filer code: A to I and J to R are 1 to 9, S to Z are 2 to 9.
_DIGITS: Final = {
    letter: digit
    for letters, first in (("ABCDEFGHI", 1), ("JKLMNOPQR", 1), ("STUVWXYZ", 2))
    for digit, letter in enumerate(letters, start=first)
}


def entry_check_digit(number: str) -> str:
    """Return the check digit of a filer code and seven digits, such as `6` for `ABC1234567` (CATAIR AE, table 1).

    From the right, every second digit counts twice, as the digits of its double, beginning with the last.
    """
    values = [_DIGITS.get(character) or int(character) for character in reversed(number)]
    total = sum(value if place % 2 else sum(divmod(2 * value, 10)) for place, value in enumerate(values))
    return str(-total % 10)


def format_entry_number(number: str) -> str:
    """Return the entry number as `ABC-1234567-6`; what has another form is returned as it is."""
    found = _ENTRY_NUMBER.fullmatch(number)
    return number if found is None else "-".join(found.groups())


class Bond(StrictModel):
    """The customs bond of the entry (CBP Form 7501, blocks 4 and 5)."""

    type: Annotated[str, Field(pattern=r"^[0-9]$", description="0 none, 8 continuous, 9 single transaction")]
    surety_code: Annotated[str, Field(pattern=r"^[0-9]{3}$")] | None = Field(
        default=None, description="998 for cash instead of a surety, 999 without a surety"
    )
    number: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,20}$")] | None = None
    amount_usd: Amount | None = None


class PowerOfAttorney(StrictModel):
    """The importer's power of attorney that a customs broker has on file (19 CFR 141.46)."""

    broker: PartnerId | None = Field(default=None, description="The customs broker; without it the one of the plan")
    grantor: Text = Field(description="Who gave it")
    by_partnership: bool = Field(default=False, description="Whether a partnership gave it")
    valid_from: Day
    valid_until: Day | None = Field(default=None, description="The last day; without it until it is revoked")


class Payment(StrictModel):
    """How duties, taxes and fees are paid in ACE."""

    type: Annotated[str, Field(pattern=r"^[0-9]$", description="ACE payment type, such as 1, 3 or 7")]
    statement_date: Day | None = Field(default=None, description="Preliminary statement print date")
    statement_month: Annotated[str, Field(pattern=r"^(0[1-9]|1[0-2])$")] | None = Field(
        default=None, description="Month of the periodic statement"
    )
    client_branch: Annotated[str, Field(pattern=r"^[A-Z0-9]{1,2}$")] | None = None


class Filing(StrictModel):
    """How the entry is filed, as far as it is arranged before; the filer supplies the rest."""

    filer_code: Annotated[str, Field(pattern=r"^[A-Z0-9]{3}$")] | None = None
    entry_number: Annotated[str, Field(pattern=r"^[A-Z0-9]{3}-?[0-9]{7}-?[0-9]$")] | None = Field(
        default=None, description="Filer code, seven digits and check digit, such as ABC-1234567-6"
    )
    team_number: Annotated[str, Field(pattern=r"^[A-Z0-9]{3}$")] | None = Field(
        default=None, description="CBP team that the entry is assigned to"
    )
    firms_code: Annotated[str, Field(pattern=r"^[A-Z0-9]{4}$")] | None = Field(
        default=None, description="FIRMS code of the place of the goods"
    )
    location_of_goods: Text | None = None
    bond: Bond | None = None
    power_of_attorney: PowerOfAttorney | None = None
    payment: Payment | None = None
