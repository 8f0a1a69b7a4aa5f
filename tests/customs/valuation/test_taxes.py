"""The internal revenue tax of alcohol and tobacco: by the rules where the plan has the quantity, and never forgotten."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from pipeline.customs.models import TariffRow
from pipeline.customs.tariff.facts import KeptEdition, KeptRate, TariffFacts, keep_rate
from pipeline.customs.tariff.lines import TariffOnDay, WantedFacts
from pipeline.customs.valuation.estimate import build_estimate
from pipeline.exports.schemas.entry_estimate import EntryEstimate
from pipeline.exports.schemas.plan import Unit
from tests.documents.samples import unit_data

EDITION = KeptEdition(name="hts_rev_6", effective_from=date(2026, 10, 1), content_hash=f"sha256:{'a' * 64}")
CIGARETTES, WINE, VERMOUTH = "2402208000", "2204215040", "2205103000"


def estimate(
    number: str, quantity: str = "12", unit: str = "NO", *, entry_type: str = "01", tax: str | None = None, **line: Any
) -> EntryEstimate:
    """Return the estimate of one line that is worth $300 and weighs 45.359237 kg, under an edition with a rate of 2 %."""
    data = unit_data(1)
    data["entry"]["type"] = entry_type
    data["invoice"] |= {"charges": [], "discounts": [], "assists": "none", "total": "300.00"}
    data["lines"][0] |= {"htsCode": number, "quantity": quantity, "unit": unit, "netWeightKg": "45.3592"} | line
    data["lines"][0]["treatment"] = {"chapter99": [], "section232": [], "pga": []}
    facts = TariffFacts(edition=EDITION, rates=(KeptRate(suffix=False, general="2%", tax=tax),))
    return build_estimate(Unit.model_validate(data), date(2026, 11, 27), [[1]], facts)


@pytest.mark.parametrize(
    ("number", "quantity", "unit", "amount", "arithmetic"),
    [
        (CIGARETTES, "50", "K", "2516.50", "50 K x $50.33 / K = 2516.50"),
        (CIGARETTES, "50000", "NO", "2516.50", "50 K x $50.33 / K = 2516.50"),
        (WINE, "1200", "L", "339.20", "317.01 GAL x $1.07 / GAL = 339.20"),
        ("2204100030", "1200", "L", "1077.82", "317.01 GAL x $3.40 / GAL = 1077.82"),
        ("2203000060", "3100", "L", "475.51", "818.93 GAL x $18.00 / 31 GAL = 475.51"),
        ("2208303030", "400", "PFL", "1426.53", "400 PFL x $13.50 / 3.785411784 PFL = 1426.53"),
        ("2403992140", "12", "NO", "151.00", "100 LB x $1.51 / LB = 151.00"),
    ],
)
def test_tax_is_computed_from_the_quantity(number: str, quantity: str, unit: str, amount: str, arithmetic: str) -> None:
    found = estimate(number, quantity, unit)
    (tax,) = found.taxes
    assert (tax.line, tax.amount_usd, tax.arithmetic, tax.text, tax.status) == (
        1, Decimal(amount), arithmetic, None, "probable",
    )  # fmt: skip
    assert (found.tax_usd, found.missing) == (Decimal(amount), ())
    assert found.total_usd == Decimal("6.00") + sum(fee.amount_usd for fee in found.fees) + Decimal(amount)
    assert found.bond is not None
    assert found.bond.amount_usd == Decimal(300) + found.total_usd


@pytest.mark.parametrize(
    ("number", "change", "words"),
    [
        (WINE, {}, "of line 1: the plan does not give the quantity in GAL (gallons)"),
        (VERMOUTH, {"unit": "L"}, "the tax on wine (26 USC 5041) of line 1: look the rate up"),
        ("2402108080", {"unit": "K"}, "the tax on large cigars (26 USC 5701) of line 1: look the rate up"),
        ("2106909998", {"tax": "26 USC 5001"}, "the tax on the goods of line 1: look the rate up in 26 USC 5001"),
        (
            WINE,
            {"chapter98": {"provision": "9801.00.10", "exemptValue": "300.00", "dutiableValue": "0"}},
            "of line 1: check what it is on under chapter 98",
        ),
    ],
)
def test_tax_without_an_amount_is_missing(number: str, change: dict[str, Any], words: str) -> None:
    found = estimate(number, **change)
    (missing,) = found.missing
    assert missing.endswith(words)
    assert (found.tax_usd, found.lacks_only_fees) == (None, True)


@pytest.mark.parametrize(
    ("number", "entry_type"), [("2202100020", "01"), ("2401106130", "01"), ("7323930045", "01"), (CIGARETTES, "21")]
)
def test_other_goods_and_entries_have_no_tax(number: str, entry_type: str) -> None:
    assert estimate(number, entry_type=entry_type).taxes == ()


@pytest.mark.parametrize(
    ("footnote", "tax"),
    [
        ("Imports under this subheading may be subject to Federal Excise Tax (26 U.S.C. 5041).", "26 USC 5041"),
        ("May be subject to federal excise tax (26 USC § 5051).", "26 USC 5051"),
        ("See 9903.88.03.", None),
    ],
)
def test_footnote_of_the_edition_names_the_tax(footnote: str, tax: str | None) -> None:
    row = TariffRow(
        edition_id="e", position=1, heading="2204", number="22042150", number8="22042150", indent=3, description="Wine",
        units=["liters"], general="6.3¢/liter", special="", other="", quota_quantity="", additional_duties="",
        footnotes=[footnote],
    )  # fmt: skip
    kept = keep_rate(TariffOnDay(WantedFacts(), None, {"22042150": [row]}), WINE, None)
    assert kept == KeptRate(suffix=False, general="6.3¢/liter", tax=tax)
