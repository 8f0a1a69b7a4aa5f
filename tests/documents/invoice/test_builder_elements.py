"""Each element that 19 CFR requires of an invoice is on the page, in the JSON, in the table and in UBL."""

import json
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import pytest
from lxml import etree
from openpyxl import load_workbook
from pypdf import PdfReader
from yaml import safe_load

from pipeline.customs.reference.content import RULES
from pipeline.documents.registry import render_documents
from tests.documents.samples import sample

#: By element of the regulation: its facts in the sample in the wording of the page, and in the wording of the other
#: formats if it differs.
ELEMENTS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "141.86(a)(1) port of entry": (["ENTRY TYPE AND PORT 01 consumption, formal; port 0901"], ["0901"]),
    "141.86(a)(2) when and where sold": (["SALE 2026-11-20, Toronto ON"], ["2026-11-20", "Toronto ON"]),
    "141.86(a)(2) by whom": (["SELLER AND EXPORTER Maple Goods Ltd 120 Front Street West"], ["Maple Goods Ltd"]),
    "141.86(a)(2) to whom": (["BUYER Lakeside Kitchen Supply Inc. 45 Delaware Avenue"], ["45 Delaware Avenue"]),
    "141.86(a)(3) name of the goods": (["Frying pan, stainless steel, for household cooking"],) * 2,
    "141.86(a)(3) grade or quality": (["grade: AISI 304"], ["AISI 304"]),
    "141.86(a)(3) marks of the goods": (["SKU PAN-24"], ["PAN-24"]),
    "141.86(a)(3) marks of the packages": (["1: SSCC 106141412345678908, 2: LPN C-00001"], ["C-00001"]),
    "141.86(a)(4) quantity": (["12 NO"], ["12"]),
    "141.86(a)(4) weights": (["14.4", "gross 15.4 kg"], ["14.4", "15.4"]),
    "141.86(a)(5) price of each item": (["25.00"], ["25"]),
    "141.86(a)(7) currency": (["CURRENCY CAD, at 0.71234567 USD", "VALUE CAD"], ["CAD", "0.71234567"]),
    "141.86(a)(8) charges by name and amount": (["Freight 80.00", "Cartons included in the prices 15.00"], ["Freight", "Cartons"]),
    "141.86(a)(9) rebates": (["Excise refunded on export rebate, not in the total 3.20"], ["Excise refunded on export"]),
    "141.86(a)(10) origin": (["7323.93.0045 CN"], ["CN"]),
    "141.86(a)(11) assists": (
        ["ASSISTS Declared", "Die lent by the buyer assist, not in the total 350.00", "Drawings assist, not in the total not stated"],
        ["declared", "Die lent by the buyer", "350", "Drawings"]),
    "141.86(b) how unsold goods of another maker were bought": (
        ["bought: 2026-03-02, Foshan, of the maker, at CNY 80.00 each"],
        ["2026-03-02, Foshan, of the maker, at CNY 80.00 each"]),
    "141.86(g) discounts of the invoice": (["Early order −12.50"], ["Early order"]),  # noqa: RUF001
    "141.86(g) discounts from the list price": (
        ["list price: 30.00", "trade discount: 16.67 % of the list price"],
        ["30.00", "16.67 % of the list price"]),
    "141.86(j) responsible employee": (
        ["RESPONSIBLE EMPLOYEE OF THE EXPORTER Export desk Trade compliance"],
        ["Export desk", "compliance@maple-goods.example"]),
    "142.6(a) classification": (["7323.93.0045"], ["7323930045"]),
    "142.6(a) manufacturer with address": (
        ["CNFOSHOU88FOS", "88 Jihua Road, Foshan GD 528000, CN"],
        ["CNFOSHOU88FOS", "88 Jihua Road", "528000"]),
    "importer of record": (["IMPORTER OF RECORD", "Importer number 12-3456789XX"], ["12-3456789XX"]),
    "related parties": (["RELATED PARTIES Yes"], []),
    "terms of sale": (["INCOTERMS 2020 DAP Buffalo NY", "PAYMENT Net 30 days"], ["DAP", "Net 30 days"]),
    "182 appendix A: certifier": (
        ["Certifier: 1 Origin Street, Toronto ON M5J 2M2, CA, Origin desk, +1 416 555 0199"],
        ["exporter", "1 Origin Street", "Origin desk", "+1 416 555 0199"]),
    "182 appendix A: producer and importer": (
        ["Producer: Maple Foundry Ltd, 2 Origin Street", "Importer: Lakeside Kitchen Supply Inc., 45 Delaware"],
        ["Maple Foundry Ltd", "2 Origin Street", "Lakeside Kitchen Supply Inc."]),
    "182 appendix A: goods": (["Goods: 7323.93 Pots of stainless steel"], ["Pots of stainless steel"]),
    "182 appendix A: criterion, period, signature": (
        ["criterion B", "signed 2026-01-02", "blanket period 2026-01-01 to 2026-12-31"],
        ["2026-01-02", "2026-01-01", "2026-12-31"]),
    "preference": (["SPI S USMCA certificate CERT-1", "criterion B"], ["CERT-1"]),
}  # fmt: skip


def fill_completely(data: dict[str, Any]) -> None:
    data["invoice"].update(currency="CAD", exchangeRate="0.71234567", assists="declared", relatedParties=True)
    data["invoice"]["charges"][1]["name"] = "Cartons"
    data["invoice"]["rebates"] = [{"name": "Excise refunded on export", "amount": "3.20"}]
    data["invoice"]["assistItems"] = [{"name": "Die lent by the buyer", "amount": "350.00"}, {"name": "Drawings"}]
    seller, buyer = data["parties"]["seller"], data["parties"]["buyer"]
    data["usmcaCertificates"][0] |= {
        "certifierAddress": seller["address"] | {"line1": "1 Origin Street", "line2": None},
        "certifierContact": {"name": "Origin desk", "phone": "+1 416 555 0199"},
        "producer": {"name": "Maple Foundry Ltd", "address": seller["address"] | {"line1": "2 Origin Street"}},
        "importer": buyer,
        "goods": [{"description": "Pots of stainless steel", "hsCode": "732393"}],
    }
    data["lines"][0]["attributes"] = {
        "grade": "AISI 304",
        "listPrice": "30.00",
        "tradeDiscount": "16.67 % of the list price",
        "bought": "2026-03-02, Foshan, of the maker, at CNY 80.00 each",
    }


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Return the text of each format of the complete invoice; PDF and HTML with single spaces."""
    bodies = {document.artifact_type: document.body for document in render_documents(sample(3, change=fill_completely))}
    book = load_workbook(BytesIO(bodies["cci_xlsx"]), read_only=True)
    page = etree.HTML(bodies["cci_human_readable"].decode())
    for style in page.iter("style"):
        style.text = ""
    return {
        "cci_pdf": _spaced("\n".join(page.extract_text() for page in PdfReader(BytesIO(bodies["cci_pdf"])).pages)),
        "cci_human_readable": _spaced(" ".join(page.itertext())),
        "cci_json": json.dumps(json.loads(bodies["cci_json"]), ensure_ascii=False),
        "cci_ubl": bodies["cci_ubl"].decode(),
        "cci_xlsx": "\n".join(str(cell) for sheet in book for row in sheet.iter_rows(values_only=True) for cell in row),
    }


def _spaced(text: str) -> str:
    return " ".join(text.replace("\u200b", "").split())


@pytest.mark.parametrize("element", ELEMENTS)
def test_element_is_in_every_format(texts: dict[str, str], element: str) -> None:
    printed, recorded = ELEMENTS[element]
    for words in printed:
        assert words.replace(" ", "") in texts["cci_pdf"].replace(" ", ""), words
    for kind in ("cci_human_readable", "cci_json", "cci_ubl", "cci_xlsx"):
        for fact in recorded:
            # For people a tariff number has dots.
            wanted = "7323.93.0045" if fact == "7323930045" and kind == "cci_human_readable" else fact
            assert wanted.lower() in texts[kind].lower(), (kind, fact)


def test_packing_list_shows_contents_of_each_package() -> None:
    bodies = {document.artifact_type: document.body for document in render_documents(sample(3))}
    boxes = json.loads(bodies["packing_list"])["packages"]
    assert [[(row["sku"], row["quantity"]) for row in box["contents"]] for box in boxes] == [
        [], [("PAN-24", "12")], [("POT-05", "12")], [("SPAT-1", "12")],
    ]  # fmt: skip
    printed = _spaced(PdfReader(BytesIO(bodies["packing_list_pdf"])).pages[0].extract_text())
    assert "12 pcs Frying pan, stainless steel, for household cooking PAN-24· line 1" in printed


#: The names that `attributes.yaml` asks for first, in parts that one line can hold.
ASKED = sorted({row["keys"][0] for row in safe_load((RULES / "attributes.yaml").read_text())["rows"]})


@pytest.mark.parametrize("keys", [ASKED[:40], ASKED[40:]], ids=["first", "rest"])
def test_chapter_attributes_are_shown_if_given(keys: list[str]) -> None:
    assert {"fibre", "construction", "upper", "sole", "species"} <= set(ASKED)
    facts = {key: f"fact {place}" for place, key in enumerate(keys)}

    bodies = {
        document.artifact_type: document.body
        for document in render_documents(sample(1, change={"lines/0/attributes": facts}))
    }
    printed = "".join("".join(page.extract_text() for page in PdfReader(BytesIO(bodies["cci_pdf"])).pages).split())
    for key, fact in facts.items():
        assert f":{fact}".replace(" ", "") in printed, key
        for kind in ("cci_human_readable", "cci_json", "cci_ubl", "cci_csv"):
            assert fact in bodies[kind].decode(), (key, kind)
