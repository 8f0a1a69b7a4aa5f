"""How a line declares cases of antidumping and countervailing duty, in its attributes."""

from __future__ import annotations

import re
from typing import Final

#: The attribute with the cases; several stand in one text.
CASES: Final = "adCvdCase"
#: `Y`: the importer certifies that nobody pays or refunds the antidumping duty to it.
NOT_REIMBURSED: Final = "adNonReimbursement"
SEPARATOR: Final = re.compile(r"[,;|]")


def split_cases(text: str) -> list[str]:
    """Return the cases that the attribute names, as they are written."""
    return [part.strip() for part in SEPARATOR.split(text) if part.strip()]


def is_antidumping(case: str) -> bool:
    """Return whether it is a case of antidumping duty, by its first letter."""
    return case.upper().startswith("A")
