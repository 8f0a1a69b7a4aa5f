"""The Section 232 statement: one row per line and metal, sums by metal, and no statement without metals."""

from decimal import Decimal
from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfReader

from pipeline.documents.formats import section_232_statement as kind
from pipeline.documents.formats.section_232_statement import has_metals, section_232_statement
from pipeline.documents.pdf.typesetter import split_rows, typeset
from tests.documents.pdf_text import read_printed_document
from tests.documents.samples import sample

COPPER = {
    "metal": "copper", "metalWeightKg": "1.25", "primaryCountryOfSmelt": "CL", "secondaryCountryOfSmelt": "US",
    "countryOfCast": "MX", "usMetalPercent": "12.5",
}  # fmt: skip


def two_metals(data: dict[str, Any]) -> None:
    data["lines"][0]["treatment"]["section232"][0]["metalWeightKg"] = "10.8"
    data["lines"][0]["treatment"]["section232"].append(COPPER)


def remove_spaces(body: bytes) -> str:
    text = "".join(page.extract_text() for page in PdfReader(BytesIO(body)).pages)
    return "".join(text.replace("\u200b", "").split())


def test_every_declared_fact_is_on_page() -> None:
    text = remove_spaces(section_232_statement(sample(3, change=two_metals)))
    for fact in (
        "Section232statement", "12-3456789XX", "7323.93.0045", "9903.82.0925%ofthefullvalue", "Steel10.80014.475.00%",
        "Copper1.2514.48.68%", "primarysmeltCL", "secondarysmeltUS", "castMX", "12.5%", "meltedandpouredCA",
    ):  # fmt: skip
        assert fact.replace("10.800", "10.8") in text, fact
    assert "9903.05.29" not in text, "a heading of another programme"


def test_metal_totals_count_line_with_two_metals_in_both() -> None:
    totals = sample(3, change=two_metals).metal_totals
    assert [(row.metal.shown, row.line_count, row.metal_weight_kg.exact, row.line_value.exact) for row in totals] == [
        ("Copper", 1, Decimal("1.25"), Decimal("300.00")),
        ("Steel", 2, Decimal("80.800"), Decimal("798.00")),
    ]


@pytest.mark.parametrize(("net", "shown"), [("14.4", "75.00"), ("0", None), ("10.8001", "100.00")])
def test_share_is_of_net_weight_and_none_without_weight(net: str, shown: str | None) -> None:
    change = {"lines/0/treatment/section232/0/metalWeightKg": "10.8", "lines/0/netWeightKg": net}
    share = sample(3, change=change).metals[0].share_percent
    assert (share and share.shown) == shown


def test_description_is_below_heading_beside_three_countries() -> None:
    pieces = read_printed_document(section_232_statement(sample(1, change=two_metals))).pieces
    (headings, countries, goods) = (
        [each.y for each in pieces if word in each.text] for word in ("9903.82.09", "MX", "Frying")
    )
    assert goods[1] > countries[0], "the row of copper"
    assert all(above - below < 14 for above, below in zip(headings, goods, strict=False))


def test_unit_without_metals_has_no_statement() -> None:
    assert not has_metals(sample(3, change={f"lines/{at}/treatment": {} for at in range(3)}))
    assert has_metals(sample(3))


def test_statement_in_parts_loses_no_metal() -> None:
    invoice = sample(30)
    body = typeset(invoice, kind.TEMPLATE, split_rows([1] * len(invoice.metals), limit=7))
    text = remove_spaces(body)
    assert all(row.treatment_digest in text for row in invoice.metals)
    assert text.count("TOTALSBYMETAL") + text.count("Totalsbymetal") == 1
