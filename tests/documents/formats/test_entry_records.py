"""The records of entry summary and cargo release: read back by their columns, and what a filer must add is named."""

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.documents import broker_profile as profiles
from pipeline.documents.formats import catair
from pipeline.documents.formats.profile_checks import check_file
from pipeline.documents.schemas.invoice import Invoice
from pipeline.documents.schemas.profile import MessageProfile
from pipeline.exports.schemas.plan import Plan
from tests.documents.samples import build_full_invoice, sample
from tests.support import factories
from tests.support.hostile_inputs import BREAKING, DECEIVING, ODD

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "profiles" / "entry-records.json"


def render(invoice: Invoice, **changes: Any) -> list[str]:
    raw = json.loads(EXAMPLE.read_bytes())
    raw["entryRecords"] |= changes
    body = profiles.profile_document(MessageProfile.model_validate(raw), invoice).body
    lines = body.decode("ascii").split("\r\n")
    assert lines.pop() == ""
    assert {len(line) for line in lines} == {80}
    return lines


def pick(lines: list[str], record: str) -> list[str]:
    return [line for line in lines if line.startswith(record) and not line.startswith("*")]


def read_record(line: str) -> dict[str, str]:
    """Return the fields of a record by name, without the spaces around them."""
    record = next(name for name in sorted(catair.LAYOUTS, key=len, reverse=True) if line.startswith(name))
    return {column.name: line[column.first - 1 : column.last].strip() for column in catair.list_columns(record)}


def test_layouts_do_not_overlap() -> None:
    for record in catair.LAYOUTS:
        columns = catair.list_columns(record)
        assert columns, record
        ends = [len(record), *(column.last for column in columns)]
        assert all(before < column.first for before, column in zip(ends, columns, strict=False)), record
        assert max(ends) <= catair.WIDTH
        assert len({column.name for column in columns}) == len(columns)


def test_fields_come_back_from_their_columns() -> None:
    written = catair.write_record(
        "50", hts="7323930045", duty=Decimal("12.345"), value=988, quantity_1=Decimal(24), unit_1="NO"
    )
    assert (written.blank, written.cut) == ((), ())
    assert written.text == "507323930045 0000001235 0000000988 000000002400NO " + " " * 30
    assert read_record(written.text)["duty"] == "0000001235"


def test_blank_and_long_fields_are_named() -> None:
    written = catair.write_record("10", action="A", port_of_entry="09011", entry_type="01")
    assert "10 entry_number 9-16" in written.blank
    assert written.cut == ("10 port_of_entry 18-21",)
    assert written.text[17:21] == "0901"
    long = catair.write_record("50", hts="7323930045", duty=Decimal(10) ** 9, value=1)
    assert (long.cut, long.text[13:23]) == (("50 duty 14-23",), " " * 10)


def read_all(lines: list[str], record: str) -> list[dict[str, str]]:
    return [read_record(line) for line in pick(lines, record)]


def read_remarks(lines: list[str]) -> str:
    return " ".join(line[2:].strip() for line in lines if line.startswith("*"))


def test_entry_summary_is_read_back_by_columns() -> None:
    invoice = build_full_invoice()
    lines = render(invoice, transactions=["AE"])
    (header,) = read_all(lines, "10")
    expected = {
        "action": "A", "filer_code": "XYZ", "port_of_entry": "0901", "entry_type": "01", "mode_of_transport": "30", "entry_number": "",
    }  # fmt: skip
    assert expected.items() <= header.items()
    (content,) = read_all(lines, "11")
    assert (content["importer_number"], content["state_of_destination"]) == ("12-3456789XX", "NY")
    (bill,) = read_all(lines, "23")
    assert (bill["bill_issuer"], bill["bill_number"], bill["bill_type"]) == ("ABCD", "1234567", "")
    items = [(item["line"], item["origin"]) for item in read_all(lines, "40")]
    assert items == [(f"{at:03}", line.country_of_origin) for at, line in enumerate(invoice.entry_lines, 1)]
    merged = read_all(lines, "42")[1]
    assert (merged["range_1_first"], merged["range_1_last"], merged["range_2_first"]) == ("0002", "0002", "0005")
    estimate = invoice.estimate
    assert estimate is not None
    tariff = read_all(lines, "50")
    assert Counter(row["hts"] for row in tariff) == Counter(
        [
            *(row.heading.replace(".", "") for line in invoice.entry_lines for row in line.treatment.chapter99),
            *(str(line.hts_code.exact) for line in invoice.entry_lines),
        ]
    )
    assert sum(int(row["value"] or 0) for row in tariff) == estimate.total_entered_value_usd
    assert {line[2:9] for line in pick(lines, "54")} == {"08CA   "}
    (totals,) = read_all(lines, "90")
    assert Decimal(totals["fees"]) / 100 == sum(fee.amount_usd for fee in estimate.fees)
    # The known part of a duty is not its total.
    assert (totals["duty"], bool(estimate.missing)) == ("", True)
    said = ("TEST: NOT FOR CUSTOMS USE", "not a filing", "10 entry_number 9-16", "31 surety_code 6-8", "probable")
    assert [words for words in said if words not in read_remarks(lines)] == []
    assert not pick(lines, "SE")


def test_totals_with_a_fee_on_goods_have_the_duty_and_no_fees() -> None:
    invoice = sample(1, change={"lines/0/htsCode": "6109100012"})
    estimate = invoice.estimate
    assert estimate is not None
    (cotton,) = estimate.unpriced_fees
    for missing, fees in ((cotton.text,), ""), ((), "00000003458"):
        unpriced = estimate.unpriced_fees if missing else ()
        only = estimate.model_copy(
            update={"missing": missing, "duty_usd": Decimal("554.40"), "unpriced_fees": unpriced}
        )
        lines = render(invoice.model_copy(update={"estimate": only}), transactions=["AE"])
        (totals,) = read_all(lines, "90")
        assert (totals["duty"], totals["fees"]) == ("00000055440", fees)
        assert read_all(lines, "89")[0]["class_1"] == "499"
        assert ("estimate without the cotton fee (056)" in read_remarks(lines)) == bool(missing)


def test_duties_of_the_lines_are_those_of_the_totals() -> None:
    def change(data: dict[str, Any]) -> None:
        first, _, _, fourth = data["lines"]
        first["chapter98"] = {"provision": "9802.00.50", "exemptValue": "280.00", "dutiableValue": "20.00"}
        first["treatment"]["chapter99"] = []
        total = {"heading": "9903.94.51", "program": "S232_AUTO", "ratePercent": "15", "basis": "total_with_column_1"}
        fourth["treatment"]["chapter99"] = [total]

    lines = render(sample(4, change=change, general="2%"), transactions=["AE"])
    rows = [read_record(line) for line in pick(lines, "50")]
    duties = {(row["hts"], row["duty"]) for row in rows if row["hts"][:2] != "99"}
    # The heading of the fourth line has its whole duty.
    assert duties == {
        ("98020050", ""), ("7323930045", "0000000040"), ("7323930060", "0000000000"), ("3924102000", "0000000100"),
        ("7323930045", ""),
    }  # fmt: skip
    (totals,) = map(read_record, pick(lines, "90"))
    assert sum(int(row["duty"] or 0) for row in rows) == int(totals["duty"]) == 218_50


def test_cargo_release_is_read_back_by_columns() -> None:
    invoice = build_full_invoice()
    lines = render(invoice, transactions=["SE"])
    assert not pick(lines, "10")
    (header,) = read_all(lines, "SE10")
    expected = {"importer_type": "EI", "importer_number": "12-3456789XX", "port_of_entry": "0901"}
    assert expected.items() <= header.items()
    assert [row["entity"] for row in read_all(lines, "SE30")] == ["SE", "BY", "CN"]
    (_, buyer, _) = read_all(lines, "SE36")
    assert (buyer["city"], buyer["region"], buyer["country"]) == ("BUFFALO", "NY", "US")
    makers = read_all(lines, "SE50")
    assert len(makers) == len(pick(lines, "SE40")) == len(invoice.entry_lines)
    assert makers[0]["name"] == "MAPLE GOODS LTD"
    assert sum(int(row["value"] or 0) for row in read_all(lines, "SE60")) == int(header["value"])


def test_agencies_records_follow_the_number_of_their_line() -> None:
    invoice = build_full_invoice()
    lines = render(invoice, transactions=["AE"])
    worksheet = invoice.worksheet
    assert worksheet is not None
    expected = [record for line in worksheet.lines for record in line.records]
    found = [line for line in lines if line[:2] in ("OI", "PG")]
    assert Counter(found) == Counter(f"{record:80}" for record in expected)
    assert lines[lines.index(found[0]) - 1].startswith("50")
    assert read_record(pick(lines, "10")[0])["pga_data"] == "Y"


def test_entry_of_500_lines_and_without_transport_facts() -> None:
    def change(data: dict[str, Any]) -> None:
        data["entry"] |= {"carrierScac": None, "shipmentControlNumber": None, "estimatedArrivalAt": None}
        data["entry"] |= {"modeOfTransport": "other"}

    lines = render(sample(500, change=change))
    assert read_record(pick(lines, "10")[0])["mode_of_transport"] == ""
    assert read_record(pick(lines, "23")[0])["bill_number"] == ""
    assert "23 bill_number 8-19" in " ".join(line[2:].strip() for line in lines if line.startswith("*"))


@pytest.mark.parametrize("text", {**DECEIVING, **BREAKING, **ODD}.values(), ids={**DECEIVING, **BREAKING, **ODD}.keys())
def test_texts_never_break_a_record(text: str) -> None:
    lines = render(sample(1, change={"lines/0/description": text, "parties/buyer/name": text[:256]}))
    assert len(pick(lines, "SE40")) == 1


def use_filing(data: dict[str, Any]) -> None:
    """Say how the entry is filed, who receives the goods, and which truck brings them."""
    data["entry"]["filing"] = {
        "entryNumber": "ABC-1234567-6",
        "firmsCode": "F123",
        "bond": {"type": "9", "suretyCode": "123", "amountUsd": "2000"},
        "payment": {"type": "7", "statementMonth": "12"},
    }
    trailers = [{"type": "trailer", "number": "TRL1"}]
    data["entry"]["trip"] = {"number": "T1234", "truck": {"licensePlate": "PLATE1"}, "trailers": trailers, "crew": []}
    address = data["parties"]["buyer"]["address"]
    data["parties"]["ultimateConsignees"] = [
        {"name": f"{name} Consignee", "address": address, "number": number, "orderIds": orders}
        for name, number, orders in (
            ("First", "11-1111111AA", ["ord_1000"]),
            ("Second", "22-2222222BB", ["ord_1001", "ord_1002"]),
        )
    ]


def test_filing_consignees_and_trip_stand_in_their_columns() -> None:
    lines = render(sample(3, change=use_filing))
    # The number of the entry names its filer, whatever the profile says.
    expected = {
        "10": {"filer_code": "ABC", "entry_number": "12345676", "payment_type": "7", "statement_month": "12"},
        "31": {"bond_type": "9", "surety_code": "123", "bond_amount": "0000002000"},
        "20": {"location_of_goods": "F123"},
        "21": {"trip": "T1234"},
        "SE10": {"filer_code": "ABC", "entry_number": "12345676", "bond_type": "9"},
        "SE11": {"location_of_goods": "F123", "trip": "T1234"},
        "SE17": {"equipment": "TRL1"},
    }
    for record, fields in expected.items():
        assert fields.items() <= read_all(lines, record)[0].items(), record
    numbers = ["11-1111111AA", "22-2222222BB", "22-2222222BB"]
    assert [row["party_number"] for row in read_all(lines, "47") if row["party_type"] == "C"] == numbers
    assert [row["entity"] for row in read_all(lines, "SE30")] == ["SE", "BY"]
    named = [(row["number_type"], row["number"]) for row in read_all(lines, "SE50") if row["entity"] == "CN"]
    assert named == [("EI", number) for number in numbers]


def test_only_consignee_stands_in_the_header() -> None:
    def change(data: dict[str, Any]) -> None:
        use_filing(data)
        data["parties"]["ultimateConsignees"] = [data["parties"]["ultimateConsignees"][0] | {"orderIds": []}]

    lines = render(sample(3, change=change))
    assert read_all(lines, "11")[0]["consignee_number"] == "11-1111111AA"
    entities = [(row["entity"], row["number"]) for row in read_all(lines, "SE30")]
    assert entities == [("SE", ""), ("BY", ""), ("CN", "11-1111111AA")]


def check(profile: dict[str, Any] | None = None, **changes: Any) -> dict[str, tuple[str, str]]:
    raw = json.loads(EXAMPLE.read_bytes()) | (profile or {})
    plan = factories.plan()
    for part, values in changes.items():
        plan["units"][0][part].update(values)
    findings = check_file(MessageProfile.model_validate(raw), Plan.model_validate(plan))
    assert all(finding.remedy and finding.source for finding in findings)
    return {finding.pointer: (finding.rule, finding.severity) for finding in findings}


@pytest.mark.parametrize(
    ("attributes", "column"),
    [
        ({"adCvdCase": "A-122-857-000", "adNonReimbursement": "Y"}, "Y"),
        ({"adCvdCase": "A-122-857-000"}, ""),
        ({"adCvdCase": "C-122-858-000", "adNonReimbursement": "Y"}, ""),
    ],
)
def test_line_record_has_the_statement_for_an_antidumping_case(attributes: dict[str, str], column: str) -> None:
    def change(data: dict[str, Any]) -> None:
        data["lines"][0]["attributes"] |= attributes

    (line,) = pick(render(sample(1, change=change)), "40")
    assert (line[59].strip(), read_record(line)["non_reimbursement"]) == (column, column)


def test_missing_facts_of_the_records_are_findings() -> None:
    filing = {"entryNumber": "ABC-1234567-6", "bond": {"type": "8"}, "payment": {"type": "7"}}
    given = {"manifestQuantity": "2", "estimatedArrivalAt": "2026-11-27T13:00:00-05:00", "filing": filing}
    assert check(entry=given) == {}
    unarranged = check(entry=given | {"filing": None})
    assert [*unarranged] == [f"/units/0/entry/filing/{name}" for name in ("entryNumber", "bond", "payment")]
    assert check(entry=given | {"carrierScac": None}) == {"/units/0/entry/carrierScac": ("B01", "note")}
    assert check(entry=given | {"modeOfTransport": "other"}) == {"/units/0/entry/modeOfTransport": ("B01", "note")}
    unnamed = check({"entryRecords": {}}, entry=given | {"filing": filing | {"entryNumber": None}})
    assert unnamed == {"/units/0/entry/filing/entryNumber": ("B01", "note"), "/broker/id": ("B01", "note")}
    foreign = check(entry=given, invoice={"currency": "CAD", "exchangeRate": None})
    assert foreign == {"/units/0/invoice/exchangeRate": ("B01", "note")}


@pytest.mark.parametrize(
    ("pointer", "most"),
    [
        ("/invoice/number", 17), ("/parties/seller/name", 35), ("/parties/buyer/address/line1", 35),
        ("/parties/shipTo/address/region", 3), ("/parties/manufacturers/0/address/city", 35),
        ("/parties/ultimateConsignees/0/name", 35), ("/parties/ultimateConsignees/0/address/line2", 35),
    ],
)  # fmt: skip
def test_text_that_a_record_cuts_is_a_finding(pointer: str, most: int) -> None:
    def check_length(length: int) -> list[str]:
        plan = factories.plan()
        place: Any = plan["units"][0]
        buyer = place["parties"]["buyer"]
        place["parties"]["ultimateConsignees"] = [{"name": buyer["name"], "address": {**buyer["address"]}}]
        *path, last = pointer.strip("/").split("/")
        for name in path:
            place = place[int(name) if name.isdecimal() else name]
        place[last] = "x" * length
        found = check_file(MessageProfile.model_validate_json(EXAMPLE.read_bytes()), Plan.model_validate(plan))
        return [each.pointer for each in found if each.rule == "B02"]

    assert check_length(most) == []
    assert check_length(most + 1) == [f"/units/0{pointer}"]


def test_line_after_the_last_number_has_none() -> None:
    invoice = sample(1)
    late = invoice.entry_lines[0].model_copy(update={"number": 1000})
    lines = render(invoice.model_copy(update={"entry_lines": (late,)}), transactions=["AE"])
    assert read_record(pick(lines, "40")[0])["line"] == ""
    assert "40 line 5-7" in " ".join(line[2:].strip() for line in lines if line.startswith("*"))


def test_divided_value_stands_on_both_numbers() -> None:
    invoice = sample(
        1, change={"lines/0/chapter98": {"provision": "9802.00.50", "exemptValue": "280.00", "dutiableValue": "20.00"}}
    )
    assert invoice.estimate is not None
    parts = invoice.estimate.lines[0].division
    assert parts is not None
    values = {read["hts"]: int(read["value"] or 0) for read in map(read_record, pick(render(invoice), "50"))}
    assert values == {
        "98020050": parts.exempt_value_usd, "99038209": 0, "99030529": 0, "7323930045": parts.dutiable_value_usd,
    }  # fmt: skip
