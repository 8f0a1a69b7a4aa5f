"""Informal entries of a plan to one consignee on one day are added up."""

from __future__ import annotations

from tests.customs.cases import findings, list_findings
from tests.support.factories import Json, change_plan, plan


def split(units: int = 2, each: str = "1300.00") -> Json:
    """Return a plan of informal entries to one consignee, each of about this value."""
    whole = plan(units)
    for place in range(units):
        for member, value in (("unitPrice", each), ("lineValue", each), ("quantity", "1")):
            whole = change_plan(whole, f"/units/{place}/lines/0/{member}", value)
        whole = change_plan(whole, f"/units/{place}/entry/type", "11")
    return whole


def list_split(whole: Json) -> list[tuple[str, str, str]]:
    return [each for each in list_findings(whole) if each[0] == "V27-DAY"]


def test_entries_above_the_limit_together_are_one_finding() -> None:
    assert list_split(split()) == [("V27-DAY", "warn", "/units/1/entry/type")]
    (found,) = [each for each in findings(split(3)) if each.rule == "V27-DAY"]
    assert found.pointer == "/units/2/entry/type"
    assert found.message.startswith("Units U1, U2 and U3 are informal entries to one consignee on 2026-11-26, together")
    assert "141.52" in found.remedy
    assert found.source is not None
    assert "64957404" in found.source


def test_entries_up_to_the_limit_are_allowed() -> None:
    assert list_split(split(each="1000.00")) == []


def test_case_and_signs_do_not_make_another_consignee() -> None:
    whole = split()
    name = whole["units"][1]["parties"]["shipTo"]["name"]
    whole["units"][1]["parties"]["shipTo"]["name"] = name.upper().replace(" ", "  ") + "."
    assert len(list_split(whole)) == 1


def test_other_consignee_day_or_type_is_not_added() -> None:
    other = change_plan(split(), "/units/1/parties/shipTo/address/line1", "2 Other Road")
    later = change_plan(split(), "/units/1/entry/estimatedArrivalAt", "2026-11-27T18:00:00Z")
    formal = change_plan(split(), "/units/1/entry/type", "01")
    unknown = change_plan(split(), "/units/1/invoice/currency", "CAD")
    assert [list_split(each) for each in (other, later, formal, unknown)] == [[], [], [], []]


def test_parts_of_one_shipment_are_left_to_their_own_rule() -> None:
    whole = split()
    number = whole["units"][0]["entry"]["shipmentControlNumber"]
    for place, unit in enumerate(whole["units"], 1):
        unit["entry"] |= {"part": {"number": str(place), "of": "2"}, "shipmentControlNumber": number}
    assert {rule for rule, _, _ in list_findings(whole)} & {"V27", "V27-DAY", "C02"} == {"V27"}


def test_many_units_are_counted_not_listed() -> None:
    (found,) = [each for each in findings(split(9)) if each.rule == "V27-DAY"]
    assert found.message.startswith("Units U1, U2, U3, U4, U5 and 4 more are informal")
