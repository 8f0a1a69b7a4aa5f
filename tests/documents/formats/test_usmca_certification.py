"""The printed USMCA certification: its nine elements, empty boxes for what the plan lacks, and one page for each."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfReader

from pipeline.documents.formats.usmca_certification import has_certifications, usmca_certification
from pipeline.documents.pdf import typesetter
from tests.documents.formats.test_invoice_pdf_archive import assert_archivable, is_tagged
from tests.documents.samples import sample

Change = Callable[[dict[str, Any]], None]

CONTACT = {"name": "Alex Roy", "title": "Export manager", "email": "export@maple.example", "phone": "+1 416 555 0100"}
GOODS = [{"description": "Stock pots with lid, stainless steel", "hsCode": "732393"}]


def certify(**changes: Any) -> Change:
    """Return the change that completes the certification of the sample, and then changes it."""

    def change(data: dict[str, Any]) -> None:
        contact = {"name": "Dock", "email": "dock@kitchen.example", "phone": "555"}
        data["usmcaCertificates"][0] |= {
            "certifierAddress": data["parties"]["seller"]["address"],
            "certifierContact": CONTACT,
            "importer": {**data["parties"]["buyer"], "contact": contact},
            "producerOnRequest": True,
            "goods": GOODS,
            **changes,
        }

    return change


def read_pages(body: bytes) -> list[str]:
    return [" ".join(page.extract_text().replace("\u200b", "").split()) for page in PdfReader(BytesIO(body)).pages]


def test_page_has_nine_elements() -> None:
    body = usmca_certification(sample(change=certify()))
    (page,) = read_pages(body)
    for fact in (
        "1 CERTIFIER'S ROLE Exporter",
        "2 CERTIFIER NAME Maple Goods Ltd",
        "120 Front Street West, Suite 400, Toronto ON M5J 2M2, CA",
        "SIGNER'S NAME AND TITLE Alex Roy, Export manager",
        "3 EXPORTER The certifier",
        "4 PRODUCER Available upon request by the importing authorities",
        "5 IMPORTER NAME Lakeside Kitchen Supply Inc.",
        "dock@kitchen.example",
        "7323.93 Stock pots with lid, stainless steel",
        "7 ORIGIN CRITERION B (4.2(b))",
        "8 BLANKET PERIOD 2026-01-01 to 2026-12-31",
        "INV-10045: 2",
        "9 AUTHORIZED SIGNATURE AND DATE I certify that the goods described in this document qualify as originating",
        "2026-01-02",
    ):
        assert fact in page, fact
    assert is_tagged(body)
    assert_archivable(body)


def test_missing_elements_are_empty_boxes_with_their_labels() -> None:
    missing = {"certifierRole": "importer", "blanketFrom": None, "blanketTo": None}
    (page,) = read_pages(usmca_certification(sample(change=lambda data: data["usmcaCertificates"][0].update(missing))))
    boxes = "NAME ADDRESS TELEPHONE E-MAIL"
    assert f"3 EXPORTER {boxes} 4 PRODUCER {boxes} 5 IMPORTER The cert" in page
    assert "8 BLANKET PERIOD none: a single shipment" in page
    assert "HS, 6 DIGITS DESCRIPTION OF THE GOODS 7 ORIGIN CRITERION" in page


@pytest.mark.pdf_engine
def test_producer_who_sells_the_goods_is_the_exporter_too() -> None:
    def change(data: dict[str, Any]) -> None:
        seller = data["parties"]["seller"]["name"].upper()
        data["usmcaCertificates"][0] |= {"certifierRole": "producer", "certifierName": seller, "exporter": None}

    (page,) = read_pages(usmca_certification(sample(change=change)))
    assert "3 EXPORTER The certifier 4 PRODUCER The certifier" in page


def test_half_period_is_printed_with_its_empty_end() -> None:
    (page,) = read_pages(usmca_certification(sample(change=certify(blanketTo=None))))
    assert "8 BLANKET PERIOD 2026-01-01 to INVOICE" in page


def test_each_certification_begins_on_a_new_page_and_names_its_lines() -> None:
    def change(data: dict[str, Any]) -> None:
        certify()(data)
        second = {**data["usmcaCertificates"][0], "ref": "CERT-2", "certifierRole": "producer"}
        data["usmcaCertificates"].append(second)

    first, second = read_pages(usmca_certification(sample(change=change)))
    assert "CERT-1 · CP-2026-000042" in first
    assert "CERT-2" in second
    assert "1 CERTIFIER'S ROLE Producer" in second
    assert "INV-10045: no line" in second


def test_goods_of_many_parts_are_all_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typesetter, "WHOLE_CHARACTERS", 30_000)
    monkeypatch.setattr(typesetter, "PART_CHARACTERS", 15_000)
    many = [{"description": f"Pot number {number} of steel", "hsCode": "732393"} for number in range(1, 301)]
    text = " ".join(read_pages(usmca_certification(sample(change=certify(goods=many)))))
    assert [text.count(f"Pot number {number} of steel") for number in range(1, 301)] == [1] * 300
    assert (text.count("CERTIFIER'S ROLE"), text.count("AUTHORIZED SIGNATURE")) == (1, 1)


def test_unit_without_certification_has_no_page() -> None:
    assert has_certifications(sample())
    bare: dict[str, Any] = {"usmcaCertificates": [], "lines/1/spi": None, "lines/1/usmcaCertificateRef": None}
    assert not has_certifications(sample(change=bare))
