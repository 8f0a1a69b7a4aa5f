"""No text of a printed page leaves the margins or overlaps other text, for any length, script and sum."""

import re
from collections.abc import Callable
from decimal import Decimal
from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfReader

from pipeline.documents.formats.invoice_pdf import invoice_pdf
from pipeline.documents.registry import KINDS
from pipeline.documents.schemas.invoice import Invoice
from tests.documents.pdf_text import PrintedDocument, read_printed_document
from tests.documents.samples import build_full_invoice, sample

Change = Callable[[dict[str, Any]], None]

BIG_AMOUNT, BIG_WEIGHT, BIG_QUANTITY = "999999999999.12", "9999999999.1234", "999999999999.123456"
LONG_WORD = "W" * 256


def in_french(data: dict[str, Any]) -> None:
    data["parties"]["seller"]["name"] = "Érablière Côté & Frères Ltée"
    data["parties"]["exporterContact"]["title"] = "Conformité douanière — déclarations «œuvre»"
    for line in data["lines"]:
        line["description"] = (
            "Poêle à frire en acier inoxydable, où l\u2019œuf glisse, pour la cuisson à domicile — n° 24"
        )


def in_chinese_japanese_korean(data: dict[str, Any]) -> None:
    texts = (
        "ステンレス製フライパン、家庭用調理器具、直径二十四センチメートル、ガラス蓋付き",
        "不锈钢炒锅\uff0c家用烹饪\uff0c直径24厘米\uff0c带玻璃盖\uff0c适用于所有炉灶",
        "스테인리스 스틸 프라이팬, 가정용 조리기구, 지름 24센티미터",
    )
    for line, text in zip(data["lines"], texts, strict=True):
        line["description"] = text
    data["parties"]["seller"]["name"] = "株式会社かえで商事東京本社輸出管理部門" * 4


def from_right_to_left(data: dict[str, Any]) -> None:
    for line in data["lines"]:
        line["description"] = "مقلاة من الفولاذ المقاوم للصدأ للطبخ المنزلي، مقاس 24 سم (INOX 18/10)"
    data["parties"]["buyer"]["name"] = "חברת מייפל סחר בע״מ (Maple Trading)"


def use_longest_texts(data: dict[str, Any]) -> None:
    parties, head = data["parties"], data["invoice"]
    for role in ("seller", "buyer", "shipTo"):
        parties[role]["name"] = LONG_WORD
        parties[role]["address"].update(
            line1=LONG_WORD, line2="x" * 256, city="y" * 256, region="R" * 64, postalCode="P" * 16
        )
        parties[role]["identifiers"] = {"a" * 64: "1" * 256}
    parties["importerOfRecord"]["importerNumber"] = "N" * 256
    parties["exporterContact"].update(name=LONG_WORD, title=LONG_WORD, phone="5" * 40)
    for maker in parties["manufacturers"]:
        maker["name"] = maker["address"]["line1"] = LONG_WORD
    head.update(number="9" * 256, incotermPlace=LONG_WORD, paymentTerms=LONG_WORD, purchaseOrder=LONG_WORD)
    head.update(salePlace=LONG_WORD, total=BIG_AMOUNT)
    head["charges"] = [{"code": "other", "name": LONG_WORD, "amount": BIG_AMOUNT, "includedInPrices": True}]
    head["discounts"] = [{"name": LONG_WORD, "amount": BIG_AMOUNT}]
    for line in data["lines"]:
        line.update(description="D" * 1000, sku=LONG_WORD, orderId="o" * 64, attributes={"k" * 64: LONG_WORD})
        line.update(quantity=BIG_QUANTITY, unitPrice=BIG_QUANTITY, lineValue=BIG_AMOUNT)
        line.update(netWeightKg=BIG_WEIGHT, grossWeightKg=BIG_WEIGHT)
        line["treatment"]["undetermined"] = "U" * 1000
        for metal in line["treatment"].get("section232", []):
            metal.update(metalWeightKg=BIG_WEIGHT, usMetalPercent="33.333333")
        for heading in line["treatment"].get("chapter99", []):
            heading.update(program="P" * 64, basis="b" * 64, ratePercent="100.123456")
    for box in data["packages"]:
        box.update(lengthCm="9999999.123", widthCm="9999999.123", heightCm="9999999.123", trackingNumber="T" * 64)
        box.update(grossWeightKg=BIG_WEIGHT, tareWeightKg=BIG_WEIGHT, orderId="O" * 64)


def with_every_charge(data: dict[str, Any]) -> None:
    data["invoice"]["charges"] = [
        {"code": "freight", "name": f"Freight leg {leg}", "amount": f"{leg}.25", "includedInPrices": leg % 4 == 0}
        for leg in range(50)
    ]
    data["invoice"]["discounts"] = [{"name": f"Early order {at}", "amount": f"{at}.10"} for at in range(50)]
    data["invoice"]["rebates"] = [{"name": "Excise refunded on export", "amount": "3.20"}]
    data["invoice"]["assistItems"] = [{"name": f"Die {at}", "amount": f"{at}.30" if at else None} for at in range(50)]


def in_currency(currency: str, times: str) -> Change:
    def change(data: dict[str, Any]) -> None:
        places = Decimal(1) if currency == "JPY" else Decimal("0.01")
        amounts = [*data["lines"], *data["invoice"]["charges"], *data["invoice"]["discounts"], data["invoice"]]
        for row in amounts:
            for name in {"unitPrice", "lineValue", "amount", "total"} & row.keys():
                row[name] = str((Decimal(row[name]) * Decimal(times)).quantize(places))
        data["invoice"]["currency"] = currency

    return change


#: The first clipping box of a page and the first text in it: upper and lower edge, baseline, font size.
RUNNING_HEAD = re.compile(
    rb"q [\d.]+ ([\d.]+) m [\d.]+ [\d.]+ l [\d.]+ ([\d.]+) l [\d.]+ [\d.]+ l\nh\nW\nn\nq 1 0 0 -1 [\d.]+ ([\d.]+) cm"
    rb".*?Tr/f\d+ ([\d.]+) Tf",
    re.DOTALL,
)


INVOICES: dict[str, Callable[[], Invoice]] = {
    "everything": build_full_invoice,
    "sixty lines": lambda: sample(60),
    "French": lambda: sample(3, change=in_french),
    "Chinese, Japanese, Korean": lambda: sample(3, change=in_chinese_japanese_korean),
    "Arabic and Hebrew": lambda: sample(3, change=from_right_to_left),
    "longest": lambda: sample(2, change=use_longest_texts),
    "every charge": lambda: sample(3, change=with_every_charge),
    "no charge": lambda: sample(3, change={"invoice/charges": [], "invoice/discounts": [], "invoice/total": "849.00"}),
    "yen": lambda: sample(3, change=in_currency("JPY", "157")),
    "euros": lambda: sample(3, change=in_currency("EUR", "1000000")),
}


def read_printed(kind: str, invoice: Invoice) -> PrintedDocument:
    return read_printed_document(next(each.make(invoice) for each in KINDS if each.artifact_type == kind))


@pytest.mark.system
@pytest.mark.parametrize("name", INVOICES)
def test_text_never_leaves_margins_or_overlaps(name: str) -> None:
    invoice = INVOICES[name]()
    for kind in KINDS:
        # A label is smaller, and cuts long texts: the tests of labels look at them.
        if kind.media_type == "application/pdf" and kind.artifact_type != "package_labels" and kind.applies_to(invoice):
            assert not list(read_printed_document(kind.make(invoice)).list_faults()), kind.artifact_type


def test_invoice_of_three_lines_has_one_page() -> None:
    assert read_printed("cci_pdf", sample(3)).pages == 1
    assert read_printed("cci_pdf", sample(3, test=True)).pages == 1


def test_hundred_charges_and_discounts_are_printed_before_total() -> None:
    text = read_printed("cci_pdf", sample(3, change=with_every_charge)).text()
    for leg in range(50):
        assert f"Freightleg{leg}" in text
        assert f"Earlyorder{leg}\u2212{leg}.10" in text
    assert text.index("Earlyorder49") < text.index("USD916.50") < text.index("Exciserefundedonexport")
    assert "rebate,notinthetotal3.20" in text
    assert "Die0assist,notinthetotalnotstated" in text
    assert text.index("Exciserefundedonexport") < text.index("Die49assist,notinthetotal49.30")


@pytest.mark.parametrize(
    ("currency", "times", "price", "total"),
    [
        ("USD", "1", "25.00", "USD916.50"),
        ("CAD", "1.4", "35.00", "CAD1,283.10"),
        ("EUR", "1000000", "25,000,000.00", "EUR916,500,000.00"),
        ("JPY", "157", "3,925", "JPY143,890"),
    ],
)
def test_amounts_have_decimals_of_currency(currency: str, times: str, price: str, total: str) -> None:
    printed = read_printed("cci_pdf", sample(3, change=in_currency(currency, times)))
    assert price in {piece.text for piece in printed.pieces}
    assert total in printed.text()
    ends = [
        piece.x + piece.width for piece in printed.pieces if piece.text in {"849.00", "80.00", "15.00", "\u221212.50"}
    ]
    # Digits of equal width are measured with their natural widths.
    assert not ends or max(ends) - min(ends) < 3


def test_table_head_is_on_every_page_with_lines() -> None:
    printed = read_printed("cci_pdf", sample(60))
    for page in range(1, printed.pages + 1):
        text = printed.text(page)
        assert ("UNITPRICE" in text) == ("SKU" in text), page


@pytest.mark.parametrize("charges", range(5, 9))
def test_short_summary_is_on_one_page_with_its_heading(charges: int) -> None:
    row = {"code": "freight", "amount": "1.00", "includedInPrices": True}
    rows = [{**row, "name": f"Freight leg {leg}"} for leg in range(charges)]
    invoice = sample(4, change={"invoice/charges": rows})
    printed = read_printed("cci_pdf", invoice)
    (page,) = (at for at in range(1, printed.pages + 1) if "Byclassification" in printed.text(at))
    rows_on_page = printed.text(page).partition("Byclassification")[2].partition("Manufacturers")[0]
    assert rows_on_page.count("7323.93") + rows_on_page.count("3924.10") == len(invoice.classifications)


def test_running_head_is_clipped_only_at_end() -> None:
    """The box that cuts off a long name has room for accents, and for characters taller than Latin letters."""
    name = {"parties/seller/name": "ÉÇÅŮ jpqy 東京厨房 " + "Maple " * 35 + "Ltd"}
    for test in (False, True):
        content = PdfReader(BytesIO(invoice_pdf(sample(40, change=name, test=test)))).pages[1].get_contents()
        assert content is not None
        upper, lower, baseline, size = map(float, RUNNING_HEAD.search(content.get_data()).groups())  # type: ignore[union-attr]
        assert upper - baseline > 1.1 * size
        assert baseline - lower > 0.25 * size


def test_right_to_left_value_keeps_direction_of_neighbours() -> None:
    change = {"lines/0/sku": "\u202ePAN-24", "parties/buyer/name": "חברה 24 Maple"}
    text = read_printed("cci_pdf", sample(1, change=change)).text()
    assert "SKUPAN-24·orderord_1000" in text
    assert "\u202e" not in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, "thepricesandchargesarethoseofthetransaction"),
        ({"reasonForExport": "sample"}, "thegoodsarenotsold,andthevaluesarethepricesthattheshipperwouldhavereceived"),
        (
            {"reasonForExport": "gift", "valuationBasis": "price of like goods"},
            "thegoodsarenotsold,andtheirvaluesrestonwhatisstatedastheirbasis",
        ),
    ],
)
def test_declaration_says_prices_only_for_sale(change: dict[str, Any], says: str) -> None:
    text = read_printed("cci_pdf", sample(1, change=lambda data: data["invoice"].update(change))).text()
    assert says in text
    assert ("BUYER" in text) == (not change)
    assert ("priceoflikegoods" in text) == ("valuationBasis" in change)
