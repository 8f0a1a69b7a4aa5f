"""Whatever a plan's text fields hold, it stays text in every format."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO, StringIO
from typing import Any

import pytest
from openpyxl import load_workbook
from pypdf import PdfReader

from pipeline.documents.columns import defused
from pipeline.documents.kinds import render_documents
from pipeline.schemas.plan import Unit
from tests.documents.invoice_samples import sample, unit_data

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "\"'><svg/onload=alert(1)>&amp;&lt;",
    "{{ 7*7 }}{% raw %}{# x #}${7*7}",
    '#read("/etc/passwd") #import "@preview/a:1.0.0": * #eval("1+1")',
    '"); #panic("x") // $x^2$ *b* _i_ `r` \\ @ref <label> = head - item / term: ~',
    '=HYPERLINK("http://x.example","y"),"a";b',
    "_x0041_ \u202egnp.exe\u202c %s %(x)s \\u0041",
)

#: Fields whose form the schema fixes: no free text gets into them.
FIXED = {
    "unitRef", "type", "portOfEntry", "modeOfTransport", "carrierScac", "shipmentControlNumber", "exportDate",
    "estimatedArrivalAt", "country", "email", "mid", "ref", "date", "currency", "exchangeRate", "incoterm", "saleDate",
    "reasonForExport", "total", "code", "amount", "assists", "lineRef", "orderId", "htsCode", "countryOfOrigin",
    "countryOfExport", "manufacturerRef", "quantity", "unit", "unitPrice", "lineValue", "netWeightKg", "grossWeightKg",
    "spi", "usmcaCertificateRef", "certifierRole", "criterion", "blanketFrom", "blanketTo", "signedOn", "packageRef",
    "sscc", "lpn", "parentRef", "lengthCm", "widthCm", "heightCm", "tareWeightKg", "trackingNumber", "heading", "program",
    "ratePercent", "basis", "metal", "metalWeightKg", "countryOfMeltAndPour", "usMetalPercent", "flag", "agency",
    "disclaimer", "relatedParties", "includedInPrices",
}  # fmt: skip


def poisoned(text: str) -> Any:
    """Return a change that puts `text`, numbered, into every free text field; short fields get what fits."""

    def change(data: dict[str, Any]) -> None:
        data["lines"][0]["treatment"]["undetermined"] = "x"
        data["parties"]["exporterContact"]["phone"] = "x"
        _poison(data, text)

    return change


def _poison(value: Any, text: str) -> None:
    pairs: Iterator[tuple[Any, Any]] = iter(value.items() if isinstance(value, dict) else enumerate(value))
    for key, inner in list(pairs):
        if isinstance(inner, dict | list):
            _poison(inner, text)
        elif isinstance(inner, str) and key not in FIXED:
            limit = {"region": 64, "postalCode": 16, "phone": 40}.get(str(key), 256)
            value[key] = text[:limit].strip()


class Page(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text_in_every_format(text: str) -> None:
    invoice = sample(2, change=poisoned(text))
    assert invoice.header.number == text
    bodies = {document.artifact_type: document.body for document in render_documents(invoice)}

    clean, page = Page(), Page()
    clean.feed(next(d.body for d in render_documents(sample(2)) if d.artifact_type == "cci_human_readable").decode())
    page.feed(bodies["cci_human_readable"].decode())
    assert (page.elements, page.attributes) == (clean.elements, clean.attributes)
    assert text in page.text

    rows = list(csv.DictReader(StringIO(bodies["cci_csv"].decode("utf-8-sig"), newline="")))
    assert [row["description"] for row in rows] == [defused(text)] * 2
    assert all(None not in row for row in rows)

    for kind in ("cci_json", "packing_list"):
        assert json.loads(bodies[kind])["lines"][0]["description"] == text

    book = load_workbook(BytesIO(bodies["cci_xlsx"]))
    cells = [cell for sheet in book for row in sheet.iter_rows() for cell in row if cell.value is not None]
    assert {cell.data_type for cell in cells} <= {"s", "n", "d"}
    # Excel reads _x005F_ as an underscore; openpyxl leaves that to us where a text stands in its cell.
    assert any(str(cell.value).replace("_x005F_", "_") == defused(text) for cell in cells)

    for kind in ("cci_pdf", "packing_list_pdf"):
        reader = PdfReader(BytesIO(bodies[kind]))
        assert all("/Annots" not in page for page in reader.pages)
        printed = _letters("".join(page.extract_text() for page in reader.pages))
        assert _letters(text) in printed or "\u202e" in text, kind


def _letters(text: str) -> str:
    # Line breaks, break marks and ligatures are the engine's; the characters are the plan's.
    return "".join(text.replace("\u200b", "").replace("\ufb01", "fi").split())


def test_the_poison_reaches_every_free_text_field() -> None:
    data = unit_data(2)
    poisoned("needle")(data)
    assert json.dumps(Unit.model_validate(data).model_dump(mode="json")).count("needle") == 50
