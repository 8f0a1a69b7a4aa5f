"""A plan line by line and agency by agency: what is there, what is missing, what needs a person."""

from __future__ import annotations

from pipeline.customs.overview import CBP, DUTIES, PLAN, USMCA, plan_overview
from pipeline.exports.schemas.plan import Plan
from tests.customs.cases import DEAR, PAN, SHIRT, UNIT, findings, pga_row, with_changes
from tests.support.factories import plan
from tests.support.memory import measure_cost_ratio


def list_standings(*changes: tuple[str, object]) -> dict[tuple[str, str], tuple[list[str], list[str], list[str]]]:
    made = with_changes(*changes)
    rows = plan_overview(Plan.model_validate(made), findings(made))
    return {(row.line_ref, row.agency): (row.present, row.missing, row.person) for row in rows}


def test_a_good_plan_is_complete_with_every_agency_of_every_line() -> None:
    made = plan()
    rows = plan_overview(Plan.model_validate(made), findings(made))
    assert all(row.complete for row in rows)
    assert [(row.line_ref, row.agency) for row in rows] == [
        ("", PLAN),
        ("", CBP),
        ("L1", CBP),
        ("L1", DUTIES),
        ("L1", "FDA"),
        ("L2", CBP),
        ("L2", DUTIES),
        ("L2", USMCA),
        ("L3", CBP),
        ("L3", DUTIES),
    ]
    shown = {(row.line_ref, row.agency): row.present for row in rows}
    assert shown["", PLAN] == ["batch batch_2026_1124_01", "rules us-ca-2026-11-27.2", "approved by ops@maple.example"]
    assert shown["", CBP] == [
        "entry 01 at 0901",
        "invoice A-00001, 228.00 USD DAP",
        "3 lines in 2 packages",
    ]
    assert shown["L1", DUTIES] == ["9903.05.90", "9903.82.09", "steel 3.200 kg, melt CA"]
    assert shown["L1", "FDA"] == ["FD1 FOO disclaimed A"]
    assert shown["L2", USMCA] == ["claim S", "certification C1"]


def test_what_blocks_is_missing_with_the_agency_that_asks() -> None:
    rows = list_standings(
        *DEAR, (f"{PAN}/treatment/section232/0/countryOfMeltAndPour", None), (f"{SHIRT}/usmcaCertificateRef", None)
    )
    assert rows["L1", DUTIES][1] == ["V09 country of melt and pour"]
    assert rows["L2", USMCA][1] == ["V12 usmca certificate ref"]
    assert [place for place, row in rows.items() if row[1]] == [("L1", DUTIES), ("L2", USMCA)]


def test_a_warning_needs_a_person_and_a_note_needs_nobody() -> None:
    rows = list_standings((f"{UNIT}/invoice/relatedParties", True), (f"{UNIT}/invoice/charges/0/code", "handling"))
    assert rows["", CBP][1:] == ([], ["V17 charges"])


def test_a_waived_warning_needs_nobody() -> None:
    made = with_changes((f"{UNIT}/invoice/charges/0/code", "handling"))
    waived = [finding.model_copy(update={"waived_by": "wvr_1"}) for finding in findings(made)]
    (_, row, *_) = plan_overview(Plan.model_validate(made), waived)
    assert (row.complete, row.waived) == (True, ["V17 charges"])


def test_what_is_said_of_the_whole_plan_stands_before_its_units() -> None:
    assert list_standings(("/destinationCountry", "MX"))["", PLAN][1] == ["V25 destination country"]


def test_a_certification_that_lacks_something_stands_with_usmca() -> None:
    assert list_standings((f"{UNIT}/usmcaCertificates/0/importer", None))["", USMCA][2] == ["V30 importer"]


def test_agency_data_are_called_by_their_names() -> None:
    row = pga_row("CP1", "CPS", processing="REF", data={"productId": "P-77", "batchNote": "B"})
    shown = list_standings((f"{PAN}/treatment/pga/0", row))["L1", "CPS"]
    assert shown == (["CP1 REF: batchNote, Product id"], [], ["V14-DATA certifier id", "V14-DATA version id"])


def test_ten_times_the_lines_are_looked_over_for_about_ten_times_as_much() -> None:
    some, many = (Plan.model_validate(plan(1, lines, lines)) for lines in (1_000, 10_000))
    assert len(plan_overview(many, [])) == 26_669
    assert measure_cost_ratio(lambda made: plan_overview(made, []), some, many) < 40
