"""The PGA worksheet and records as documents: their content, and none of them for a unit without agency flags."""

import json
from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfReader

from pipeline.core.errors import StepFailed
from pipeline.customs.reference.pga_layouts import record_rules
from pipeline.documents.formats import pga_worksheet as worksheet_kind
from pipeline.documents.formats.pga_records import pga_records
from pipeline.documents.formats.pga_worksheet import pga_worksheet
from pipeline.documents.pdf.supervisor import RENDERER
from pipeline.documents.pdf.typesetter import split_rows, typeset
from pipeline.documents.registry import ARTIFACT_TYPES, artifact_types, render_documents
from pipeline.documents.schemas.invoice import Invoice
from tests.documents.pdf_text import read_printed_document
from tests.documents.samples import digest, sample
from tests.support.tables import table

Json = dict[str, Any]
COMPLETE_FLAGS = {"first": True, "last": True, "first_page": 1, "total_pages": None}


def row(flag: str, agency: str, **other: Any) -> Json:
    return {"flag": flag, "agency": agency, "data": {}} | other


def food(**more: str | list[str]) -> Json:
    data: dict[str, str | list[str]] = {
        "fdaProductCode": "41FBT04",
        "productName": "Tomatoes, peeled, canned",
        "sourceCountry": "CA",
        "manufacturer": "Maple Goods Ltd",
        "shipper": "Maple Goods Ltd",
        "fdaImporter": "Lakeside Kitchen Supply Inc.",
        "deliveredTo": "Lakeside Kitchen Supply Inc., receiving dock 3",
        "quantityBaseUom": ["10 CTN", "24 CAN"],
    }
    return row("FD1", "FDA", program="FOO", processing="PRO", intendedUse="130.000", data=data | more)


def build_invoice(*rows: Json, lines: int = 1, description: str | None = None, lots: int = 1) -> Invoice:
    """Return an invoice whose lines have these rows; with several `lots`, lines in turn have one more datum each."""

    def change(data: Json) -> None:
        for at, line in enumerate(data["lines"]):
            lot = {"lotNumber": f"LOT-{at % lots}"} if lots > 1 else {}
            line["treatment"]["pga"] = [one | {"data": one["data"] | lot} for one in rows]
            line["description"] = description or line["description"]

    return sample(lines, change=change)


def read_worksheet(invoice: Invoice) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(BytesIO(pga_worksheet(invoice))).pages)


def remove_spaces(text: str) -> str:
    return "".join(text.replace("\u200b", "").split())


def test_unit_without_agency_has_neither_document() -> None:
    invoice = build_invoice()
    kinds = artifact_types(invoice)
    assert {"pga_worksheet", "pga_records"} & {*kinds} == set()
    assert {"pga_worksheet", "pga_records"} <= {*ARTIFACT_TYPES}
    result = list(render_documents(invoice))
    assert tuple(document.artifact_type for document in result) == kinds
    assert [each["artifactType"] for each in json.loads(result[-1].body)["documents"]] == list(kinds[:-1])


def test_worksheet_shows_present_missing_and_person() -> None:
    rows = (
        food(lotNumber="A-77", cannery="7"),
        row("CP1", "CPS", processing="REF", data={"productId": "P-1"}),
        row("FD2", "FDA"),
    )
    page = remove_spaces(read_worksheet(build_invoice(*rows)))
    for fact in (
        "FDAFD1FoodandDrugAdministration·FOOFood·PROProcessedfood",
        "FDAproductcode41FBT04PG0210-28",
        "ManufacturerMapleGoodsLtdPG1926-57",
        "Quantities,outermostfirst,baseunitlast10CTN24CANPG265",
        "LotnumberA-77PG2516-40",
        "Cannery7noplaceintherecordsisknownforit:keyitbyhandbyhand",
        "CPSCP1ConsumerProductSafetyCommission",
        "advisory,entriesarenotrefusedforit",
        "MissingVersionid\u2013PG0233-51",
        "MissingCertifier'sid\u2013PG149-41",
        "FDAFD2",
        "Notanswered",
    ):
        assert fact in page, fact
    assert "thisflagoftheagency" not in page


def test_every_page_and_line_has_treatment_digest() -> None:
    invoice = build_invoice(food(), lines=12, lots=12)
    pages = PdfReader(BytesIO(pga_worksheet(invoice))).pages
    assert len(pages) > 2
    for number, page in enumerate(pages, start=1):
        text = page.extract_text()
        assert f"Page {number} of {len(pages)}" in text
        assert digest("treatment") in remove_spaces(text)
    whole = remove_spaces("".join(page.extract_text() for page in pages))
    assert all(line.treatment_digest in whole for line in invoice.lines)


def test_worksheet_in_parts_loses_no_line() -> None:
    invoice = build_invoice(food(), lines=9, lots=9)
    assert invoice.worksheet is not None
    groups = worksheet_kind.group_lines(invoice.worksheet)
    body = typeset(invoice, worksheet_kind.grouped_template(groups), split_rows([1] * len(groups), limit=4))
    pages = PdfReader(BytesIO(body)).pages
    text = remove_spaces("".join(page.extract_text() for page in pages))
    assert all(line.treatment_digest in text for line in invoice.lines)
    assert text.count("Endoftheworksheet:9lines") == 1
    assert f"Page{len(pages)}of{len(pages)}" in text


def test_lines_with_equal_answers_are_printed_once() -> None:
    page = remove_spaces(read_worksheet(build_invoice(food(), lines=6, lots=2)))
    assert page.count("FDAproductcode41FBT04") == 2
    assert page.count("3lineswiththesameanswers") == 2
    for facts in (
        "Fryingpan,stainlesssteel,forhouseholdcookingline17323.93.0045originCN",
        "Spatula,nylon,forhouseholdcookingline33924.10.2000originCA",
        "LotnumberLOT-0",
        "LotnumberLOT-1",
    ):
        assert facts in page, facts
    same = remove_spaces(read_worksheet(build_invoice(food(), lines=6, description="Frying pan")))
    assert "6lineswiththesameanswersFryingpanlines1,47323.93.0045originCN" in same
    assert "Line1" in remove_spaces(read_worksheet(build_invoice(food())))


def test_only_lines_with_equal_agencies_and_notes_are_grouped() -> None:
    def change(data: Json) -> None:
        rows = [[food()], [food(), row("FD2", "FDA")], [food()], [food()]]
        for line, flags in zip(data["lines"], rows, strict=True):
            line["treatment"]["pga"] = flags
        data["lines"][3]["description"] = "A description that its record cannot hold" * 3

    worksheet = sample(4, change=change).worksheet
    assert worksheet is not None
    assert [[line.number for line in group] for group in worksheet_kind.group_lines(worksheet)] == [[1, 3], [2], [4]]


def test_group_of_many_lines_is_divided() -> None:
    worksheet = build_invoice(food(), lines=1_001).worksheet
    assert worksheet is not None
    assert [len(group) for group in worksheet_kind.group_lines(worksheet)] == [500, 500, 1]


def test_answers_of_line_are_on_page_of_its_head() -> None:
    def change(data: dict[str, Any]) -> None:
        for at, line in enumerate(data["lines"]):
            line["description"] = f"Article {at}" + " of a long name" * (at % 7 * 2)
            for answer in line["treatment"]["pga"]:
                answer["data"] = {"reason": f"reason {at}"}

    printed = read_printed_document(pga_worksheet(sample(40, change=change)))
    assert printed.pages > 4
    for page in range(2, printed.pages + 1):
        first = printed.text(page)
        assert first.startswith(("Line", "Endoftheworksheet", "TREATMENTDIGESTS")), first[:40]


def test_worksheet_of_many_like_lines_is_short() -> None:
    assert len(PdfReader(BytesIO(pga_worksheet(build_invoice(food(), lines=300)))).pages) <= 4


def test_long_and_foreign_text_is_printed_completely() -> None:
    name = "Conserverie " * 9 + "Ltée"
    invoice = build_invoice(
        food(productName="番茄罐头", deliveredTo=name), description="Œufs de caille à l\u2019huile, " * 9 + "end"
    )
    page = remove_spaces(read_worksheet(invoice))
    assert remove_spaces(name) in page
    assert "番茄罐头" in page
    assert "cannotcarry番茄罐头" in page
    assert "OI:shortenedtothe70columnsofOI11-80" in page


def test_missing_fact_fails_template() -> None:
    with pytest.raises(StepFailed, match="dictionary does not contain key"):
        RENDERER.set_document("pga_worksheet.typ", b"{}", COMPLETE_FLAGS, 0)


def test_every_record_line_has_eighty_columns_and_crlf() -> None:
    body = pga_records(
        build_invoice(food(productName="Tomates pelées, œuvre"), row("EP7", "EPA", disclaimer="A"), lines=3)
    )
    lines = body.decode("ascii").split("\r\n")
    assert lines.pop() == ""
    assert {len(line) for line in lines} == {80}
    assert {line[:4].strip() for line in lines if not line.startswith("*")} <= set(record_rules().layouts)


def test_records_follow_remark_of_their_line() -> None:
    lines = pga_records(build_invoice(food(), row("FD2", "FDA"), lines=2)).decode().split("\r\n")
    heads = [place for place, line in enumerate(lines) if line.startswith("* Invoice line ")]
    assert [lines[place][:24].strip() for place in heads] == ["* Invoice line 1, L1, HT", "* Invoice line 2, L2, HT"]
    assert [lines[place - 1].strip() for place in heads] == ["* Entry line 1", "* Entry line 2"]
    for number, place in enumerate(heads, start=1):
        assert lines[place + 1].strip() == f"* {digest(f'L{number}')}"
        remarks = []
        for line in lines[place + 2 :]:
            if not line.startswith("*"):
                assert line.startswith("OI ")
                break
            remarks.append(line.strip())
        assert remarks == [
            "* FDA FD1, FOO PRO",
            "* FDA FD1 FDA importer of record: needs a person: the plan has no contact of",
            "* Lakeside Kitchen Supply Inc. for PG21; the plan says: Lakeside Kitchen Supply",
            "* Inc.",
            "* FDA FD2, Not answered",
            "* FDA FD2 Answer to the flag: missing",
        ]
    assert lines[:3] == [
        f"{'* Agency records of invoice INV-10045, CP-2026-000042':80}",
        f"{'* Treatment of the export:':80}",
        f"{'* ' + digest('treatment'):80}",
    ]


def test_only_records_of_test_export_are_marked() -> None:
    assert pga_records(sample(1, test=True)).startswith(b"* TEST: NOT FOR CUSTOMS USE ")
    assert b"TEST" not in pga_records(sample(1))


def test_worksheet_is_not_in_published_invoice() -> None:
    assert "worksheet" not in build_invoice(food()).model_dump_json()
    assert "worksheet" not in json.dumps(Invoice.model_json_schema(mode="serialization"))


DRUG, OTHER = row("FD1", "FDA", program="DRU", disclaimer="F"), row("FD1", "FDA", program="FOO", disclaimer="A")


@table(
    ("key", "given", "entry_type", "state"),
    [
        ("disclaimer", DRUG, "21", "present"),
        ("disclaimer", DRUG, "01", "person"),
        ("disclaimer", DRUG | {"disclaimer": "B"}, "01", "person"),
        ("program", OTHER, "01", "present"),
        ("program", row("FD1", "FDA", disclaimer="A"), "01", "person"),
        ("program", OTHER | {"program": "ZZZ"}, "01", "person"),
        ("program", row("EP7", "EPA", program="ODS", disclaimer="A"), "01", "person"),
    ],
)
def test_worksheet_allows_the_same_answers_as_the_checks(key: str, given: Json, entry_type: str, state: str) -> None:
    worksheet = sample(1, change={"entry/type": entry_type, "lines/0/treatment/pga": [given]}).worksheet
    assert worksheet is not None
    found = [datum.state for answer in worksheet.lines[0].answers for datum in answer.data if datum.key == key]
    assert found == [state]


def test_shortened_description_has_remark() -> None:
    long = "Frying pan of stainless steel with a folding handle, for household cooking on a stove of any kind"
    lines = (
        pga_records(build_invoice(row("FD1", "FDA", program="FOO", disclaimer="A"), description=long))
        .decode()
        .split("\r\n")
    )
    assert "* OI: shortened to the 70 columns of OI 11-80".ljust(80) in lines
    assert f"OI        {long.upper()[:70]}" in lines
