"""The rate of column 1 that goods take: only in percent of the value, from the edition, and never guessed."""

from datetime import date
from decimal import Decimal

import pytest

from pipeline.core.runtime import Runtime
from pipeline.customs.tariff.facts import KeptEdition, KeptRate, TariffFacts
from pipeline.customs.tariff.goods import GoodsRates, load_goods_rate, read_goods_rate
from pipeline.exports.schemas.plan import Unit
from tests.documents.samples import unit_data
from tests.support.tariff import REVISION_6, import_revision

DAY = date(2026, 11, 26)
EDITION = KeptEdition(name="hts_rev_6", effective_from=date(2026, 10, 1), content_hash=f"sha256:{'a' * 64}")
SPECIAL = "Free (A*,AU) 2.5% (KR) 3¢/kg (JP)"


@pytest.mark.parametrize(
    ("general", "spi", "least", "most", "words"),
    [
        ("2%", None, "2", "2", "2%"),
        ("Free", None, "0", "0", "Free"),
        ("Free", "JP", "0", "0", "Free"),
        ("25%", "KR", "2.5", "25", "25% or 2.5% for KR"),
        ("6.8%", "A", "0", "6.8", "6.8% or Free for A"),
    ],
)
def test_rate_in_percent_is_known(general: str, spi: str | None, least: str, most: str, words: str) -> None:
    rate = read_goods_rate("8703230140", "KR", spi, KeptRate(suffix=False, general=general, special=SPECIAL), EDITION)
    assert rate is not None
    assert (rate.least, rate.most) == (Decimal(least), Decimal(most))
    assert rate.words == f"column 1 of 8703.23.01 is {words}"
    assert (rate.source, rate.edition_from) == (
        "edition hts_rev_6 from 2026-10-01, sha256:aaaaaaaaaaaa",
        date(2026, 10, 1),
    )


@pytest.mark.parametrize(
    ("general", "spi", "origin"),
    [
        ("3.3¢/kg", None, "JP"),
        ("51¢ each + 6.25%", None, "JP"),
        ("The duty provided in the applicable subheading + 10%", None, "JP"),
        ("", None, "JP"),
        ("2%", "S", "CA"),  # the special column does not name it
        ("2%", "JP", "JP"),  # its special rate is on a quantity
        ("2%", None, "RU"),  # it may take column 2
    ],
)
def test_other_rate_is_for_a_person(general: str, spi: str | None, origin: str) -> None:
    kept = KeptRate(suffix=True, general=general, special=SPECIAL)
    assert read_goods_rate("8703230140", origin, spi, kept, EDITION) is None


def test_rate_follows_the_edition_of_the_day(runtime: Runtime) -> None:
    import_revision(runtime, REVISION_6, date(2026, 10, 1), date(2026, 12, 31))
    with runtime.db.read() as session:
        rate = load_goods_rate(session, "6105100010", "DE", None, DAY)
        assert rate is not None
        assert rate.words == "column 1 of 6105.10.00 is 19.7%"
        assert load_goods_rate(session, "6105100010", "DE", None, date(2026, 9, 30)) is None
        assert load_goods_rate(session, "6105100099", "DE", None, DAY) is None
        assert load_goods_rate(session, "8703230140", "DE", None, DAY) is None


def test_lines_have_the_rates_that_the_export_keeps() -> None:
    unit = Unit.model_validate(unit_data(3))
    kept = TariffFacts(
        edition=EDITION, rates=(KeptRate(suffix=True, general="2%"), None, KeptRate(suffix=True, general="1¢/kg"))
    )
    rates = GoodsRates.of_unit(unit, kept)
    assert [rates.find_rate(line) is not None for line in unit.lines] == [True, False, False]
    for nothing in (None, TariffFacts()):
        assert GoodsRates.of_unit(unit, nothing).find_rate(unit.lines[0]) is None
