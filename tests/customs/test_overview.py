"""The overview of a plan per line and agency: what is present, what is missing, what needs a person."""

import pytest

from pipeline.customs.overview import CBP, DUTIES, PLAN, USMCA, plan_overview
from pipeline.exports.schemas.plan import Plan
from tests.customs.cases import DEAR, PAN, SHIRT, UNIT, findings, pga_row, with_changes
from tests.support.factories import RULESET, plan
from tests.support.memory import LINEAR, measure_cost_ratio


def list_standings(*changes: tuple[str, object]) -> dict[tuple[str, str], tuple[list[str], list[str], list[str]]]:
    changed = with_changes(*changes)
    rows = plan_overview(Plan.model_validate(changed), findings(changed))
    return {(row.line_ref, row.agency): (row.present, row.missing, row.person) for row in rows}


def test_good_plan_is_complete_for_every_agency() -> None:
    changed = plan()
    rows = plan_overview(Plan.model_validate(changed), findings(changed))
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
    assert shown["", PLAN] == ["batch batch_2026_1124_01", f"rules {RULESET}", "approved by ops@maple.example"]
    assert shown["", CBP] == [
        "entry 01 at 0901 Buffalo-Niagara Falls NY",
        "invoice A-00001, 228.00 USD DAP",
        "3 lines in 2 packages",
    ]
    assert shown["L1", DUTIES] == ["9903.05.90", "9903.82.09", "steel 3.200 kg, melt CA"]
    assert (shown["L1", "FDA"], shown["L2", USMCA]) == (["FD1 FOO disclaimed A"], ["claim S", "certification C1"])


def test_blocking_finding_is_missing_at_its_agency() -> None:
    rows = list_standings(
        *DEAR, (f"{PAN}/treatment/section232/0/countryOfMeltAndPour", None), (f"{SHIRT}/usmcaCertificateRef", None)
    )
    assert rows["L1", DUTIES][1] == ["V09 country of melt and pour"]
    assert rows["L2", USMCA][1] == ["V12 usmca certificate ref"]
    assert [place for place, row in rows.items() if row[1]] == [("L1", DUTIES), ("L2", USMCA)]


def test_warning_needs_person_but_note_does_not() -> None:
    rows = list_standings((f"{UNIT}/invoice/relatedParties", True), (f"{UNIT}/invoice/charges/0/code", "handling"))
    assert rows["", CBP][1:] == ([], ["V17 charges"])


def test_waived_warning_needs_no_person() -> None:
    changed = with_changes((f"{UNIT}/invoice/charges/0/code", "handling"))
    waived = [finding.model_copy(update={"waived_by": "wvr_1"}) for finding in findings(changed)]
    (_, row, *_) = plan_overview(Plan.model_validate(changed), waived)
    assert (row.complete, row.waived) == (True, ["V17 charges"])


def test_plan_findings_precede_units() -> None:
    assert list_standings(("/destinationCountry", "MX"))["", PLAN][1] == ["V25 destination country"]


def test_incomplete_certification_is_listed_under_usmca() -> None:
    assert list_standings((f"{UNIT}/usmcaCertificates/0/importer", None))["", USMCA][2] == ["V30 importer"]


def test_agency_data_have_labels() -> None:
    row = pga_row("CP1", "CPS", processing="REF", data={"productId": "P-77", "batchNote": "B"})
    shown = list_standings((f"{PAN}/treatment/pga/0", row))["L1", "CPS"]
    assert shown == (["CP1 REF: batchNote, Product id"], [], ["V14-DATA certifier id", "V14-DATA version id"])


@pytest.mark.system
def test_overview_of_ten_times_the_lines_costs_ten_times_as_much() -> None:
    some, many = (Plan.model_validate(plan(1, lines, lines)) for lines in (400, 4_000))
    assert len(plan_overview(many, [])) == 10_669
    assert measure_cost_ratio(lambda changed: plan_overview(changed, []), some, many) < LINEAR
