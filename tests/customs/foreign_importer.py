"""An address outside the United States, and the resident agent of an importer who is there."""

from typing import Any

FOREIGN_ADDRESS = {
    "line1": "1 Main Street", "line2": None, "city": "Toronto", "region": "ON", "postalCode": None, "country": "CA",
}  # fmt: skip

#: What a foreign importer needs beside its own number (19 CFR 141.18).
RESIDENT_AGENT: tuple[str, Any] = (
    "/units/0/parties/importerOfRecord/residentAgent",
    {
        "name": "Demo Agents LLC",
        "address": {
            "line1": "2 Harbor Road", "city": "Buffalo", "region": "NY", "postalCode": "14203", "country": "US",
        },
        "number": "12-345678901",
    },
)  # fmt: skip
