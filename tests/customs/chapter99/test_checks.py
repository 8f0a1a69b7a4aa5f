"""Checks of chapter 99: each difference from the rules gives one finding, with the right pointer and severity."""

from datetime import date
from typing import Any

import pytest

from pipeline.customs.chapter99.section232 import data_needed
from pipeline.customs.reference.content import RulesContent, packaged_rules, use_rules
from tests.customs.cases import (
    BAG,
    PAN,
    SHIRT,
    STACK,
    Breach,
    Change,
    block,
    enter_on,
    findings,
    heading,
    list_findings,
    metal_row,
    name_rules,
    note,
    warn,
    with_changes,
)
from tests.support.factories import Json
from tests.support.tables import table

Changes = list[Change]


def with_goods(hts_code: str, *headings: Json, metals: list[Json] | None = None, origin: str = "CA") -> Changes:
    """Return the change that makes the pan other goods, with a manufacturer in its origin, so that V07 does not fire."""
    return [
        (f"{PAN}/htsCode", hts_code),
        (f"{PAN}/countryOfOrigin", origin),
        (STACK, list(headings)),
        (f"{PAN}/treatment/section232", metals or []),
        (f"{PAN}/treatment/pga", []),
    ]


def steel(weight: str = "3.200", **other: Any) -> Json:
    return metal_row("steel", weight, countryOfMeltAndPour="CA") | other


FIRST, SECOND, THIRD = (f"{STACK}/{at}/heading" for at in range(3))
FREE, TEN = heading("9903.05.90", "0"), heading("9903.05.29", "10")
EXEMPT = heading("9903.05.86", "0")

_BREACHES: dict[str, Breach] = {
    "V11 the tier of another list": block(SECOND, (f"{STACK}/1", heading("9903.82.02", "50"))),
    "V11 the lower tier on an article of steel, read at first hand": block(
        SECOND, *with_goods("7208390015", FREE, heading("9903.82.09"), metals=[steel()])
    ),
    "V11 no metal at all, on a pan of steel": block(SECOND, (f"{STACK}/1", heading("9903.82.01", "0"))),
    "V11 equipment of partners, transcribed, for what confirmed law demands": block(
        SECOND, (f"{STACK}/1", heading("9903.82.22", "15"))
    ),
    "V11 parts for equipment, heard of, for what confirmed law demands": block(
        SECOND, (f"{STACK}/1", heading("9903.82.25", "15"))
    ),
    "V11 Russian aluminum on a pan of Canadian steel": block(SECOND, (f"{STACK}/1", heading("9903.85.68", "200"))),
    "V11 no metal at all, beside the heading that is demanded": block(
        SECOND, (STACK, [FREE, heading("9903.82.01", "0"), heading("9903.82.09")])
    ),
    "V11 no metal at all, where a transcription put the goods on the list": warn(
        THIRD,
        *with_goods("9403200075", FREE, heading("9903.03.14", "50"), heading("9903.82.01", "0"), metals=[steel()]),
    ),
    "V11 an exclusion without a row for China's list": warn(
        f"{BAG}/treatment/chapter99", (f"{BAG}/treatment/chapter99/0", heading("9903.88.67", "0"))
    ),
    "V11 a metals heading on a code of no list": warn(
        f"{SHIRT}/treatment/chapter99/1/heading", (f"{SHIRT}/treatment/chapter99/-", heading("9903.82.09"))
    ),
    "V11 a British heading on Canadian goods": block(SECOND, (f"{STACK}/1", heading("9903.82.05", "15"))),
    "V11 forced labor of another country": warn(
        f"{BAG}/treatment/chapter99/1/heading", (f"{BAG}/treatment/chapter99/1", heading("9903.05.29", "10"))
    ),
    "V11 the wrong list of China": block(
        f"{BAG}/treatment/chapter99/0/heading", (f"{BAG}/treatment/chapter99/0", heading("9903.88.15", "7.5"))
    ),
    "V11 China's list is missing": block(
        f"{BAG}/treatment/chapter99", (f"{BAG}/treatment/chapter99", [heading("9903.05.31", "12.5")])
    ),
    "V11 an exclusion after its end": block(
        f"{BAG}/treatment/chapter99/0/heading", (f"{BAG}/treatment/chapter99/0", heading("9903.88.69", "0"))
    ),
    "V11 a metals heading of before April": block(SECOND, (f"{STACK}/1", heading("9903.81.91", "50")), also=STACK),
    "V11 232 before 301": warn(SECOND, (STACK, [heading("9903.82.09"), FREE])),
    "V11 338 behind 232": warn(
        THIRD, *with_goods("9403200075", FREE, heading("9903.82.09"), heading("9903.03.14", "50"), metals=[steel()])
    ),
    "V11 a rate of another day": warn(f"{STACK}/1/ratePercent", (f"{STACK}/1/ratePercent", "50")),
    "V11 338's carve-out without dairy": warn(
        SECOND, *with_goods("9403200075", FREE, heading("9903.03.15", "0"), heading("9903.82.09"), metals=[steel()])
    ),
    "V11 one of two is missing, and one applies": block(STACK, *with_goods("8428700000", FREE, metals=[steel()])),
    "V11 the content of a loader twice": block(
        THIRD,
        *with_goods("8429515090", FREE, heading("9903.82.20"), heading("9903.82.20"), metals=[steel()]),
        (f"{PAN}/spi", "S"),
    ),
    "V11 an unknown heading": note(
        f"{BAG}/treatment/chapter99/2/heading", (f"{BAG}/treatment/chapter99/-", heading("9903.99.99"))
    ),
    "V11 forced labor on goods of its list": warn(FIRST, *with_goods("0901110015", TEN)),
    "V11 a part that may be one of a vehicle": warn(STACK, *with_goods("8708304000", TEN)),
    "V11 a medicament that may be a patented one": warn(STACK, *with_goods("3004909276", EXEMPT)),
    "V11 two headings of pharmaceuticals": warn(
        THIRD, *with_goods("3004909276", EXEMPT, heading("9903.04.67", "0"), heading("9903.04.69", "0"))
    ),
    "V11 certified parts of a chapter of metals, and the metals forgotten": (
        with_goods("7318155000", FREE, heading("9903.94.07"), metals=[steel()]),
        [("V11", "warn", SECOND), ("V11", "block", STACK)],
    ),
    "V11 certified parts that are on the list of parts": warn(
        SECOND, *with_goods("8708305040", FREE, heading("9903.94.07"), heading("9903.74.11", "0"))
    ),
    "V09 US metal without its share": warn(f"{PAN}/treatment/section232", (f"{STACK}/1", heading("9903.82.06", "10"))),
    "V09 an article of steel of unknown origin": warn(
        f"{PAN}/treatment/section232/0/countryOfMeltAndPour",
        *with_goods("7208390015", FREE, heading("9903.82.02", "50"), metals=[steel(countryOfMeltAndPour="OTH")]),
    ),
    "V13 a listed candle without 338": warn(STACK, *with_goods("3406000000", TEN)),
    "V13 a mattress that came on the list in September": warn(STACK, *with_goods("9404210013", TEN)),
    "V13 whey": warn(f"{PAN}/htsCode", *with_goods("0404101100", TEN, heading("9903.03.13", "50"))),
    "V13 a large motorcycle": warn(f"{PAN}/htsCode", *with_goods("8711500060", TEN, heading("9903.03.14", "50"))),
    "V13 beer, if it is packaged": warn(f"{PAN}/htsCode", *with_goods("2203000030", TEN, heading("9903.03.12", "50"))),
}
BREACHES = name_rules(_BREACHES)


@table("breach", BREACHES)
def test_difference_gives_one_finding_at_its_place(breach: str) -> None:
    changes, expected = BREACHES[breach]
    found = [each for each in findings(with_changes(*changes)) if each.rule in RULES]
    assert [(each.rule, each.severity, each.pointer) for each in found] == expected
    assert all(each.message.endswith(".") and each.remedy.endswith(".") and each.source for each in found)


RULES = ("V09", "V10", "V11", "V13")


def chapter99(changed: Json) -> list[tuple[str, str, str]]:
    """Return only the findings about metals and chapter 99: other goods with the pan's description break other rules."""
    return [item for item in list_findings(changed) if item[0] in RULES]


LISTED_METALS: dict[str, tuple[str, Json]] = {
    "9903.82.02 (Articles of aluminum, steel": ("7208390015", steel()),
    "9903.82.09 (Derivatives": ("7323930045", steel()),
    "9903.82.02 (Articles of aluminum, steel and copper": ("7411101030", metal_row("copper", "3.2")),
    "9903.82.02 (Articles of aluminum": (
        "7604210010",
        metal_row("aluminum", "3.2", primaryCountryOfSmelt="CA", countryOfCast="CA"),
    ),
}


@pytest.mark.parametrize("lacked", LISTED_METALS)
def test_listed_metal_without_heading_blocks_even_with_usmca(lacked: str) -> None:
    code, metal = LISTED_METALS[lacked]
    claimed = [(f"{PAN}/spi", "S"), (f"{PAN}/usmcaCertificateRef", "C1")]
    changed = with_changes(*with_goods(code, heading("9903.05.93", "0"), metals=[metal]), *claimed)
    (found,) = [each for each in findings(changed) if each.rule == "V11" and each.severity == "block"]
    assert found.pointer == STACK
    assert f"carries no {lacked}" in found.message
    assert (found.source or "").startswith("confirmed: HTSUS 2026 Revision 6")


def test_metal_listed_by_transcription_only_warns() -> None:
    rack = with_goods("9403200075", FREE, heading("9903.03.14", "50"), metals=[steel()])
    (found,) = [each for each in findings(with_changes(*rack)) if each.rule == "V11"]
    assert (found.severity, found.pointer) == ("warn", STACK)
    assert "carries no 9903.82.09" in found.message
    assert (found.source or "").startswith("probable: ")


def test_every_chapter99_finding_names_status_of_source() -> None:
    said_first = {
        (found.source or "").split(": ", 1)[0]
        for changes, _ in BREACHES.values()
        for found in findings(with_changes(*changes))
        if found.rule in ("V11", "V13") and "do not know" not in found.message
    }
    assert said_first == {"confirmed", "probable"}


@pytest.mark.parametrize(
    ("unknown", "severity"),
    [
        ("9903.82.27", "warn"),
        ("9903.94.35", "warn"),  # metals yield to headings of vehicles
        ("9903.99.99", "block"),
        ("9903.88.71", "block"),
        ("9902.12.34", "block"),
    ],
)
def test_unknown_heading_may_replace_heading_of_its_range(unknown: str, severity: str) -> None:
    lacking = with_changes((STACK, [FREE, heading(unknown)]))
    assert chapter99(lacking) == [("V11", "note", SECOND), ("V11", severity, STACK)]


ALLOWED: dict[str, Changes] = {
    "a candle with 338 and the relief from forced labor missed": with_goods(
        "3406000000", TEN, heading("9903.03.14", "50")
    ),
    "no metal at all, on a listed pan without any": [
        (STACK, [heading("9903.05.29", "10"), heading("9903.82.01", "0")]),
        (f"{PAN}/treatment/section232", [metal_row("steel", "0")]),
    ],
    "US metal with its share": [
        (f"{STACK}/1", heading("9903.82.06", "10")),
        (f"{PAN}/treatment/section232/0/usMetalPercent", "85"),
    ],
    "the two headings that divide the value of a loader": [
        *with_goods("8429515090", FREE, heading("9903.82.20"), heading("9903.82.21", "0"), metals=[steel()]),
        (f"{PAN}/spi", "S"),
        (f"{PAN}/usmcaCertificateRef", "C1"),
    ],
    "either heading of the temporary tier": with_goods(
        "8428700000", FREE, heading("9903.82.10", "15"), metals=[steel()]
    ),
    "a book": [(f"{SHIRT}/treatment/chapter99", [heading("9903.05.92", "0")])],
    "no part of a vehicle": with_goods("8708305040", TEN, heading("9903.94.06", "0"), heading("9903.74.11", "0")),
    "aluminum of Iceland, cast in Britain": with_goods(
        "7615107180",
        FREE,
        heading("9903.82.05", "15"),
        metals=[metal_row("aluminum", "3.2", primaryCountryOfSmelt="IS", countryOfCast="GB")],
        origin="GB",
    ),
    "a generic medicament": with_goods("3004909276", EXEMPT, heading("9903.04.67", "0")),
    "a patented one, which forced labor leaves to Section 232": with_goods(
        "3004909276", FREE, heading("9903.04.60", "100")
    ),
    "a vitamin, which is on no list of pharmaceuticals": with_goods("2936270000", EXEMPT),
    "coffee, which is on a list that USMCA does not need": with_goods("0901110015", EXEMPT),
    "coffee under USMCA, by the list": [*with_goods("0901110015", EXEMPT), (f"{PAN}/spi", "S")],
    "coffee under USMCA, by the agreement": [
        *with_goods("0901110015", heading("9903.05.93", "0")),
        (f"{PAN}/spi", "S"),
    ],
    "certified parts of plastic": with_goods("3926909985", FREE, heading("9903.94.07"), origin="MX"),
    "a pan that is all of steel": [(f"{PAN}/treatment/section232/0/metalWeightKg", "3.600")],
    "a rate that is not on the full value": with_goods("8703230140", FREE, heading("9903.94.41", "12.5"), origin="JP"),
    "a heading that gives no rate": [(f"{STACK}/1/ratePercent", None)],
}


@pytest.mark.parametrize("allowed", ALLOWED)
def test_allowed_headings_have_no_finding(allowed: str) -> None:
    assert chapter99(with_changes(*ALLOWED[allowed])) == []


MARCH, SUMMER = "2026-03-02", "2025-08-15"


def list_findings_on(on: str, *changes: tuple[str, Any]) -> list[tuple[str, str]]:
    """Return the findings about the pan's metals on an earlier day of entry, when the lists of metals were different."""
    changed = with_changes(*enter_on(on), *changes)
    return [
        (finding.severity, finding.message)
        for finding in findings(changed)
        if finding.rule in RULES and finding.pointer.startswith(PAN)
    ]


def test_goods_on_no_list_of_metals_need_no_heading() -> None:
    assert list_findings_on(SUMMER, *with_goods("6105100010")) == []
    assert list_findings_on(MARCH, *with_goods("6105100010", heading("9903.03.01", "10"))) == []


def test_steel_and_copper_before_april_follow_their_lists() -> None:
    assert list_findings_on(MARCH, (STACK, [heading("9903.03.06", "0"), heading("9903.81.90", "50")])) == []
    assert list_findings_on(SUMMER, (STACK, [heading("9903.81.90", "50")])) == []
    text = (
        "7323930045 of CA (on list 16(m) until April 2026) carries no 9903.81.90 "
        "(Derivative steel articles of chapter 73, 50 %)"
    )
    assert list_findings_on(MARCH, (STACK, [heading("9903.03.06", "0")])) == [("warn", f"Line L1: {text}.")]
    of_another_list = list_findings_on(MARCH, (STACK, [heading("9903.03.06", "0"), heading("9903.81.91", "50")]))
    assert [severity for severity, _ in of_another_list] == ["warn"]
    tube = with_goods("7411101030", heading("9903.03.06", "0"), metals=[metal_row("copper", "3.2")], origin="CL")
    assert [severity for severity, _ in list_findings_on(MARCH, *tube)] == ["warn"]
    assert "9903.78.01 (Copper, on its value, 50 %)" in list_findings_on(MARCH, *tube)[0][1]


def test_aluminum_before_april_follows_its_lists() -> None:
    aluminum = [metal_row("aluminum", "3.2", primaryCountryOfSmelt="CA", countryOfCast="CA")]
    right = with_goods("7615107180", heading("9903.03.06", "0"), heading("9903.85.07", "50"), metals=aluminum)
    assert list_findings_on(MARCH, *right) == []
    missing = with_goods("7615107180", heading("9903.03.06", "0"), metals=aluminum)
    text = "7615107180 of CA (on list 19(j)) carries no 9903.85.07 (Derivative aluminum articles of chapter 76, 50 %)"
    assert ("block", f"Line L1: {text}.") in list_findings_on(MARCH, *missing)
    of_april = with_goods("7615107180", heading("9903.03.06", "0"), heading("9903.82.09"), metals=aluminum)
    assert list_findings_on(MARCH, *of_april)[0][0] == "block"


def test_missing_weight_for_unconfirmed_list_only_warns() -> None:
    name = "lists/section232-metals-until-2026-04-05.json"
    files = dict(packaged_rules().files)
    files[name] = files[name].replace(b'"probable"', b'"check"')
    with use_rules(RulesContent(files)):
        bare = list_findings_on(SUMMER, (STACK, []), (f"{PAN}/treatment/section232", []))
    assert {severity for severity, _ in bare} == {"warn"}
    assert any("but the line gives no weight of its steel" in message for _, message in bare)


def test_metal_countries_are_not_reported_for_territory() -> None:
    with_country = with_goods("7323930045", heading("9903.82.09"), metals=[steel()], origin="GU")
    assert chapter99(with_changes(*with_country)) == [
        ("V09", "warn", f"{PAN}/treatment/section232/0/countryOfMeltAndPour")
    ]
    without_country = with_goods("7323930045", heading("9903.82.09"), metals=[metal_row("steel", "3.200")], origin="GU")
    assert chapter99(with_changes(*without_country)) == []
    assert data_needed("7323930045", "GU", date(2026, 11, 24))[0].fields == ("its weight in kg", "the net weight in kg")
    assert len(data_needed("7323930045", "GU", date(2026, 7, 15))[0].fields) == 3


@pytest.mark.parametrize(
    ("on", "severities"),
    [("2026-07-29", []), ("2026-07-30", ["warn"] * 2), ("2026-09-13", ["warn"] * 2), ("2026-09-14", ["block"] * 2)],
)
def test_copper_wire_needs_smelt_and_cast_by_own_rule(on: str, severities: list[str]) -> None:
    wire = with_goods("8544429090", FREE, heading("9903.82.09"), metals=[metal_row("copper", "3.200")])
    asked = [item for item in list_findings(with_changes(*enter_on(on), *wire)) if item[0] == "V09"]
    assert [severity for _, severity, _ in asked] == severities
    assert [pointer.rpartition("/")[2] for _, _, pointer in asked] == ["primaryCountryOfSmelt", "countryOfCast"][
        : len(severities)
    ]


def test_other_copper_needs_only_weight() -> None:
    (needed,) = data_needed("7411101030", "CL", date(2026, 11, 24))
    assert needed.fields == ("its weight in kg", "the net weight in kg")
    (wire,) = [need for need in data_needed("8544491000", "CL", date(2026, 11, 24)) if need.metal == "copper"]
    assert wire.fields[2:] == (
        "the primary country of smelt (or OTH)",
        "the country of cast (or OTH)",
        "the secondary country of smelt, if there is one",
    )


def test_undetermined_line_has_no_missing_headings() -> None:
    changed = with_changes((STACK, []), (f"{PAN}/treatment/undetermined", "The steel is being looked into."))
    assert list_findings(changed) == [("T01", "block", f"{PAN}/treatment/undetermined")]
