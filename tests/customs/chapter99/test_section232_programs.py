"""Section 232 without metals: the headings that vehicles, parts, wood, chips, medicaments and drones may need, by day."""

from datetime import date

from pipeline.customs.chapter99.facts import LineFacts
from pipeline.customs.chapter99.stack import ProgramChoice, decide_headings, explain_headings
from pipeline.customs.reference.ruleset import ruleset
from tests.support.tables import table

AUTUMN = date(2026, 11, 24)
CAR, VAN, BRAKE, BUS, TRUCK = "8703230110", "8704210100", "8708305090", "8702103100", "8704225110"
SERVER, TABLET, DRONE, PLASTIC, BOLT = "8471500150", "3004909276", "8806220000", "3926909985", "7318155000"


def choose_headings(
    program: str, hts_code: str, origin: str, on: date = AUTUMN, spi: str | None = None, *claimed: str
) -> ProgramChoice | None:
    return decide_headings(LineFacts(hts_code, origin, on, spi, claimed=frozenset(claimed))).find_choice(program)


def offer_headings(program: str, hts_code: str, origin: str, on: date = AUTUMN, spi: str | None = None) -> list[str]:
    choice = choose_headings(program, hts_code, origin, on, spi)
    return [item.row.heading.removeprefix("9903.") for item in choice.candidates] if choice else []


OFFERED = [
    ("S232_AUTOS", CAR, "MX", AUTUMN, "S", ["94.02", "94.03", "94.04", "94.01"]),
    ("S232_AUTOS", CAR, "MX", AUTUMN, None, ["94.02", "94.04", "94.01"]),
    ("S232_AUTOS", CAR, "GB", AUTUMN, None, ["94.02", "94.04", "94.31", "94.01"]),
    ("S232_AUTOS", CAR, "GB", date(2025, 6, 29), None, ["94.02", "94.04", "94.01"]),
    ("S232_AUTOS", VAN, "GB", AUTUMN, None, ["94.02", "94.04", "94.01"]),  # the quota is one of passenger vehicles
    ("S232_AUTOS", CAR, "JP", date(2025, 9, 15), None, ["94.02", "94.04", "94.01"]),
    ("S232_AUTOS", CAR, "JP", date(2025, 9, 16), None, ["94.02", "94.04", "94.40", "94.41"]),
    ("S232_AUTOS", CAR, "DE", date(2025, 8, 1), None, ["94.02", "94.04", "94.50", "94.51"]),
    ("S232_AUTOS", CAR, "KR", AUTUMN, None, ["94.02", "94.04", "94.60", "94.61"]),
    ("S232_AUTO_PARTS", BRAKE, "CA", AUTUMN, None, ["94.06", "94.05"]),
    ("S232_AUTO_PARTS", BRAKE, "GB", AUTUMN, None, ["94.06", "94.32"]),
    ("S232_AUTO_PARTS", BRAKE, "JP", AUTUMN, None, ["94.06", "94.42", "94.43"]),
    ("S232_AUTO_PARTS", BRAKE, "IT", AUTUMN, None, ["94.06", "94.52", "94.53"]),
    ("S232_AUTO_PARTS", BRAKE, "KR", AUTUMN, None, ["94.06", "94.62", "94.63"]),
    ("S232_AUTO_PARTS", BRAKE, "TW", date(2026, 4, 30), None, ["94.06", "94.05"]),
    ("S232_AUTO_PARTS", BRAKE, "TW", AUTUMN, None, ["94.06", "94.66", "94.67"]),
    ("S232_AUTO_PARTS", PLASTIC, "JP", AUTUMN, None, ["94.06", "94.54", "94.55"]),  # if it is certified
    ("S232_AUTO_PARTS", PLASTIC, "JP", date(2025, 10, 31), None, ["94.06"]),
    ("S232_AUTO_PARTS", BOLT, "JP", AUTUMN, None, []),
    ("S232_MHDV", TRUCK, "CA", AUTUMN, "S", ["74.03", "74.06", "74.05", "74.07", "74.01"]),
    ("S232_MHDV", TRUCK, "DE", AUTUMN, None, ["74.05", "74.07", "74.01"]),
    ("S232_MHDV", BUS, "DE", AUTUMN, None, ["74.07", "74.02"]),
    ("S232_MHDV", BUS, "DE", date(2025, 10, 31), None, []),
    ("S232_MHDV_PARTS", BRAKE, "CA", AUTUMN, "S", ["74.10", "74.11", "74.08"]),
    ("S232_MHDV_PARTS", PLASTIC, "CA", AUTUMN, "S", ["74.10", "74.09"]),
    ("S232_MHDV_PARTS", BOLT, "CA", AUTUMN, "S", []),
    ("S232_WOOD", "9401616011", "KR", date(2025, 11, 13), None, ["76.02"]),
    ("S232_WOOD", "9401616011", "KR", date(2025, 11, 14), None, ["76.23"]),
    ("S232_WOOD", "9401616011", "TW", AUTUMN, None, ["76.24"]),
    ("S232_WOOD", "9403608093", "VN", AUTUMN, None, ["76.04", "76.03"]),
    ("S232_SEMICONDUCTORS", SERVER, "TW", date(2026, 1, 14), None, []),
    ("S232_SEMICONDUCTORS", SERVER, "TW", AUTUMN, None, [f"79.0{n}" for n in (*range(2, 10), 1)]),
    ("S232_PHARMA", TABLET, "IN", date(2026, 7, 30), None, []),
    (
        "S232_PHARMA", TABLET, "IN", date(2026, 9, 28), None,
        ["04.69", "04.67", "04.68", "04.61", "04.66", "04.65", "04.64", "04.60"]),
    (
        "S232_PHARMA", TABLET, "DE", AUTUMN, None,
        ["04.69", "04.67", "04.68", "04.70", "04.66", "04.65", "04.64", "04.62"]),
    (
        "S232_PHARMA", TABLET, "GB", date(2030, 4, 2), None,
        ["04.69", "04.67", "04.68", "04.70", "04.66", "04.63"]),
    ("S232_PHARMA", "3006100100", "IN", AUTUMN, None, []),
    ("S232_UAS", DRONE, "CN", date(2026, 9, 2), None, []),
    ("S232_UAS", DRONE, "CN", AUTUMN, None, ["08.20", "08.25", "08.26", "08.21", "08.22"]),
    ("S232_UAS", DRONE, "JP", date(2027, 2, 9), None, ["08.20", "08.26", "08.24", "08.21", "08.22"]),
    ("S232_UAS", "8806240000", "GB", AUTUMN, None, ["08.20", "08.25", "08.26", "08.23", "08.21"]),
    ("S232_UAS", "8807300015", "CN", AUTUMN, None, ["08.20", "08.25", "08.26", "08.21"]),
]  # fmt: skip


@table(("program", "hts_code", "origin", "on", "spi", "headings"), OFFERED)
def test_headings_are_offered_by_goods_origin_and_day(
    program: str, hts_code: str, origin: str, on: date, spi: str | None, headings: list[str]
) -> None:
    assert offer_headings(program, hts_code, origin, on, spi) == headings


def test_every_published_vehicle_and_chip_heading_has_row() -> None:
    published = {
        *(f"9903.94.{n:02}" for n in (*range(1, 8), *range(31, 34), *range(40, 46), *range(50, 56), *range(60, 66))),
        *(f"9903.74.{n:02}" for n in range(1, 12) if n != 4),
        *(f"9903.76.{n:02}" for n in (1, 2, 3, 4, 20, 21, 22, 23)),
        *(f"9903.79.{n:02}" for n in range(1, 10)),
    }
    assert published <= ruleset().by_heading.keys()


def test_pharmaceutical_numbers_were_split_in_september() -> None:
    lists = {(listed.list.id, on) for on in (date(2026, 9, 28), date(2026, 9, 29))
             for listed in ruleset().find_lists("3004200083", on) if listed.list.id.startswith("40")}  # fmt: skip
    assert lists == {("40(c)", date(2026, 9, 28))}
    counts = {
        str(held.version.effective_from): len(held.codes)
        for held in ruleset().resolved_lists
        if held.list.id == "40(c)"
    }
    assert counts == {"2026-07-31": 131, "2026-09-29": 149}


def test_certifiable_heading_is_explained_only_if_carried() -> None:
    shirt = LineFacts("6105100010", "VN", AUTUMN)
    assert not [step for step in explain_headings(shirt) if step.heading.startswith("9903.94.")]
    certified = LineFacts(PLASTIC, "VN", AUTUMN, claimed=frozenset({"9903.94.07"}))
    (step,) = [step for step in explain_headings(certified) if step.heading.startswith("9903.94.")]
    assert (step.heading, step.verdict) == ("9903.94.07", "needs_person")
    assert step.reasons == (
        "the goods are of VN",
        "the importer must certify: the parts are for making or repairing automobiles in the United States",
    )


def test_dutiable_chip_excludes_vehicle_part_duty() -> None:
    choice = choose_headings("S232_AUTO_PARTS", SERVER, "TW", AUTUMN, None, "9903.79.01")
    assert choice is not None
    assert (choice.candidates, choice.yields_to) == ((), ("9903.79.01",))
    kept = choose_headings("S232_AUTO_PARTS", SERVER, "TW", AUTUMN, None, "9903.79.02")
    assert kept is not None
    assert kept.candidates


def test_inapplicable_heading_excludes_no_other() -> None:
    metals = choose_headings("S232_METALS", BOLT, "DE", AUTUMN, None, "9903.94.07")
    assert metals is not None
    assert metals.yields_to == ()
    assert metals.certain is not None
    assert metals.certain.heading == "9903.82.02"


def test_forced_labor_heading_follows_medicament_claim() -> None:
    assert [row.heading for row in decide_headings(LineFacts(TABLET, "IN", AUTUMN)).certain] == ["9903.05.86"]
    for heading, expected in (("9903.04.60", "9903.05.90"), ("9903.04.67", "9903.05.86")):
        stack = decide_headings(LineFacts(TABLET, "IN", AUTUMN, claimed=frozenset({heading})))
        assert [row.heading for row in stack.certain] == [expected]
