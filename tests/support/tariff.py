"""Two small editions of the tariff in the shape of the USITC's files, their import, and goods that depend on a rate."""

from datetime import date
from pathlib import Path
from typing import Final

from pipeline.core.runtime import Runtime
from pipeline.customs.models import TariffEdition
from pipeline.customs.tariff.editions import import_edition
from tests.support import factories

FOLDER: Final = Path(__file__).parents[1] / "customs" / "tariff" / "editions"
#: As JSON, with markup, entities, suffixes, headings without a number, skipped indents, and both spellings of a member.
REVISION_6: Final = FOLDER / "hts_2026_revision_6.json"
#: As CSV, with a byte order mark, units as JSON in a cell, and changes of four numbers.
REVISION_7: Final = FOLDER / "hts_2026_revision_7.csv"


#: Flags of agencies as CSV: for statistical suffixes and for shorter numbers.
AGENCY_FLAGS: Final = FOLDER / "agency_flags.csv"
#: Duty cases as JSON: two rates of one case, a rate of a company, and revoked cases.
DUTY_CASES: Final = FOLDER / "duty_cases.json"


def import_table(runtime: Runtime, path: Path, first_day: date, last_day: date | None = None) -> TariffEdition:
    """Import agency flags or duty cases and return the edition."""
    return import_edition(
        runtime,
        path,
        kind="agency-flags" if path.suffix == ".csv" else "duty-cases",
        name=path.stem,
        effective_from=first_day,
        effective_to=last_day,
        source="a test",
    ).edition


def import_revision(
    runtime: Runtime, path: Path = REVISION_6, first_day: date = date(2026, 1, 1), last_day: date | None = None
) -> TariffEdition:
    """Import an edition and return it."""
    return import_edition(
        runtime, path, name=path.stem, effective_from=first_day, effective_to=last_day, source="a test"
    ).edition


def plan_german_shirt(batch: str, heading: str) -> factories.Json:
    """Return a plan whose second line is a shirt of Germany, with a heading that depends on the rate of column 1."""
    plan = factories.plan(batch=batch)
    (unit,) = plan["units"]
    maker = unit["parties"]["manufacturers"][0]
    address = maker["address"] | {"line1": "12 Hauptstrasse", "city": "Berlin", "region": None, "country": "DE"}
    address |= {"postalCode": "10115"}
    unit["parties"]["manufacturers"].append(
        {"ref": "M3", "name": "Demo Shirt Works", "address": address, "mid": "DEDEMSHI12BER"}
    )
    unit["lines"][1] |= {"countryOfOrigin": "DE", "spi": None, "usmcaCertificateRef": None, "manufacturerRef": "M3"}
    unit["lines"][1]["treatment"]["chapter99"] = [
        {"heading": heading, "program": "S301_FL", "ratePercent": "0", "basis": "full_value"}
    ]
    return plan
