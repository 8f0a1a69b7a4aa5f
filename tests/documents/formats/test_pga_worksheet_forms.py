"""The agencies' forms on the printed worksheet: complete, in parts too, and none without such an agency."""

from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfReader

from pipeline.documents.formats.pga_worksheet import (
    MAX_FORM_LINES,
    grouped_template,
    list_form_parts,
    list_rows,
    pga_worksheet,
)
from pipeline.documents.pdf.typesetter import split_rows, typeset
from pipeline.documents.schemas.invoice import Invoice
from tests.customs.cases import pga_row
from tests.documents.formats.test_invoice_pdf_archive import assert_archivable
from tests.documents.samples import sample

Json = dict[str, Any]

OAK = {
    "component": ["Table top", "Legs"], "genus": ["Acer", "Quercus"], "species": ["saccharum", "rubra"],
    "harvestCountry": ["CA", "US"], "plantQuantity": ["1.5", "20"], "plantUom": ["M3", "KG"],
    "percentRecycled": ["0", "12.5"], "value": "1312",
}  # fmt: skip


def build_invoice(*rows: Json, lines: int = 1, lots: int = 1, description: str | None = None) -> Invoice:
    """Return an invoice whose lines have these rows; with several `lots`, lines in turn have another first component."""

    def change(data: Json) -> None:
        for at, line in enumerate(data["lines"]):
            line["treatment"]["pga"] = [one | {"data": one["data"] | number_component(one, at % lots)} for one in rows]
            line["description"] = description or line["description"]

    return sample(lines, change=change)


def number_component(row: Json, number: int) -> Json:
    return {"component": [f"Top {number}", "Legs"]} if number else {}


def read_text(body: bytes) -> str:
    text = "".join(page.extract_text() for page in PdfReader(BytesIO(body)).pages)
    return "".join(text.replace("\u200b", "").split())


def lacey(**more: Any) -> Json:
    return pga_row("AL2", "APH", program="APL", data=OAK | more)


def test_forms_are_printed_block_by_block() -> None:
    vehicle = {"hs7Box": "2A", "make": "Maple", "model": "Trail", "year": "2024", "vin": "1HGCM82633A004352"}
    body = pga_worksheet(build_invoice(lacey(), pga_row("DT1", "NHT", program="MVS", data=vehicle)))
    assert_archivable(body)
    page = read_text(body)
    for fact in (
        "PPQ505·PlantandPlantProductDeclaration",
        "2Entrynumberfromthefiler",
        "6ImporterLakesideKitchenSupplyInc.",
        "9Consignee'saddress",
        "11HTSUSnumber7323930045",
        "12Enteredvalue,USD1312",
        "13Articleorcomponent14Genus14Species15Harvestedin16Quantity17Unit18%recycled",
        "TabletopAcersaccharumCA1.5M30",
        "LegsQuercusrubraUS20KG12.5",
        "HS-7·ImportationofMotorVehiclesandMotorVehicleEquipment",
        "Box2A:Conforms,andbearsthemanufacturer'scertificationlabel(591.5(b))",
        "Registeredimporter(box3)notgiven",
        "MapleTrail20241HGCM82633A004352\u2013",
    ):
        assert fact in page, fact


def test_unit_without_such_agencies_has_no_form() -> None:
    page = read_text(pga_worksheet(build_invoice(pga_row("FD1", "FDA", program="COS", data={"productName": "Soap"}))))
    assert "PPQ" not in page
    assert "HS-7" not in page


@pytest.mark.parametrize("limit", [2, 5])
@pytest.mark.system
def test_forms_in_parts_lose_no_line(limit: int) -> None:
    invoice = build_invoice(lacey(), lines=9, lots=9)
    assert invoice.worksheet is not None
    rows = list_rows(invoice.worksheet)
    text = read_text(typeset(invoice, grouped_template(rows), split_rows([1] * len(rows), limit=limit)))
    assert text.count("PPQ505·Plant") == 1
    assert all(text.count(f"Top{number}Acer") == 1 for number in range(1, 9))
    assert text.count("LegsQuercus") == 9


def test_form_of_many_lines_is_divided() -> None:
    worksheet = build_invoice(lacey(), lines=2 * MAX_FORM_LINES + 1).worksheet
    assert worksheet is not None
    parts = list(list_form_parts(worksheet))
    assert [(len(part.lines), part.first) for part in parts] == [(100, True), (100, False), (1, False)]


def test_long_and_foreign_text_of_form_is_printed_completely() -> None:
    name = "Tischplatte aus Ahorn, geölt " * 6 + "Ende"
    page = read_text(pga_worksheet(build_invoice(lacey(component=[name, "橡木腿"]), description="Table " * 40 + "end")))
    assert page.count("".join(name.split())) == 2
    assert page.count("橡木腿") >= 2
    assert "Table" * 40 + "end" in page
