"""The headings of a line by the dated rules: lists, weight, tier, origin, US metal, and headings that exclude others."""

from datetime import date

import pytest

from pipeline.core.money import to_decimal
from pipeline.customs.chapter99.facts import LineFacts, MetalFacts
from pipeline.customs.chapter99.stack import decide_headings, explain_headings
from pipeline.customs.reference.base import Metal
from pipeline.customs.reference.ruleset import ruleset
from tests.support.tables import table

MARCH = date(2026, 3, 2)
AUTUMN = date(2026, 11, 24)
PAN, TRAY, CABLE, COIL = "7323930045", "7615107180", "8544429090", "7208390015"
HINGE, LOADER, ROBOT, SOFA = "8302416015", "8429515090", "8428700000", "9401616011"


def metal(name: Metal, kg: str = "0.9", *, us: str | None = "0", of: str | None = None) -> MetalFacts:
    steel = name == "steel"
    return MetalFacts(
        name,
        to_decimal(kg),
        melt_and_pour=of if steel else None,
        smelts=(of,) if of and not steel else (),
        cast=of if not steel else None,
        us_percent=to_decimal(us) if us else None,
    )


def line(
    hts_code: str,
    origin: str = "CA",
    on: date = AUTUMN,
    *metals: MetalFacts,
    spi: str | None = None,
    net: str = "1.000",
    claimed: tuple[str, ...] = (),
) -> LineFacts:
    return LineFacts(hts_code, origin, on, spi, to_decimal(net), metals or None, frozenset(claimed))


def headings(facts: LineFacts) -> list[str]:
    return [row.heading for row in decide_headings(facts).certain]


def offer_headings(facts: LineFacts, program: str) -> list[str]:
    choice = decide_headings(facts).find_choice(program)
    return [item.row.heading for item in choice.candidates] if choice else []


STEEL = metal("steel", of="CA")
ALUMINUM = metal("aluminum", of="CA")
COPPER = metal("copper", of="CL")

# The headings without 9903.
DECIDED: dict[str, tuple[LineFacts, str]] = {
    "a derivative of steel": (line(PAN, "CA", AUTUMN, STEEL), "05.90 82.09"),
    "a derivative of aluminum": (line(TRAY, "CA", AUTUMN, ALUMINUM), "05.90 82.09"),
    "copper wire of China": (line(CABLE, "CN", AUTUMN, COPPER), "88.03 05.90 82.09"),
    "an article of steel": (line(COIL, "CA", AUTUMN, STEEL), "05.90 82.02"),
    "USMCA takes nothing off metals": (line(PAN, "CA", AUTUMN, STEEL, spi="S"), "05.90 82.09"),
    "fifteen percent by weight": (line(HINGE, "CA", AUTUMN, metal("steel", "0.150")), "05.90 82.09"),
    "less than fifteen percent, and 301 is back": (line(HINGE, "CA", AUTUMN, metal("steel", "0.149")), "05.29 82.03"),
    "two listed metals are weighed together": (
        line(HINGE, "CA", AUTUMN, metal("steel", "0.1"), metal("aluminum", "0.05", us="0")),
        "05.90 82.09",
    ),
    "chapter 73 is not weighed": (line(PAN, "CA", AUTUMN, metal("steel", "0.01")), "05.90 82.09"),
    "no metal at all": (line(HINGE, "CA", AUTUMN, metal("steel", "0")), "05.29 82.01"),
    "85 % US metal in autumn": (line(PAN, "CA", AUTUMN, metal("steel", us="85", of="US")), "05.90 82.06"),
    "84.9 % is not enough": (line(PAN, "CA", AUTUMN, metal("steel", us="84.9", of="US")), "05.90 82.09"),
    "85 % was not enough until June": (
        line(PAN, "VN", date(2026, 6, 7), metal("steel", us="85", of="US")),
        "03.06 82.09",
    ),
    "95 % was": (line(PAN, "VN", date(2026, 6, 7), metal("steel", us="95", of="US")), "03.06 82.06"),
    "British steel in a British derivative": (line(PAN, "GB", AUTUMN, metal("steel", of="GB")), "05.90 82.05"),
    "Dutch steel in a British derivative": (line(PAN, "GB", AUTUMN, metal("steel", of="NL")), "05.90 82.09"),
    "aluminum of Iceland, cast in Britain": (
        line(
            TRAY,
            "GB",
            AUTUMN,
            MetalFacts("aluminum", to_decimal("0.9"), smelts=("IS",), cast="GB", us_percent=to_decimal("0")),
        ),
        "05.90 82.05",
    ),
    "British steel with aluminum of elsewhere": (
        line(HINGE, "GB", AUTUMN, metal("steel", "0.5", us="0", of="GB"), metal("aluminum", "0.3", us="0", of="CA")),
        "05.90 82.05",
    ),
    "British steel in coils": (line(COIL, "GB", AUTUMN, metal("steel", of="GB")), "05.90 82.04"),
    "Russian aluminum from anywhere": (line(TRAY, "TR", AUTUMN, metal("aluminum", of="RU")), "05.79 85.68"),
    "Russian steel": (line(COIL, "RU", AUTUMN, metal("steel")), "05.90 82.14"),
    "a loader of Germany": (line(LOADER, "DE", AUTUMN, STEEL), "05.90 82.22"),
    "a loader of Vietnam": (line(LOADER, "VN", AUTUMN, STEEL), "05.90 82.09"),
    "a loader before the list of its own": (line(LOADER, "VN", date(2026, 6, 7), STEEL), "03.06 82.09"),
    "a robot of Belarus": (line(ROBOT, "BY", AUTUMN, STEEL), "82.12"),
    "a robot when the temporary tier is over": (line(ROBOT, "VN", date(2028, 1, 1), STEEL), "05.90 82.09"),
    "a candle of Canada pays 338, USMCA or not": (line("3406000000", "CA", spi="S"), "05.93 03.14"),
    "a candle the day before": (line("3406000000", "CA", date(2026, 8, 21)), "05.29"),
    "cheese came on the list in September": (line("0406106400", "CA", date(2026, 9, 15)), "05.29 03.12"),
    "cheese before that": (line("0406106400", "CA", date(2026, 9, 14)), "05.29"),
    "furniture came on it too": (line("9403604000", "CA", date(2026, 9, 15)), "05.29 03.14"),
    "furniture before that": (line("9403604000", "CA", date(2026, 9, 14)), "05.29"),
    "salt left it": (line("2501000000", "CA", date(2026, 9, 15)), "05.29"),
    "a rack of Canada in September's days before": (
        line("9403200075", "CA", date(2026, 9, 14), STEEL),
        "05.90 03.15 82.09",
    ),
    "a rack of Canada pays 338 and 232": (line("9403200075", "CA", AUTUMN, STEEL), "05.90 03.14 82.09"),
    "China's lists stack with forced labor": (line("4202923120", "CN"), "88.03 05.31"),
    "a battery of China": (line("8507600020", "CN"), "91.06 05.31"),
    "shipped from Canada, made in China": (line("9503000073", "CN"), "05.31"),
    "Brazil pays twice": (line("6105100010", "BR"), "05.01 05.27"),
    "Brazil under 232 pays neither": (line(PAN, "BR", AUTUMN, STEEL), "05.07 05.90 82.09"),
    "Nicaragua pays twice": (line("9503000073", "NI"), "89.01 05.58"),
    "Nicaragua before 2026": (line("9503000073", "NI", date(2025, 12, 31)), ""),
    "goods of Nicaragua that originate under CAFTA-DR": (line("9503000073", "NI", spi="P"), "05.58"),
    "Mexico under USMCA": (line("6105100010", "MX", spi="S"), "05.94"),
    "a country that forced labor does not name": (line("6105100010", "IS"), ""),
    "the surcharge in its time": (line("6105100010", "VN", date(2026, 7, 23)), "03.01"),
    "the surcharge on its first day, before forced labor": (line("6105100010", "VN", date(2026, 2, 24)), "03.01"),
    "Canada's relief from the surcharge": (line("6105100010", "CA", date(2026, 7, 23), spi="S"), "03.07"),
    "a sofa": (line(SOFA, "VN"), "05.90 76.02"),
    "a sofa of Japan": (line(SOFA, "JP"), "05.90 76.21"),
    "timber": (line("4407110015", "CA", spi="S"), "05.90 76.01"),
    "metals had other headings before April": (line(TRAY, "CA", MARCH, ALUMINUM), "03.06 85.07"),
    "articles of aluminum before April": (line("7606123091", "CA", MARCH, ALUMINUM), "03.06 85.02"),
    "aluminum in cosmetics before April": (
        line("3304995000", "CN", MARCH, metal("aluminum", "0.01")),
        "88.03 03.06 85.08",
    ),
    "steel in cosmetics before April": (line("3304995000", "CN", MARCH, metal("steel", "0.01")), "88.03 03.06 81.91"),
    "US aluminum before April": (line(TRAY, "CA", MARCH, metal("aluminum", of="US")), "03.06 85.09"),
    "British aluminum before April": (line(TRAY, "GB", MARCH, ALUMINUM), "03.06 85.14"),
    "Russian aluminum before April": (line(TRAY, "TR", MARCH, metal("aluminum", of="RU")), "03.01 85.68"),
    "aluminum at the rate of spring 2025": (line(TRAY, "IS", date(2025, 6, 3), ALUMINUM), "85.07"),
    "steel before April": (line(PAN, "CA", MARCH, STEEL), "03.06 81.90"),
    "articles of steel before April": (line(COIL, "CA", MARCH, STEEL), "03.06 81.87"),
    "nails before April": (line("7317005503", "VN", MARCH, STEEL), "03.06 81.89"),
    "British steel before April": (line(PAN, "GB", MARCH, STEEL), "03.06 81.97"),
    "US steel before April": (line(PAN, "CA", MARCH, metal("steel", of="US")), "03.06 81.92"),
    "copper wire before April": (line(CABLE, "CL", MARCH, COPPER), "03.06 78.01"),
    "copper before August 2025": (line(CABLE, "CL", date(2025, 7, 31), COPPER), ""),
    "iron powder of Germany": (line("7205100000", "DE"), "05.97"),
    "medical instruments of the United Kingdom": (line("9018130000", "GB"), "05.96"),
    "medical instruments of Vietnam": (line("9018130000", "VN"), "05.84"),
    "palm oil of Malaysia": (line("1511100000", "MY"), "05.99"),
    "steel before the United Kingdom had headings": (line(PAN, "GB", date(2025, 6, 3), STEEL), "81.90"),
    "derivative inside a listed heading": (line("7302909000", "VN", date(2025, 8, 18), STEEL), "81.90"),
    "refrigerator before June 2025": (line("8418100000", "VN", date(2025, 6, 22), STEEL), ""),
    "refrigerator since June 2025": (line("8418100000", "VN", date(2025, 6, 23), STEEL), "81.91"),
}


@table("case", DECIDED)
def test_line_is_decided_by_rules_of_its_day(case: str) -> None:
    facts, expected = DECIDED[case]
    assert [heading.removeprefix("9903.") for heading in headings(facts)] == expected.split()


@pytest.mark.parametrize(
    ("hts_code", "origin", "heading", "on", "rate"),
    [
        (SOFA, "VN", "9903.76.02", date(2026, 12, 31), "25"),
        (SOFA, "VN", "9903.76.02", date(2027, 1, 1), "30"),
        ("6109100012", "NI", "9903.89.01", date(2026, 12, 31), "0"),
        ("6109100012", "NI", "9903.89.01", date(2027, 1, 1), "10"),
        ("6109100012", "NI", "9903.89.01", date(2028, 1, 1), "15"),
    ],
)
def test_rate_rises_on_its_day(hts_code: str, origin: str, heading: str, on: date, rate: str) -> None:
    (row,) = [row for row in decide_headings(line(hts_code, origin, on)).certain if row.heading == heading]
    assert str(row.rate_percent) == rate


def test_heading_that_needs_person_is_offered_not_decided() -> None:
    assert offer_headings(line(ROBOT, "VN", AUTUMN, STEEL), "S232_METALS") == ["9903.82.10", "9903.82.11"]
    assert headings(line(ROBOT, "VN", AUTUMN, STEEL)) == ["9903.05.90"]  # either of them makes it apply
    assert offer_headings(line(LOADER, "CA", AUTUMN, STEEL, spi="S"), "S232_METALS") == [
        "9903.82.13", "9903.82.20", "9903.82.21", "9903.82.09",
    ]  # fmt: skip
    assert offer_headings(line(LOADER, "CA", AUTUMN, STEEL), "S232_METALS") == ["9903.82.13", "9903.82.09"]


def test_metal_without_country_leaves_heading_open() -> None:
    assert offer_headings(line(HINGE, "CA"), "S232_METALS") == [
        "9903.82.01", "9903.82.03", "9903.85.68", "9903.82.06", "9903.82.09",
    ]  # fmt: skip


def test_vehicle_heading_excludes_metal_headings() -> None:
    part = line("8708106000", "VN", AUTUMN, ALUMINUM, claimed=("9903.94.05",))
    choice = decide_headings(part).find_choice("S232_METALS")
    assert choice is not None
    assert (choice.yields_to, choice.candidates) == (("9903.94.05",), ())
    assert headings(part) == ["9903.05.90"]
    assert "9903.82.09" in headings(line("8708106000", "VN", AUTUMN, ALUMINUM))


def test_open_claim_leaves_dependent_heading_open() -> None:
    light = line(HINGE, "CA", AUTUMN, metal("steel", "0.1", us="0"), claimed=("9903.82.09",))
    assert {"9903.05.90", "9903.05.29"} <= set(offer_headings(light, "S301_FL"))


@pytest.mark.system
def test_thousands_of_codes_are_decided() -> None:
    codes = sorted({(code + "000000")[:10] for held in ruleset().resolved_lists for code in held.codes})[:3_000]
    assert sum(len(decide_headings(LineFacts(code, "CN", AUTUMN)).certain) for code in codes) > 3_000


def test_decision_explains_each_rule() -> None:
    steps = {step.heading: step for step in explain_headings(line(PAN, "CA", AUTUMN, STEEL))}
    assert [heading for heading, step in steps.items() if step.applies] == ["9903.05.90", "9903.82.09"]
    duty = steps["9903.82.09"]
    assert duty.verdict == "yes"
    assert "7323.93.00 is on list 16(c)(vii)" in duty.reasons[0]
    assert duty.source.startswith("HTSUS 2026 Revision 6, heading 9903.82.09")
    assert steps["9903.82.03"].reasons == ("chapter 73 is outside the weight test",)
    assert steps["9903.82.06"].reasons == ("less than 85 % of its metal is US metal",)
    assert steps["9903.05.29"].reasons == ("an earlier row applies",)
    assert steps["9903.05.93"].verdict == "no" if "9903.05.93" in steps else True
    assert all(step.source for step in steps.values())
