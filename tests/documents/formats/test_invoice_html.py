"""The invoice as a web page: on a phone each cell of a table says what it is, and no table repeats another one."""

from typing import Any

import pytest
from lxml import etree

from pipeline.documents.formats.invoice import invoice_html
from pipeline.documents.schemas.invoice import Invoice
from tests.documents.samples import build_full_invoice, sample

SUMMARY = "By classification, origin and chapter 99 headings"


def read_page(invoice: Invoice) -> Any:
    return etree.HTML(invoice_html(invoice).decode())


@pytest.mark.parametrize("french", [False, True])
def test_each_cell_of_a_card_has_its_label_or_its_own_row(*, french: bool) -> None:
    page = read_page(build_full_invoice().model_copy(update={"french": french}))
    cells = page.xpath("//table[contains(@class, 'cards')]//td")
    assert len(cells) > 50
    for cell in cells:
        kinds = set((cell.get("class") or "").split())
        assert cell.get("data-label") or kinds & {"wide", "place"} or not cell.xpath("string()"), etree.tostring(cell)
    labels = {cell.get("data-label") for cell in cells}
    assert ("Unit price / Prix unitaire" if french else "Unit price") in labels
    assert not any("<" in (label or "") for label in labels)


def test_tables_of_lines_all_become_cards_on_a_phone() -> None:
    page = read_page(sample(3).model_copy(update={"kind": "proforma"}))
    assert page.xpath("//div[@class='scroll']/table[not(contains(@class, 'cards'))]") == []


@pytest.mark.parametrize(("lines", "summarised"), [(1, False), (3, False), (6, True)])
def test_classifications_are_summed_only_if_lines_share_one(lines: int, *, summarised: bool) -> None:
    assert (SUMMARY in invoice_html(sample(lines)).decode()) is summarised
