"""The agencies' forms on the worksheet: each block as printed, with the plan's value, the filer's, or nothing."""

from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.customs.pga.answers import flag_answers
from pipeline.customs.pga.forms import build_forms
from pipeline.customs.reference.pga import PgaRules, pga_rules
from pipeline.customs.reference.pga_forms import FormLayout
from pipeline.exports.schemas.pga_worksheet import AgencyForm
from pipeline.exports.schemas.plan import Plan
from tests.customs.cases import PAN, findings, pga_row, with_changes
from tests.support.factories import Json

ENTERED = date(2026, 11, 26)
ROW = f"{PAN}/treatment/pga/0"
OAK: Json = {
    "component": ["Top", "Legs"], "genus": ["Acer", "Quercus"], "species": ["saccharum", "rubra"],
    "harvestCountry": ["CA", "US"], "plantQuantity": ["1.5", "20"], "plantUom": ["MTQ", "kg"],
    "percentRecycled": ["0", "12.5"], "value": "1312",
}  # fmt: skip


def forms_of(*rows: Json) -> list[AgencyForm]:
    unit = Plan.model_validate(with_changes((f"{PAN}/treatment/pga", list(rows)))).units[0]
    return list(build_forms(unit, [list(flag_answers(unit, line, ENTERED)) for line in unit.lines], ENTERED))


def test_lacey_declaration_has_each_block_of_ppq_505() -> None:
    (form,) = forms_of(pga_row("AL2", "APH", program="APL", data=OAK))
    assert (form.form, form.title) == ("PPQ 505", "Plant and Plant Product Declaration")
    shipment = {box.box: (box.value, box.from_filer) for box in form.boxes}
    assert shipment == {
        "1 Estimated date of arrival": ("11/26/2026", False),
        "2 Entry number": (None, True),
        "3 Container number": (None, True),
        "4 Bill of lading": ("DEMO00000001", False),
        "6 Importer": ("Demo Housewares Inc", False),
        "7 Importer's address": ("400 Main Street, Buffalo NY 14202, US", False),
        "8 Consignee": ("Demo Housewares Inc, Dock 4", False),
        "9 Consignee's address": ("1 Harbor Road, Buffalo NY 14203, US", False),
    }
    assert form.columns == (
        "13 Article or component", "14 Genus", "14 Species", "15 Harvested in", "16 Quantity", "17 Unit", "18 % recycled",
    )  # fmt: skip
    (line,) = form.lines
    assert line.number == 1
    assert {box.box: box.value for box in line.boxes} == {
        "10 Description": "Frying pan, stainless steel, for household cooking",
        "5 MID": "XOMAPGOO120TOR",
        "11 HTSUS number": "7323930045",
        "12 Entered value, USD": "1312",
    }
    assert line.rows == (
        ("Top", "Acer", "saccharum", "CA", "1.5", "M3", "0"),
        ("Legs", "Quercus", "rubra", "US", "20", "KG", "12.5"),
    )


def test_vehicles_have_a_row_each_in_hs7() -> None:
    data = {"hs7Box": "Box 2b", "make": "Maple", "model": "Trail", "year": "2024", "vin": ["1HGCM82633A004352", "2"]}
    (form,) = forms_of(pga_row("DT1", "NHT", program="MVS", data=data))
    (line,) = form.lines
    assert (form.form, line.boxes[1].value) == (
        "HS-7",
        "2B: Certified to Canadian standards, for personal use (591.5(g))",
    )
    assert line.rows == (("Maple", "Trail", "2024", "1HGCM82633A004352", ""), ("Maple", "Trail", "2024", "2", ""))


def test_equipment_has_brand_and_no_vehicle() -> None:
    (form,) = forms_of(pga_row("DT1", "NHT", program="REI", data={"hs7Box": "2A", "brandName": "Maple"}))
    assert form.lines[0].rows == (("Maple", "", "", "", ""),)
    (bare,) = forms_of(pga_row("DT1", "NHT", program="OEI", data={"hs7Box": "2A"}))
    assert bare.lines[0].rows == ()


@pytest.mark.parametrize(
    "row",
    [
        pga_row("AL2", "APH", disclaimer="G"),
        pga_row("AL2", "APH", program="APL"),
        pga_row("AQ1", "APH", program="APQ", data={"category": "406"}),
        pga_row("EP7", "EPA", program="TS1", data={"tscaCertification": "positive"}),
    ],
)
def test_answer_without_lacey_or_vehicle_data_has_no_form(row: Json) -> None:
    assert forms_of(row) == []


def test_unknown_value_stands_on_form_as_given() -> None:
    (form,) = forms_of(pga_row("AL2", "APH", program="APL", data=OAK | {"plantUom": ["board feet", "KG"]}))
    assert [row[5] for row in form.lines[0].rows] == ["board feet", "KG"]


def list_faults(data: Json) -> list[tuple[str, str, str]]:
    changed = with_changes((ROW, pga_row("AL2", "APH", program="APL", data=data)))
    return [(one.severity, one.pointer, one.remedy) for one in findings(changed) if one.rule == "V14-LIST"]


def test_lists_of_different_lengths_are_reported() -> None:
    remedy = "Give plantUom 2 values too, the first for the first row."
    assert list_faults(OAK | {"plantUom": "KG"}) == [("warn", f"{ROW}/data/plantUom", remedy)]
    assert list_faults(OAK | {"genus": ["A", "B", "C"]})[0][1] == f"{ROW}/data/species"
    assert list_faults(OAK) == []


def test_one_species_may_have_several_countries() -> None:
    one = {key: value if isinstance(value, str) else value[0] for key, value in OAK.items()}
    assert list_faults(one | {"harvestCountry": ["CA", "US"]}) == []


def dump_layout(**changes: Any) -> Json:
    return next(each for each in pga_rules().forms if each.name == "HS-7").model_dump(by_alias=True) | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": [{"label": "Both", "from": "mid", "element": "vin"}]}, "has both `from` and `element`"),
        ({"columns": [{"label": "Nothing"}]}, "a column of HS-7 has no element"),
    ],
)
def test_inconsistent_form_is_refused(changes: Json, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FormLayout.model_validate(dump_layout(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"programs": ["ZZZ"]}, "form HS-7 names program ZZZ, which NHT does not have"),
        ({"columns": [{"label": "Wheels", "element": "wheels"}]}, "form HS-7 names element wheels"),
    ],
)
def test_form_of_unknown_parts_is_refused(changes: Json, message: str) -> None:
    document = pga_rules().model_dump(by_alias=True) | {"forms": [dump_layout(**changes) | {"source": "hs7_form"}]}
    tables = ("disclaimers", "intended_uses", "roles", "flags", "programs", "values")
    for table in tables:
        document[table] = [row | {"source": "message_set"} for row in document[table]]
    with pytest.raises(ValidationError, match=message):
        PgaRules.model_validate(document)
