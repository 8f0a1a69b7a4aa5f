"""A complete trip and a complete Canadian side of an export, of invented people."""

from typing import Any

from tests.support.factories import Json


def trip(**changes: Any) -> Json:
    """Return a trip without findings for the unit of the tests, which DEMO carries on 2026-11-26."""
    return {
        "number": "DEMO261126A",
        "loadedAt": {"city": "Toronto", "region": "ON", "country": "CA"},
        "truck": {
            "licensePlate": "DEMO 100", "plateRegion": "ON", "plateCountry": "CA", "vin": "1M8GDM9AXKP042788",
            "transponder": None,
        },
        "trailers": [
            {
                "type": "trailer",
                "number": "DT53001",
                "licensePlate": "DEMO 53A",
                "plateRegion": "ON",
                "plateCountry": "CA",
                "seals": ["SEAL-1", "SEAL-2"],
            }
        ],
        "crew": [member()],
        **changes,
    }  # fmt: skip


def member(**changes: Any) -> Json:
    """Return a driver with all data that a manifest needs."""
    return {
        "role": "driver",
        "givenName": "Example",
        "familyName": "Driver",
        "dateOfBirth": "1961-02-03",
        "gender": "X",
        "citizenship": "CA",
        "documents": [
            {"type": "fast_card", "number": "DEMO41999", "country": "CA", "region": None, "expiresOn": "2029-06-30"}
        ],
        **changes,
    }


def canadian_export(**changes: Any) -> Json:
    """Return an export side without findings: unrestricted goods for the United States need no declaration."""
    return {
        "declaration": "not_required",
        "businessNumber": "123456782RM0001",
        "proofOfReport": None,
        "noDeclarationCode": "NDR1",
        "statement": None,
        "provinceOfOrigin": "ON",
        "permits": [],
        **changes,
    }
