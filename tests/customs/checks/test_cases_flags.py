"""A plan against the tables of agency flags and duty cases on its day of entry."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.runtime import Runtime
from pipeline.customs.checks.tariff import keep_tariff, load_tariff
from pipeline.exports.schemas.plan import Plan
from tests.customs.cases import PAN, SHIRT, UNIT, check_by_tariff, pga_row, with_changes
from tests.support.query_counter import record_statements
from tests.support.tariff import AGENCY_FLAGS, DUTY_CASES, REVISION_6, import_revision, import_table

#: The entry of the plans is on 2026-11-26.
RECENT, OLD = date(2026, 10, 1), date(2026, 1, 1)
WOOD = [(f"{PAN}/htsCode", "4407110013"), (f"{PAN}/countryOfOrigin", "CA")]


def about(runtime: Runtime, line: str, *changes: tuple[str, Any]) -> list[tuple[str, str, str]]:
    """Return rule, severity and the rest of the pointer of the findings about a line."""
    return [
        (each.rule, each.severity, each.pointer.removeprefix(line))
        for each in check_by_tariff(runtime, *changes)
        if each.pointer.startswith(line)
    ]


def test_what_is_not_loaded_is_said_once(runtime: Runtime) -> None:
    def list_notes() -> list[str]:
        return [each.message for each in check_by_tariff(runtime) if each.rule == "H00" and not each.pointer]

    (note,) = list_notes()
    assert note.endswith(
        "Not known here: whether tariff numbers exist, which quantities they need, their rates, agency flags and duty cases."
    )
    import_table(runtime, AGENCY_FLAGS, RECENT)
    (note,) = list_notes()
    assert note.endswith("their rates and duty cases.")
    import_revision(runtime, REVISION_6, RECENT)
    assert list_notes()[0] == "Not checked: duty cases, because no table of them is in force on each day of entry."
    import_table(runtime, DUTY_CASES, RECENT)
    (chapter,) = list_notes()
    assert chapter.startswith("The tariff was not checked for chapter 42")


def test_flag_without_answer_is_a_finding_by_its_requirement(runtime: Runtime) -> None:
    import_table(runtime, AGENCY_FLAGS, RECENT)
    none: tuple[str, Any] = (f"{PAN}/treatment/pga", [])
    shirt = (f"{SHIRT}/htsCode", "6105100010")
    assert ("H20", "warn", "/treatment/pga") in about(runtime, PAN, none)
    (must,) = [
        each for each in check_by_tariff(runtime, none, shirt) if each.rule == "H20" and each.pointer.startswith(SHIRT)
    ]
    assert (must.severity, must.remedy) == ("block", "Give the FDA data for flag FD2.")
    assert must.message == (
        "Line L2: 6105.10.00.10 has flag FD2 (FDA data is required): the entry must have FDA data, and the plan has no answer."
    )
    assert (must.source or "").startswith("ACE agency tariff codes, edition agency_flags from 2026-10-01, sha256:")


def test_flag_without_disclaimers_can_stand_alone_and_a_silent_one_is_not_asked_for(
    runtime: Runtime, tmp_path: Path
) -> None:
    table = tmp_path / "flags.csv"
    table.write_text(
        "HTS Number,Agency Tariff Code,Agency\n7323930045,AQX,APH\n7323930045,AT1,ATF\n7323930045,AM3,AMS\n"
    )
    import_table(runtime, table, RECENT)
    (asked,) = [each for each in check_by_tariff(runtime, (f"{PAN}/treatment/pga", [])) if each.pointer.startswith(PAN)]
    assert (asked.rule, asked.severity) == ("H20", "warn")
    assert asked.remedy == "Give the AMS data for flag AM3, or name the flag alone if the goods need none."
    alone = [pga_row("AM3", "AMS"), pga_row("AQX", "APH"), pga_row("AT1", "ATF")]
    assert about(runtime, PAN, (f"{PAN}/treatment/pga", alone)) == []


def test_old_table_refuses_nothing(runtime: Runtime) -> None:
    import_table(runtime, AGENCY_FLAGS, OLD)
    changes = [(f"{PAN}/treatment/pga", []), (f"{SHIRT}/htsCode", "6105100010")]
    assert {(each.severity, each.pointer) for each in check_by_tariff(runtime, *changes) if each.rule == "H20"} == {
        ("warn", f"{SHIRT}/treatment/pga"), ("note", f"{PAN}/treatment/pga"),
    }  # fmt: skip


@pytest.mark.parametrize("answer", [{"disclaimer": "A"}, {"data": {"productName": "Pan"}}])
def test_data_and_disclaimer_are_answers(runtime: Runtime, answer: dict[str, Any]) -> None:
    import_table(runtime, AGENCY_FLAGS, RECENT)
    rows = [pga_row("FD1", "FDA", **answer), pga_row("FW1", "FWS", disclaimer="E")]
    assert about(runtime, PAN, (f"{PAN}/treatment/pga", rows)) == []


def test_answer_to_a_flag_that_the_number_lacks_is_noted(runtime: Runtime) -> None:
    import_table(runtime, AGENCY_FLAGS, RECENT)
    rows = [pga_row("FD1", "FDA", disclaimer="A"), pga_row("FW1", "FWS", disclaimer="E"), pga_row("DT1", "NHT")]
    assert about(runtime, PAN, (f"{PAN}/treatment/pga", rows)) == [("H21", "note", "/treatment/pga/2/flag")]
    (note,) = [
        each
        for each in check_by_tariff(runtime, (f"{PAN}/treatment/pga", rows))
        if each.rule == "H21" and PAN in each.pointer
    ]
    assert "has only FW1 and FD1 in edition agency_flags" in note.message


def test_number_and_origin_of_a_case_may_be_in_its_scope(runtime: Runtime) -> None:
    import_table(runtime, DUTY_CASES, RECENT)
    (found,) = [each for each in check_by_tariff(runtime, *WOOD) if each.rule == "H30"]
    assert (found.severity, found.pointer) == ("warn", f"{PAN}/attributes")
    assert found.message == (
        "Line L1: goods of CA in 4407.11.00.13 may be in the scope of A-122-857-000 (Softwood lumber from Canada) and "
        "C-122-858-000 (Softwood lumber from Canada)."
    )
    assert found.remedy.startswith("Read the scope: its text decides, not the number.")
    one = (f"{PAN}/attributes", {"adCvdCase": "A-122-857-012"})
    (rest,) = [each for each in check_by_tariff(runtime, *WOOD, one) if each.rule == "H30"]
    assert "A-122-857" not in rest.message
    assert about(runtime, PAN, *WOOD, (f"{PAN}/attributes", {"adCvdCase": "A-122-857-000, C122858000"})) == []
    disclaimed = (f"{PAN}/attributes", {"adCvdDisclaimer": "Drilled frame parts, outside the scope"})
    assert about(runtime, PAN, *WOOD, disclaimed) == []
    assert about(runtime, PAN, *[(f"{PAN}/htsCode", "4407110013"), (f"{PAN}/countryOfOrigin", "DE")]) == []


def test_revoked_case_covers_nothing(runtime: Runtime) -> None:
    import_table(runtime, DUTY_CASES, RECENT)
    china = (f"{PAN}/countryOfOrigin", "CN")
    assert ("H30", "warn", "/attributes") in about(runtime, PAN, china)
    late = [(f"{UNIT}/entry/exportDate", "2026-12-02"), (f"{UNIT}/entry/estimatedArrivalAt", "2026-12-02T18:00:00Z")]
    assert about(runtime, PAN, china, *late) == []


@pytest.mark.parametrize(
    ("attributes", "expected", "words"),
    [
        ({"adCvdCase": "A-999-999-000"}, ("H31", "/attributes/adCvdCase"), "does not have A-999-999-000"),
        ({"adCvdCase": "softwood"}, ("H31", "/attributes/adCvdCase"), "does not have softwood"),
        ({"adCvdCase": "A-122-857-099"}, ("H31", "/attributes/adCvdCase"), "does not have A-122-857-099"),
        ({"adCvdCase": "A-570-100-000"}, ("H32", "/attributes/adCvdCase"), "is revoked since 2019-05-01"),
        (
            {"adCvdCase": "A-570-779-000"},
            ("H33", "/attributes/adCvdCase"),
            "is for goods of CN, and the goods are of CA",
        ),
        (
            {"adCvdCase": "A-122-857", "adCvdRate": "7.66%"},
            ("H33", "/attributes/adCvdRate"),
            "the deposit rate of A-122-857-000 is 20.56% since 2026-08-01, but the plan has 7.66%",
        ),
    ],
)
def test_wrong_declaration_is_a_finding(
    runtime: Runtime, attributes: dict[str, str], expected: tuple[str, str], words: str
) -> None:
    import_table(runtime, DUTY_CASES, RECENT)
    found = [
        each
        for each in check_by_tariff(runtime, *WOOD, (f"{PAN}/attributes", attributes))
        if each.pointer.startswith(PAN) and each.rule in {"H31", "H32", "H33"}
    ]
    assert [(each.rule, each.pointer.removeprefix(PAN)) for each in found] == [expected]
    assert words in found[0].message
    assert found[0].severity == "warn"


def test_same_rates_between_semicolons_agree(runtime: Runtime) -> None:
    import_table(runtime, DUTY_CASES, RECENT)
    declared = {"adCvdCase": "A-122-857-012; C-122-858-000", "adCvdRate": "9.65%; 14.63%"}
    assert about(runtime, PAN, *WOOD, (f"{PAN}/attributes", declared)) == []


def test_tables_are_read_by_few_queries_and_kept_only_if_needed(runtime: Runtime) -> None:
    import_table(runtime, AGENCY_FLAGS, RECENT)
    import_table(runtime, DUTY_CASES, RECENT)
    plain = Plan.model_validate(with_changes())
    declared = Plan.model_validate(with_changes(*WOOD, (f"{PAN}/attributes", {"adCvdCase": "A-122-857, X"})))
    with runtime.db.read() as session, record_statements(runtime.db) as statements:
        tariff = load_tariff(session, plain)
    assert len([each for each in statements if "tariff_" in str(each) or "duty_cases" in str(each)]) == 3
    assert keep_tariff(plain, tariff) == [None]
    with runtime.db.read() as session:
        (kept,) = keep_tariff(declared, load_tariff(session, declared))
    assert kept is not None
    assert (kept.edition, kept.rates, kept.deposits) == (None, (), ("20.56%", None))
    assert '"deposits":["20.56%",null]' in kept.to_json()
