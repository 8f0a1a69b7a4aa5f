"""What a line declares for the entry summary in its attributes: duty cases, an import license, softwood lumber."""

import re
from decimal import Decimal
from typing import Final, NamedTuple

from pipeline.core.money import to_decimal

#: The attribute with the cases of antidumping and countervailing duty; several stand in one text.
CASES: Final = "adCvdCase"
#: `Y`: the importer certifies that nobody pays or refunds the antidumping duty to it.
NOT_REIMBURSED: Final = "adNonReimbursement"
SEPARATOR: Final = re.compile(r"[,;|]")


class License(NamedTuple):
    """A license or certificate: its code in record 52 of the entry summary, and its name on paper."""

    type: str
    name: str


#: Each attribute that gives the number of a license. Codes: CATAIR AE record 52 (July 2026), in public transcriptions.
LICENSES: Final = {
    "steelImportLicense": License("01", "Steel import license"),
    "diamondCertificate": License("06", "Kimberley certificate"),
    "aluminumImportLicense": License("28", "Aluminum import license"),
}

#: The export price and the estimated export charge of softwood lumber, in US dollars (19 CFR 12.142(c)(1), (2)).
LUMBER_PRICE: Final = "softwoodExportPrice"
LUMBER_CHARGE: Final = "softwoodExportCharge"
#: `Y`: the importer makes the declaration of 19 CFR 12.142(c)(3).
LUMBER_DECLARED: Final = "softwoodDeclaration"
_AMOUNT: Final = re.compile(r"\d{1,9}(\.\d{1,2})?")


def split_cases(text: str) -> list[str]:
    """Return the cases that the attribute names, as they are written."""
    return [part.strip() for part in SEPARATOR.split(text) if part.strip()]


def is_antidumping(case: str) -> bool:
    """Return whether it is a case of antidumping duty, by its first letter."""
    return case.upper().startswith("A")


def parse_lumber_amount(text: str | None) -> Decimal | None:
    """Return the amount in US dollars; None if the text is none, with at most nine digits and two decimals."""
    return to_decimal(text) if text is not None and _AMOUNT.fullmatch(text) else None
