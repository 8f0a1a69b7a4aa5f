"""Rates of duty: what is understood, and what stays text."""

from decimal import Decimal

import pytest

from pipeline.customs.tariff.rates import Rate, parse_rate, parse_special_rates

WATCH = "51¢ each + 6.25% on the case and strap, band or bracelet + 5.3% on the battery"


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("Free", Rate("Free", "free")),
        ("free", Rate("free", "free")),
        ("6.8%", Rate("6.8%", "ad_valorem", percent=Decimal("6.8"))),
        ("3.3¢/kg", Rate("3.3¢/kg", "specific", amount=Decimal("0.033"), per="kg")),
        ("$1.50/pf. liter", Rate("$1.50/pf. liter", "specific", amount=Decimal("1.50"), per="pf. liter")),
        ("51¢ each", Rate("51¢ each", "specific", amount=Decimal("0.51"), per="each")),
        (
            "15.4¢/doz. + 8.5%",
            Rate("15.4¢/doz. + 8.5%", "compound", percent=Decimal("8.5"), amount=Decimal("0.154"), per="doz."),
        ),
        (WATCH, Rate(WATCH, "text")),
        ("The duty provided in the applicable subheading + 25%", None),
        ("5% + 3%", None),
        ("1¢/kg + 2¢/kg", None),
        ("1.5¢/kg on drained weight", None),
        ("See 9903.88.03", None),
        ("%", None),
        ("1" * 5000 + "%", None),
    ],
)
def test_rate_is_read_or_stays_text(text: str, rate: Rate | None) -> None:
    assert parse_rate(text) == (rate or Rate(text, "text"))


def test_empty_column_has_no_rate() -> None:
    assert parse_rate("") is None
    assert parse_rate("  ") is None
    assert parse_special_rates("") == ()


def test_special_rates_have_their_programs() -> None:
    free, reduced = parse_special_rates("Free (A+,AU, S,S+) 1.6¢ each + 0.2% (JP)")
    assert (free.rate.kind, free.programs) == ("free", ("A+", "AU", "S", "S+"))
    assert (reduced.rate.kind, reduced.rate.percent, reduced.programs) == ("compound", Decimal("0.2"), ("JP",))


@pytest.mark.parametrize("text", ["See 9822.05.01 (E*)Free", "Free", "Free (see note 3)", "(S)"])
def test_special_column_that_is_not_understood_stays_text(text: str) -> None:
    last = parse_special_rates(text)[-1]
    assert (last.rate.kind, last.programs) == ("text", ())
