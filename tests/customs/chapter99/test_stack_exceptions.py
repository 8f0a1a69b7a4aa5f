"""If a heading says "Except for products described in headings ...", the rules except the same goods."""

from datetime import date
from itertools import product

import pytest

from pipeline.customs.chapter99.facts import LineFacts
from pipeline.customs.chapter99.stack import ProgramChoice, decide_headings, explain_headings
from pipeline.customs.reference.chapter99 import HeadingRow
from pipeline.customs.reference.ruleset import ruleset
from tests.customs.cases import STACK, heading, with_changes
from tests.customs.chapter99.test_checks import chapter99, with_goods
from tests.support.tables import table

AUTUMN = date(2026, 11, 24)

#: The exceptions of HTSUS 2026 Revision 6, in the headings of chapter 99 and in U.S. notes 16, 33, 37, 38 and 39.
#: Exclusions of China that had ended before that revision are omitted.
EXCEPT: dict[str, tuple[str, ...]] = {
    "9903.01.10": ("9903.01.13", "9903.01.14"),
    "9903.03.01": tuple(f"9903.03.{number:02d}" for number in range(2, 12)),
    "9903.82.02": ("9903.82.14", "9903.85.67", "9903.85.68"),
    "9903.82.06": ("9903.82.15", "9903.85.68"),
    "9903.82.07": ("9903.82.12", "9903.82.17", "9903.85.68"),
    "9903.82.08": ("9903.82.12", "9903.82.17", "9903.85.68"),
    "9903.82.09": ("9903.82.16", "9903.85.68"),
    "9903.82.10": ("9903.82.12", "9903.82.17", "9903.85.68"),
    "9903.82.11": ("9903.82.12", "9903.82.17", "9903.85.68"),
    "9903.82.12": ("9903.82.17", "9903.85.68"),
    "9903.88.01": ("9903.88.69",),
    "9903.88.02": ("9903.88.69", "9903.88.70"),
    "9903.88.03": ("9903.88.69",),
    "9903.88.04": ("9903.88.69",),
    "9903.88.15": ("9903.88.69",),
    "9903.94.01": (
        "9903.94.02", "9903.94.03", "9903.94.04", "9903.94.31", "9903.94.40", "9903.94.41", "9903.94.50", "9903.94.51",
        "9903.94.60", "9903.94.61"),
    "9903.94.05": (
        "9903.94.06", "9903.94.32", "9903.94.33", "9903.94.42", "9903.94.43", "9903.94.44", "9903.94.45", "9903.94.52",
        "9903.94.53", "9903.94.54", "9903.94.55", "9903.94.62", "9903.94.63"),
    "9903.94.07": (
        "9903.94.33", "9903.94.44", "9903.94.45", "9903.94.54", "9903.94.55", "9903.94.64", "9903.94.65"),
    "9903.94.40": ("9903.94.02", "9903.94.04"),
    "9903.94.41": ("9903.94.02", "9903.94.04"),
    "9903.94.42": ("9903.94.06",),
    "9903.94.43": ("9903.94.06",),
    "9903.74.01": ("9903.74.03", "9903.74.05", "9903.74.06", "9903.74.07"),
    "9903.74.02": ("9903.74.07",),
    "9903.74.08": ("9903.74.10", "9903.74.11"),
    "9903.74.09": ("9903.74.10",),
    "9903.76.03": ("9903.76.04",),
    "9903.76.20": ("9903.76.04",),
    "9903.76.21": ("9903.76.04",),
    "9903.76.22": ("9903.76.04",),
    "9903.76.23": ("9903.76.04",),
    "9903.79.01": tuple(f"9903.79.{number:02d}" for number in range(2, 10)),
}  # fmt: skip
PAIRS = list(EXCEPT.items())


def are_lists_disjoint(excepted: HeadingRow, row: HeadingRow) -> bool:
    """Return whether no goods fit both rows: the goods of one are certified not to be on the lists of the other."""
    certified = excepted.when.certified
    return certified is not None and not excepted.when.lists and set(row.when.lists) <= set(certified.not_lists)


@table(("general", "exceptions"), PAIRS)
def test_excepted_headings_are_decided_first(general: str, exceptions: tuple[str, ...]) -> None:
    rules = ruleset()
    place = {row: number for number, row in enumerate(rules.rows)}
    for name in exceptions:
        for row, excepted in product(rules.by_heading[general], rules.by_heading[name]):
            origins = excepted.when.origins
            apart = bool(origins) and origins <= row.when.not_origins
            apart = apart or are_lists_disjoint(excepted, row) or not row.overlaps(excepted)
            assert apart or (excepted.program == row.program and place[excepted] < place[row]), (
                row.effective_from,
                name,
            )


CAR, LORRY_TIRE, BRAKE_PAD, MEDICAMENT = "8703230140", "4011201015", "8708305090", "3004909276"
#: The heading for all countries, an HTS code of it, and the headings that replace it for a country with an agreement.
AGREED = [
    ("9903.94.01", CAR, "JP", ["9903.94.40", "9903.94.41"]),
    ("9903.94.01", CAR, "DE", ["9903.94.50", "9903.94.51"]),
    ("9903.94.01", CAR, "KR", ["9903.94.60", "9903.94.61"]),
    ("9903.94.05", BRAKE_PAD, "JP", ["9903.94.42", "9903.94.43"]),
    ("9903.94.05", BRAKE_PAD, "DE", ["9903.94.52", "9903.94.53"]),
    ("9903.94.05", BRAKE_PAD, "KR", ["9903.94.62", "9903.94.63"]),
    ("9903.94.05", BRAKE_PAD, "TW", ["9903.94.66", "9903.94.67"]),
    ("9903.94.05", LORRY_TIRE, "GB", ["9903.94.32"]),
    ("9903.94.07", "3926909985", "JP", ["9903.94.54", "9903.94.55"]),
    ("9903.94.07", "3926909985", "DE", ["9903.94.44", "9903.94.45"]),
    ("9903.94.07", "3926909985", "KR", ["9903.94.64", "9903.94.65"]),
    ("9903.94.07", "3926909985", "TW", ["9903.94.68", "9903.94.69"]),
    ("9903.04.60", MEDICAMENT, "JP", ["9903.04.62"]),
    ("9903.04.60", MEDICAMENT, "GB", ["9903.04.63"]),
    ("9903.76.02", "9401614011", "JP", ["9903.76.21"]),
    ("9903.76.03", "9403409060", "KR", ["9903.76.23"]),
]


def choose_headings(general: str, code: str, origin: str, on: date = AUTUMN) -> ProgramChoice:
    choice = decide_headings(LineFacts(code, origin, on)).find_choice(ruleset().by_heading[general][0].program)
    assert choice is not None
    return choice


@pytest.mark.parametrize(("general", "code", "origin", "instead"), AGREED)
def test_agreement_goods_get_agreement_heading_only(general: str, code: str, origin: str, instead: list[str]) -> None:
    offered = [item.row.heading for item in choose_headings(general, code, origin).candidates]
    assert general not in offered
    assert [name for name in offered if name in instead] == instead
    assert general in [item.row.heading for item in choose_headings(general, code, "VN").candidates]


def test_japanese_car_without_column_1_rate_has_no_decided_heading() -> None:
    steps = {
        step.heading: step for step in explain_headings(LineFacts(CAR, "JP", AUTUMN)) if step.program == "S232_AUTOS"
    }
    assert not any(step.applies for step in steps.values())
    assert "9903.94.01" not in steps
    assert {steps["9903.94.40"].verdict, steps["9903.94.41"].verdict} == {"needs_person"}


def test_overpaying_for_japanese_car_blocks_with_heading() -> None:
    changed = with_changes(*with_goods(CAR, heading("9903.05.90", "0"), heading("9903.94.01"), origin="JP"))
    assert chapter99(changed) == [("V11", "block", f"{STACK}/1/heading")]


@pytest.mark.parametrize(
    ("origin", "last", "first"),
    [("DE", "2025-07-31", "2025-08-01"), ("JP", "2025-09-15", "2025-09-16"), ("KR", "2025-10-31", "2025-11-01")],
)
def test_agreement_applies_from_first_day(origin: str, last: str, first: str) -> None:
    for code, general in ((CAR, "9903.94.01"), (BRAKE_PAD, "9903.94.05")):
        offered = [
            general
            in [item.row.heading for item in choose_headings(general, code, origin, date.fromisoformat(day)).candidates]
            for day in (last, first)
        ]
        assert offered == [True, False]


@pytest.mark.parametrize(
    ("hts_code", "on", "asked"),
    [
        ("8807300060", AUTUMN, {"9903.05.88"}),  # parts of aircraft
        ("2008992100", AUTUMN, {"9903.05.87"}),  # acai
        ("7323930045", AUTUMN, set()),
        ("8807300060", date(2026, 7, 1), {"9903.03.05"}),
        ("1404909000", date(2026, 7, 1), {"9903.03.04"}),
        ("7323930045", date(2026, 7, 1), set()),
    ],
)
def test_exception_for_listed_goods_is_asked_about_only_for_them(hts_code: str, on: date, asked: set[str]) -> None:
    steps = explain_headings(LineFacts(hts_code, "CA", on, None))
    open_ones = {step.heading for step in steps if step.verdict == "needs_person"}
    assert open_ones & {"9903.05.87", "9903.05.88", "9903.03.04", "9903.03.05"} == asked
