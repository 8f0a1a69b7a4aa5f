"""A plan against the edition of the tariff on its day of entry: numbers, quantities, preferences, and what is not covered."""

from datetime import date

import pytest

from pipeline.core.findings import Finding
from pipeline.core.runtime import Runtime
from pipeline.customs.checks.tariff import check_tariff, load_tariff
from pipeline.exports.schemas.plan import Plan
from tests.customs.cases import BAG, PAN, SHIRT, UNIT, check_by_tariff
from tests.support import factories
from tests.support.factories import Json
from tests.support.query_counter import record_statements
from tests.support.tariff import REVISION_6, REVISION_7, import_revision

#: The entry of the plans is on 2026-11-26.
RECENT = date(2026, 10, 1)


def about(findings: list[Finding], pointer: str) -> list[tuple[str, str, str]]:
    """Return rule, severity and the rest of the pointer of the findings about a line."""
    return [
        (each.rule, each.severity, each.pointer.removeprefix(pointer))
        for each in findings
        if each.pointer.startswith(pointer)
    ]


def quantities(**by_unit: str) -> list[Json]:
    return [{"quantity": quantity, "unit": unit} for unit, quantity in by_unit.items()]


def test_plan_without_an_edition_has_one_note(runtime: Runtime) -> None:
    plan = Plan.model_validate(factories.plan(3, 7, 4))
    with runtime.db.read() as session:
        (note,) = check_tariff(plan, load_tariff(session, plan))
    assert (note.rule, note.severity, note.pointer) == ("H00", "note", "")
    assert note.message.startswith("The tariff was not checked: no edition of it is in force on 2026-11-26.")
    import_revision(runtime, REVISION_6, date(2026, 1, 1), date(2026, 11, 25))
    assert [each.rule for each in check_by_tariff(runtime)] == ["H00"]


def test_edition_without_a_chapter_says_so_once(runtime: Runtime) -> None:
    import_revision(runtime, REVISION_6, RECENT)
    notes = [each for each in check_by_tariff(runtime) if each.rule == "H00"]
    assert [each.message for each in notes] == [
        "Not checked: agency flags and duty cases, because no table of them is in force on each day of entry.",
        "The tariff was not checked for chapter 42: edition hts_2026_revision_6 does not have it.",
    ]
    assert about(check_by_tariff(runtime), BAG) == []


def test_quantities_that_the_entry_needs_are_proposed_exactly(runtime: Runtime) -> None:
    import_revision(runtime, REVISION_6, RECENT)
    found = check_by_tariff(runtime, (f"{PAN}/netWeightKg", "1.8"), (f"{SHIRT}/netWeightKg", "0.9"))
    pan, shirt = [each for each in found if each.rule == "H03"]
    assert (pan.severity, pan.pointer) == ("warn", f"{PAN}/unit")
    assert pan.message == "Line L1: the entry needs NO (No.) and KG (kg) for 7323.93.00.45, but the plan has NO."
    assert pan.remedy == "Give as entryQuantities 4 NO (4 NO) and 1.8 KG (1.8 kg net)."
    assert shirt.remedy == "Give as entryQuantities 0.33 DOZ (4 NO) and 0.9 KG (0.9 kg net)."
    stated = [
        (f"{PAN}/entryQuantities", quantities(NO="4", KG="1.8")),
        (f"{SHIRT}/entryQuantities", quantities(DOZ="0.33", KG="0.9")),
    ]
    assert [each.rule for each in check_by_tariff(runtime, *stated)] == ["H00", "H00"]
    wrong = check_by_tariff(runtime, (f"{PAN}/entryQuantities", quantities(KG="1.8", NO="4")))
    assert about(wrong, PAN) == [("H03", "warn", "/entryQuantities")]
    asked = check_by_tariff(runtime, (f"{SHIRT}/unit", "PRS"))
    assert "Ask for the quantity in DOZ: it does not follow from PRS." in next(
        each.remedy for each in asked if each.pointer == f"{SHIRT}/unit"
    )


def test_units_follow_the_edition_of_the_day(runtime: Runtime) -> None:
    import_revision(runtime, REVISION_6, date(2026, 1, 1))
    import_revision(runtime, REVISION_7, RECENT)
    changes = [(f"{PAN}/htsCode", "7323930060"), (f"{PAN}/entryQuantities", quantities(NO="4", KG="1.8"))]
    assert about(check_by_tariff(runtime, *changes), PAN) == [("H03", "warn", "/entryQuantities")]
    early = [(f"{UNIT}/entry/exportDate", "2026-09-29"), (f"{UNIT}/entry/estimatedArrivalAt", "2026-09-30T18:00:00Z")]
    assert about(check_by_tariff(runtime, *changes, *early), PAN) == []


@pytest.mark.parametrize(
    ("number", "message", "remedy"),
    [
        (
            "7323930099",
            "Line L1: 7323.93.00 exists, but 7323.93.00.99 does not in edition hts_2026_revision_6 of the tariff.",
            "Give one of its statistical suffixes: 7323.93.00.45 (Other cooking ware); 7323.93.00.60 (",
        ),
        (
            "7323990000",
            "Line L1: tariff number 7323.99.00.00 does not exist in edition hts_2026_revision_6 of the tariff.",
            "Correct the tariff number.",
        ),
    ],
)
def test_number_that_does_not_exist_is_refused(runtime: Runtime, number: str, message: str, remedy: str) -> None:
    import_revision(runtime, REVISION_6, RECENT)
    (missing,) = [each for each in check_by_tariff(runtime, (f"{PAN}/htsCode", number)) if each.rule == "H01"]
    assert (missing.severity, missing.pointer, missing.message) == ("block", f"{PAN}/htsCode", message)
    assert missing.remedy.startswith(remedy)
    assert missing.source is not None
    assert missing.source.startswith("HTSUS, edition hts_2026_revision_6 from 2026-10-01, sha256:")


def test_old_edition_refuses_nothing(runtime: Runtime) -> None:
    import_revision(runtime, REVISION_6, date(2026, 1, 1))
    (missing,) = [each for each in check_by_tariff(runtime, (f"{PAN}/htsCode", "7323930099")) if each.rule == "H01"]
    assert missing.severity == "warn"
    assert missing.remedy.endswith("The edition is old: ask for a newer one.")
    import_revision(runtime, REVISION_7, date(2026, 2, 1), date(2026, 12, 31))
    (missing,) = [each for each in check_by_tariff(runtime, (f"{PAN}/htsCode", "7323930099")) if each.rule == "H01"]
    assert missing.severity == "block"


def test_number_without_suffixes_is_noted(runtime: Runtime) -> None:
    import_revision(runtime, REVISION_6, RECENT)
    assert about(check_by_tariff(runtime, (f"{PAN}/htsCode", "9101114010")), PAN) == [("H01", "note", "/htsCode")]


def test_unknown_unit_of_the_tariff_is_noted(runtime: Runtime) -> None:
    import_revision(runtime, REVISION_6, RECENT)
    assert about(check_by_tariff(runtime, (f"{PAN}/htsCode", "9801001012")), PAN) == [("H03", "note", "/unit")]


def test_heading_of_chapter_99_that_does_not_exist_is_a_warning(runtime: Runtime) -> None:
    import_revision(runtime, REVISION_6, RECENT)
    rows = [
        {"heading": text, "program": "S301_CN", "ratePercent": "25", "basis": "full_value"}
        for text in ("9903.88.03", "9903.88.99")
    ]
    found = check_by_tariff(runtime, (f"{PAN}/treatment/chapter99", rows))
    assert ("H01", "warn", "/treatment/chapter99/1/heading") in about(found, PAN)
    assert ("H01", "warn", "/treatment/chapter99/0/heading") not in about(found, PAN)


@pytest.mark.parametrize(
    ("number", "spi", "severity"),
    [
        ("6105100010", "S", None), ("6105100010", "SG", None), ("6105100010", "A", "warn"), ("3401115000", "S", None),
        ("9101114010", "JP", None), ("9101114010", "KH", "warn"), ("0402100500", "A", None), ("0402100500", "A+", "warn"),
    ],
)  # fmt: skip
def test_preference_must_be_in_the_special_column(
    runtime: Runtime, number: str, spi: str, severity: str | None
) -> None:
    import_revision(runtime, REVISION_6, RECENT)
    found = check_by_tariff(runtime, (f"{SHIRT}/htsCode", number), (f"{SHIRT}/spi", spi))
    claims = [(each.severity, each.pointer) for each in found if each.rule == "H05"]
    assert claims == ([(severity, f"{SHIRT}/spi")] if severity else [])


def test_plan_of_many_lines_is_read_by_few_queries(runtime: Runtime) -> None:
    import_revision(runtime, REVISION_6, RECENT)
    plan = Plan.model_validate(factories.plan(5, 60, 4))
    with runtime.db.read() as session, record_statements(runtime.db) as statements:
        check_tariff(plan, load_tariff(session, plan))
    assert len([each for each in statements if "tariff" in str(each)]) == 2
