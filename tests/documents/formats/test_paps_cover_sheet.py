"""The PAPS cover sheet of a truck: a reader reads its barcode, and it is one page with the facts of the arrival."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import pypdfium2
import pytest
import zxingcpp
from pypdf import PdfReader

from pipeline.documents.formats.paps_cover_sheet import MAX_ARTICLES, is_for_truck, paps_cover_sheet
from tests.documents.formats.test_invoice_pdf_archive import assert_archivable, is_tagged
from tests.documents.samples import build_truck_invoice, sample

Change = Callable[[dict[str, Any]], None]


def set_entry(**changes: Any) -> Change:
    return lambda data: data["entry"].update(changes)


def read_page(body: bytes) -> str:
    (page,) = PdfReader(BytesIO(body)).pages
    return " ".join(page.extract_text().replace("\u200b", "").split())


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize(
    ("scac", "number", "read"),
    [
        ("ABCD", "ABCD1234567", "ABCD1234567"),
        ("ABCD", "1234567", "ABCD1234567"),
        ("AB", "x-9", "ABx-9"),
        ("ABCD", "9" * 30, "ABCD" + "9" * 30),
        ("ABCD", "AbC-9" * 6, "ABCD" + "AbC-9" * 6),
    ],
)
def test_barcode_is_scac_and_number(*, scac: str, number: str, read: str, test: bool) -> None:
    entry = set_entry(carrierScac=scac, shipmentControlNumber=number)
    (page,) = pypdfium2.PdfDocument(paps_cover_sheet(sample(test=test, change=entry)))
    (found,) = zxingcpp.read_barcodes(page.render(scale=300 / 72, grayscale=True).to_pil())
    assert (found.symbology_identifier, found.text) == ("]C0", read)


def test_page_has_facts_of_arrival() -> None:
    invoice = sample(change=set_entry(manifestQuantity="7", manifestGrossWeightKg="310.5"))
    page = read_page(paps_cover_sheet(invoice.model_copy(update={"customs_broker": "Example Brokerage"})))
    facts = (
        "PORT OF ENTRY 0901", "ESTIMATED ARRIVAL, LOCAL TIME 2026-11-27 13:00 UTC-05:00", "CUSTOMS BROKER Example Brokerage",
        "01 consumption, formal", "PACKAGES 7", "GROSS WEIGHT 310.5 kg", "QUANTITIES 36 NO", "Lackawanna NY 14218",
        "Spatula, nylon", "EXPORTER'S CONTACT Export desk, +1 416 555 0101", "DRIVER'S PHONE", "TRAILER OR CONTAINER AND SEAL",
    )  # fmt: skip
    assert [fact for fact in facts if fact not in page] == []
    assert "12-3456789XX" not in page, "a driver needs no importer number"


def test_sheet_without_manifest_and_with_arrival_in_utc_or_unknown() -> None:
    page = read_page(paps_cover_sheet(sample(change=set_entry(estimatedArrivalAt="2026-11-27T18:00:00Z"))))
    assert "ESTIMATED ARRIVAL 2026-11-27 18:00 UTC" in page
    page = read_page(paps_cover_sheet(sample(change=set_entry(estimatedArrivalAt=None))))
    for fact in ("LOCAL TIME not given", "PACKAGES 3 3 cartons, 1 pallet", "GROSS WEIGHT 37.200 kg"):
        assert fact in page, fact


def test_only_truck_with_both_numbers_has_sheet() -> None:
    assert is_for_truck(sample())
    for changes in ({"modeOfTransport": "rail"}, {"carrierScac": None}, {"shipmentControlNumber": None}):
        assert not is_for_truck(sample(change=set_entry(**changes))), changes


def test_sheet_of_many_long_articles_is_one_archivable_page() -> None:
    def change(data: dict[str, Any]) -> None:
        for at, line in enumerate(data["lines"]):
            line["description"] = f"Article {at} 佛山 of a long name" * 30
        data["parties"]["shipTo"]["name"] = "Very long name of a receiver" * 7

    body = paps_cover_sheet(sample(60, change=change))
    assert f"and {60 - MAX_ARTICLES} more on the invoice" in read_page(body)
    assert is_tagged(body)
    assert_archivable(body)


def test_sheet_with_trip_fills_blanks_of_carrier() -> None:
    page = read_page(paps_cover_sheet(build_truck_invoice()))
    facts = (
        "TRIP NUMBER ABCD261126A", "EXPORTER'S BUSINESS NUMBER 123456782RM0001", "Example Driver", "DEMO 100 ON",
        "Canadian export No declaration required, NDR1", "DT53001 (seal SEAL-1, SEAL-2)", "DRIVER'S PHONE",
    )  # fmt: skip
    assert [fact for fact in facts if fact not in page] == []
    assert "1961" not in page


@pytest.mark.parametrize(("number", "times"), [("DEMO-EP-20124", 1), ("DEMO-EP-201", 2)])
def test_permit_of_the_statement_is_printed_once(number: str, times: int) -> None:
    def change(data: dict[str, Any]) -> None:
        side = data["canadianExport"]
        side |= {"noDeclarationCode": None, "statement": "Restricted goods, exported under permit DEMO-EP-20124"}
        side["permits"] = [{"kind": "permit", "number": number}]

    assert read_page(paps_cover_sheet(build_truck_invoice(change))).count("DEMO-EP-201") == times


def test_sheet_of_longest_trip_and_export_is_one_archivable_page() -> None:
    def change(data: dict[str, Any]) -> None:
        trip, side = data["entry"]["trip"], data["canadianExport"]
        trip["trailers"] = [{**trip["trailers"][0], "seals": [f"SEAL-{at}" for at in range(6)]}] * 4
        trip["crew"][0]["familyName"] = "Very long family name " * 11 + "end"
        side["statement"] = "Long words of a statement " * 9 + "end"
        side["permits"] = [{"kind": "certificate", "number": f"DEMO-PERMIT-{at}"} for at in range(8)]
        for at, line in enumerate(data["lines"]):
            line["description"] = f"Article {at} of a long name" * 30

    body = paps_cover_sheet(build_truck_invoice(change))
    assert "DEMO-PERMIT-7" in read_page(body)
    assert is_tagged(body)
    assert_archivable(body)
