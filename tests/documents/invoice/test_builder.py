"""The invoice model: every element of the regulation, sums, wording and look-ups are right, and equal for equal plans."""

import json
from collections.abc import Sequence
from decimal import Decimal
from io import BytesIO
from typing import Any

import pytest
from lxml import etree
from openpyxl import load_workbook
from pypdf import PdfReader
from yaml import safe_load

from pipeline.core.errors import StepFailed
from pipeline.customs.reference.content import RULES
from pipeline.documents.invoice.builder import build_invoice
from pipeline.documents.registry import render_documents
from pipeline.documents.schemas.invoice import Mark
from pipeline.exports.schemas.plan import Unit
from tests.documents.samples import build_facts, digest, put, sample, unit_data


def test_totals_are_exact_sums_of_lines() -> None:
    totals = sample(3).totals
    assert (totals.goods_value.exact, totals.goods_value.shown) == (Decimal("849.00"), "849.00")
    assert (totals.invoice_total.exact, totals.net_weight_kg.exact) == (Decimal("916.50"), Decimal("44.4"))
    assert totals.gross_weight_kg.exact == Decimal("47.4")
    assert [(row.unit, row.quantity.shown) for row in totals.quantities] == [("NO", "36")]


def test_amounts_keep_every_digit_and_are_grouped_for_people() -> None:
    price = sample(1, change={"lines/0/unitPrice": "1234567.1234"}).lines[0].unit_price
    assert (price.exact, price.shown, str(price)) == (Decimal("1234567.1234"), "1,234,567.1234", "1,234,567.1234")


def test_currency_without_minor_units_prints_no_decimals() -> None:
    assert (
        sample(1, change={"invoice/currency": "JPY", "lines/0/unitPrice": "2500"}).lines[0].unit_price.shown == "2,500"
    )


def test_marks_follow_order_of_plan() -> None:
    assert sample(3).lines[1].marks == (
        Mark(kind="chapter99", code="9903.05.29", text="S301_FORCED_LABOUR · 10 % of the full value"),
        Mark(kind="chapter99", code="9903.82.09", text="Section 232, metals · 25 % of the full value"),
        Mark(kind="metal", code="Steel", text="70.000 kg · melted and poured CA · US metal 0 %"),
        Mark(kind="pga", code="FDA FD1", text="disclaimed A · Reason: not a food contact surface claim"),
        Mark(kind="preference", code="SPI S", text="USMCA certificate CERT-1"),
    )
    assert sample(3).lines[2].marks == ()


def test_undetermined_treatment_is_reported() -> None:
    assert sample(1, change={"lines/0/treatment": {"undetermined": "no smelt country"}}).lines[0].marks == (
        Mark(kind="undetermined", code="Undetermined", text="no smelt country"),
    )


def test_pallet_precedes_its_cartons_and_has_issued_sscc() -> None:
    packages = sample(3).packages
    assert [(box.number, box.package_ref, box.depth, box.parent_number) for box in packages] == [
        (1, "PLT-001", 0, None), (2, "CTN-00001", 1, 1), (3, "CTN-00002", 1, 1), (4, "CTN-00003", 1, 1),
    ]  # fmt: skip
    assert (packages[0].mark.shown, packages[1].mark.shown) == ("SSCC 106141412345678908", "LPN C-00001")


def test_packages_count_once_and_outermost_are_weighed() -> None:
    summary = sample(20).package_summary
    assert (summary.count, summary.outermost_count, summary.gross_weight_kg.exact) == (22, 2, Decimal("421.000"))
    assert (summary.volume_m3.shown, summary.shown) == ("0.389", "20 cartons, 2 pallets; 2 handling units to load")


def test_line_names_its_packages() -> None:
    line = sample(2, 6).lines[1]
    assert line.package_refs == ("CTN-00004", "CTN-00005", "CTN-00006")
    assert line.packages_shown == "5-7"


def test_importer_without_name_is_buyer() -> None:
    importer = sample(1).parties.importer_of_record
    assert (importer.name, importer.importer_number.exact) == ("Lakeside Kitchen Supply Inc.", "12-3456789XX")


def test_classification_rows_sum_lines_by_code_origin_and_headings() -> None:
    rows = sample(6).classifications
    assert [(row.hts_code.shown, row.country_of_origin, row.line_count, row.value.shown) for row in rows] == [
        ("3924.10.2000", "CA", 2, "102.00"),
        ("7323.93.0045", "CN", 2, "600.00"),
        ("7323.93.0060", "CA", 2, "996.00"),
    ]


def test_order_of_members_keeps_invoice() -> None:
    data = unit_data(2)
    put(data, {"lines/0/attributes": {"a": "1", "b": "2"}, "lines/0/treatment/pga/0/data": {"x": "1", "y": ["2", "3"]}})
    turned = json.loads(json.dumps(data), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    one, other = Unit.model_validate(data), Unit.model_validate(turned)
    left, right = build_invoice(one, build_facts(one)), build_invoice(other, build_facts(other))
    assert left.model_dump_json() == right.model_dump_json()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("lines/0/manufacturerRef", "M9"),
        ("lines/0/usmcaCertificateRef", "C9"),
        ("packages/1/contents/0/lineRef", "L9"),
        ("packages/1/parentRef", "P9"),
        ("packages/0/parentRef", "CTN-00001"),  # a circle
    ],
)
def test_unknown_or_circular_reference_is_rejected(place: str, value: str) -> None:
    with pytest.raises(StepFailed, match=f"{value}|parentRef"):
        sample(1, change={place: value})


def test_line_has_own_treatment_digest() -> None:
    assert [line.treatment_digest for line in sample(2).lines] == [digest("L1"), digest("L2")]


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
