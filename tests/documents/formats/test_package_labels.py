"""Barcodes of SSCCs: an independent reader reads them from the pages, and each package with an SSCC has a label."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any
from unittest.mock import Mock

import biip
import pypdfium2
import pytest
import zxingcpp
from pypdf import PdfReader

from pipeline.documents.formats import package_labels as kind
from pipeline.documents.formats.consignees import find_package_consignees
from pipeline.documents.formats.package_labels import MAX_CONTENTS, has_labels, package_labels
from pipeline.documents.formats.packing_list import packing_list_pdf
from pipeline.documents.invoice.builder import build_invoice
from pipeline.documents.pdf.typesetter import split_rows
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.schemas.plan import Unit
from pipeline.exports.sscc import issue_sscc
from tests.documents.formats.test_invoice_pdf_archive import assert_archivable, is_tagged
from tests.documents.samples import build_facts, sample, unit_data

PREFIX = "0614141"


def labelled(lines: int = 3, *, test: bool = False, change: Callable[[dict[str, Any]], None] | None = None) -> Invoice:
    """Return an invoice whose packages all have an SSCC."""
    data = unit_data(lines)
    if change:
        change(data)
    unit = Unit.model_validate(data)
    numbers = {package.package_ref: issue_sscc(PREFIX, at + 1) for at, package in enumerate(unit.packages)}
    return build_invoice(unit, replace(build_facts(unit, test=test), ssccs=numbers))


def read_barcodes(body: bytes, dots_per_inch: int) -> list[list[str]]:
    """Return the SSCCs that a reader finds on each page, from top to bottom; each is a GS1-128 symbol with valid digits."""
    pages: list[list[str]] = []
    for page in pypdfium2.PdfDocument(body):
        found = zxingcpp.read_barcodes(page.render(scale=dots_per_inch / 72, grayscale=True).to_pil())
        ssccs = []
        for each in sorted(found, key=lambda symbol: symbol.position.top_left.y):
            assert each.symbology_identifier == "]C1", "GS1-128"
            read = biip.parse("]C1" + each.bytes.decode()).sscc
            assert read is not None, each.text
            ssccs.append(read.value)
        pages.append(ssccs)
    return pages


@pytest.mark.parametrize("test", [False, True])
def test_label_of_each_package_is_read_by_scanner(*, test: bool) -> None:
    invoice = labelled(test=test)
    # 203 dpi is the coarsest label printer.
    assert read_barcodes(package_labels(invoice), 203) == [[package.sscc] for package in invoice.packages]


@pytest.mark.parametrize("test", [False, True])
def test_packing_list_has_barcode_of_each_package(*, test: bool) -> None:
    def nest(data: dict[str, Any]) -> None:
        for outer, inner in zip(data["packages"][:-1], data["packages"][1:], strict=True):
            inner["parentRef"] = outer["packageRef"]

    invoice = labelled(8, test=test, change=nest)
    assert invoice.packages[-1].depth == 8
    found = read_barcodes(packing_list_pdf(invoice), 300)
    assert [sscc for page in found for sscc in page] == [package.sscc for package in invoice.packages]


def test_packing_list_has_barcode_on_page_of_its_number() -> None:
    def change(data: dict[str, Any]) -> None:
        for at, line in enumerate(data["lines"]):
            line["description"] = "Frying pan" + " of steel" * (at % 11 * 4)

    body = packing_list_pdf(labelled(40, change=change))
    texts = ["".join(page.extract_text().split()) for page in PdfReader(BytesIO(body)).pages]
    assert len(texts) > 3
    for text, found in zip(texts, read_barcodes(body, 300), strict=True):
        assert [f"SSCC{sscc}" in text for sscc in found] == [True] * len(found)


def test_only_packages_with_sscc_have_labels() -> None:
    invoice = sample(3)
    with_sscc = [package.sscc for package in invoice.packages if package.sscc]
    assert len(with_sscc) == 1 < len(invoice.packages)
    assert read_barcodes(package_labels(invoice), 203) == [with_sscc]
    bare = tuple(package.model_copy(update={"sscc": None}) for package in invoice.packages)
    assert not has_labels(invoice.model_copy(update={"packages": bare}))


def test_label_shows_package_and_destination() -> None:
    pallet, carton, *_ = read_labels(labelled(2))
    of_pallet = ("Package 1 of 3", "pallet", "210.500 kg", "Carries other packages")
    address = ("Lakeside Kitchen", "Lackawanna NY 14218")
    of_carton = ("Package 2 of 3", "carton", *address, "ABCD1234567", "12 pcs PAN-24", "(00) ")
    assert (
        [fact for fact in of_pallet if fact not in pallet] == [fact for fact in of_carton if fact not in carton] == []
    )


def test_label_stays_one_page_with_long_texts() -> None:
    def change(data: dict[str, Any]) -> None:
        for party in ("seller", "buyer", "shipTo"):
            data["parties"][party]["name"] = "Very long name of a company" * 7
            data["parties"][party]["address"].update(line1="L" * 100, line2="Second line" * 8, city="City" * 12)
        data["invoice"].update(number="N" * 35, purchaseOrder="PO 7781 and more" * 4)
        for row in data["lines"]:
            row.update(sku="S" * 50, description="long description" * 25)
        data["packages"][1].update(trackingNumber="1Z" + "9" * 40, orderId="o" * 60)
        data["packages"][1]["contents"] = [{"lineRef": f"L{at}", "quantity": "12"} for at in range(1, MAX_CONTENTS + 1)]
        data["packages"] = data["packages"][:2]
        address = data["parties"]["shipTo"]["address"]
        data["parties"]["ultimateConsignees"] = [
            {"name": "Long name of a consignee" * 8, "address": address, "packageRefs": [package["packageRef"]]}
            for package in data["packages"]
        ]

    invoice = labelled(MAX_CONTENTS, change=change)
    assert read_barcodes(package_labels(invoice), 203) == [[package.sscc] for package in invoice.packages]


def test_long_description_ends_with_ellipsis() -> None:
    invoice = labelled(1, change=lambda data: data["lines"][0].update(description="Stock pot 佛山 with a lid" * 40))
    (line,) = (each for each in read_labels(invoice)[1].splitlines() if "Stock pot" in each)
    assert line.endswith("\u2026")
    assert 2 <= line.count("Stock pot") <= 4, "as much as fits, and nothing below it"


def test_title_of_test_label_is_one_line() -> None:
    invoice = labelled(1, test=True)
    update = {
        "package_summary": invoice.package_summary.model_copy(update={"count": 10_000}),
        "packages": tuple(each.model_copy(update={"number": 9_999}) for each in invoice.packages),
    }
    (page, *_) = PdfReader(BytesIO(package_labels(invoice.model_copy(update=update)))).pages
    assert page.extract_text().splitlines()[0].startswith("Package 9999 of 10000")


@pytest.mark.parametrize(("count", "counted"), [(MAX_CONTENTS, False), (MAX_CONTENTS + 1, True), (30, True)])
def test_label_counts_many_contents(count: int, *, counted: bool) -> None:
    def change(data: dict[str, Any]) -> None:
        data["packages"] = data["packages"][:2]
        data["packages"][1]["contents"] = [{"lineRef": f"L{at}", "quantity": "12"} for at in range(1, count + 1)]

    text = read_labels(labelled(count, change=change))[1]
    assert (f"{count} different articles" in text, "PAN-24" in text) == (counted, not counted)


@pytest.mark.system
def test_labels_in_parts_lose_none_and_are_archivable(monkeypatch: pytest.MonkeyPatch) -> None:
    invoice = labelled(30)
    with monkeypatch.context() as patch:
        patch.setattr(kind, "plan_parts", lambda sizes: split_rows([1 for _ in sizes], limit=7))
        body = package_labels(invoice)
    assert read_barcodes(body, 203) == [[package.sscc] for package in invoice.packages]
    assert not is_tagged(body)
    assert is_tagged(package_labels(invoice))
    for each in (body, package_labels(invoice)):
        assert_archivable(each)
    assert package_labels(invoice) == package_labels(labelled(30))


def with_consignees(data: dict[str, Any]) -> None:
    """Two consignees: the first by its package, the second by its order."""
    carton = data["packages"][1]
    address = dict(data["parties"]["shipTo"]["address"])
    for package in data["packages"]:
        package["orderId"] = "PO-2"
    data["parties"]["ultimateConsignees"] = [
        {"name": "North Shop", "address": address, "packageRefs": [carton["packageRef"]]},
        {"name": "South Shop", "address": {**address, "city": "Rochester"}, "orderIds": ["PO-2"]},
    ]


def read_labels(invoice: Invoice) -> list[str]:
    return [page.extract_text() for page in PdfReader(BytesIO(package_labels(invoice))).pages]


def test_label_names_the_consignee_of_its_package() -> None:
    pallet, north, south, *_ = read_labels(labelled(2, change=with_consignees))
    assert "SHIP FOR" not in pallet, "its packages go to both"
    assert "SHIP FOR\nNorth Shop, Lackawanna NY 14218" in north
    assert "SHIP FOR\nSouth Shop, Rochester NY 14218" in south
    assert not [text for text in read_labels(labelled(2)) if "SHIP FOR" in text]


def test_parts_of_labels_look_for_consignees_once(monkeypatch: pytest.MonkeyPatch) -> None:
    invoice = labelled(4, change=with_consignees)
    whole = read_labels(invoice)
    find = Mock(wraps=find_package_consignees)
    monkeypatch.setattr(kind, "find_package_consignees", find)
    monkeypatch.setattr(kind, "plan_parts", lambda sizes: split_rows([1 for _ in sizes], limit=1))
    assert read_labels(invoice) == whole
    find.assert_called_once_with(invoice)


@pytest.mark.parametrize("given", [(), ("purchaseOrder",), ("purchaseOrder", "carrierScac")])
def test_consignee_fits_beside_any_number_of_facts(given: tuple[str, ...]) -> None:
    def change(data: dict[str, Any]) -> None:
        with_consignees(data)
        data["invoice"]["purchaseOrder"] = "4500021" if "purchaseOrder" in given else None
        data["entry"]["carrierScac"] = "MPLE" if "carrierScac" in given else None

    assert [text for text in read_labels(labelled(2, change=change)) if "SHIP FOR" in text]


def test_package_without_label_decides_for_what_is_in_it() -> None:
    def change(data: dict[str, Any]) -> None:
        with_consignees(data)
        north, _ = data["parties"]["ultimateConsignees"]
        north["packageRefs"] = [data["packages"][0]["packageRef"]]

    invoice = labelled(2, change=change)
    pallet, *cartons = invoice.packages
    bare = invoice.model_copy(update={"packages": (pallet.model_copy(update={"sscc": None}), *cartons)})
    labels = read_labels(bare)
    assert len(labels) == len(cartons)
    assert all("SHIP FOR\nNorth Shop" in text for text in labels)


def test_package_without_label_decides_for_what_is_around_it() -> None:
    invoice = labelled(2, change=with_consignees)
    pallet, north, south = invoice.packages
    bare = invoice.model_copy(update={"packages": (pallet, north, south.model_copy(update={"sscc": None}))})
    around, _ = read_labels(bare)
    assert "SHIP FOR" not in around, "its packages go to both"
