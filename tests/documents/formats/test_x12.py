"""The X12 interchange: two readers of others find no error, and every fact of the invoice comes back from its segments."""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from pyx12.x12file import X12Reader

from pipeline.core.errors import ValidationFailed
from pipeline.core.findings import Finding
from pipeline.documents import broker_profile as profiles
from pipeline.documents.formats import x12
from pipeline.documents.formats.profile_checks import check_file
from pipeline.documents.schemas.invoice import Invoice
from pipeline.documents.schemas.profile import MessageProfile
from pipeline.exports.schemas.plan import Plan
from tests.documents.samples import build_full_invoice, sample, unit_data
from tests.support import factories
from tests.support.hostile_inputs import BREAKING, DECEIVING, ODD
from tests.support.interpreter import run_interpreter
from tests.support.tables import table

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "profiles" / "x12.json"
HOSTILE = {**DECEIVING, **BREAKING, **ODD}

#: Prints the errors of a file by the grammars 810 and 856 of 004010: order, repeats and lengths of segments and elements.
READ_BY_GRAMMAR = """
import json, logging, sys
from edi_parser import validate_edi
logging.disable(logging.CRITICAL)
read = validate_edi(open({path!r}).read(), "x12", "x12")
print(json.dumps([each["message"] for each in read["errors"]]))
"""


@cache
def build_profile() -> MessageProfile:
    return MessageProfile.model_validate_json(EXAMPLE.read_bytes())


def render(invoice: Invoice, *transactions: str, **changes: Any) -> str:
    raw = json.loads(EXAMPLE.read_bytes())
    raw["x12"] |= {"transactions": [*transactions] or ["810", "856"]} | changes
    return profiles.profile_document(MessageProfile.model_validate(raw), invoice).body.decode("ascii")


def read_segments(text: str) -> list[list[str]]:
    """Return the elements of each segment; the reader checks envelopes, counts, control numbers and levels."""
    reader = X12Reader(StringIO(text))
    segments, errors = [], []
    for segment in reader:
        segments.append(
            [segment.get_seg_id(), *(segment.get_value(f"{at:02d}") or "" for at in range(1, len(segment) + 1))]
        )
        errors += reader.pop_errors()
    reader.cleanup()
    assert [*errors, *reader.pop_errors()] == []
    return segments


def list_grammar_errors(text: str, tmp_path: Path) -> list[str]:
    path = tmp_path / "interchange.x12"
    path.write_text(text)
    read = run_interpreter(READ_BY_GRAMMAR.format(path=str(path)))
    assert read.returncode == 0, read.stderr
    found: list[str] = json.loads(read.stdout.splitlines()[-1])
    return found


def pick(segments: list[list[str]], tag: str, *qualifiers: str) -> list[list[str]]:
    """Return the rest of the segments that begin with these elements."""
    start = [tag, *qualifiers]
    return [each[len(start) :] for each in segments if each[: len(start)] == start]


def use_little(data: dict[str, Any]) -> None:
    """Leave out what a plan may leave out."""
    data["entry"] |= {"carrierScac": None, "shipmentControlNumber": None, "estimatedArrivalAt": None}
    data["invoice"] |= {"purchaseOrder": None, "paymentTerms": None, "saleDate": None, "salePlace": None}
    for line in data["lines"]:
        line |= {"orderId": None, "spi": None, "usmcaCertificateRef": None}


def use_filing(data: dict[str, Any]) -> None:
    data["entry"]["filing"] = {"entryNumber": "ABC-1234567-6", "bond": {"type": "8", "suretyCode": "123"}}
    data["entry"]["trip"] = {
        "number": "T1234", "truck": {"licensePlate": "PLATE1"}, "trailers": [{"type": "trailer", "number": "TRL1"}], "crew": [],
    }  # fmt: skip
    consignee = {"name": "A Consignee", "address": data["parties"]["buyer"]["address"], "number": "11-1111111AA"}
    data["parties"]["ultimateConsignees"] = [consignee]


def use_much(data: dict[str, Any]) -> None:
    """Give every text its most characters, and foreign money."""
    long = "x" * 250
    data["invoice"] |= {"currency": "CAD", "exchangeRate": "0.71501234", "purchaseOrder": long, "paymentTerms": long}
    data["invoice"] |= {
        "valuationBasis": long,
        "usmcaStatement": "word " * 190 + "end",
        "incotermPlace": long,
        "salePlace": long,
    }
    data["invoice"]["rebates"] = [{"name": long, "amount": "1.00"}]
    data["parties"]["seller"] |= {"name": long, "address": data["parties"]["seller"]["address"] | {
        "line1": long, "line2": long, "city": long, "region": "Newfoundland and Labrador"}}  # fmt: skip
    data["lines"][0] |= {"sku": long, "description": "d" * 1000, "lineRef": "r" * 64, "orderId": "o" * 64}
    for package in data["packages"]:
        for content in package["contents"]:
            content["lineRef"] = "r" * 64 if content["lineRef"] == "L1" else content["lineRef"]
        package["trackingNumber"] = "t" * 64


CASES: dict[str, Callable[[], Invoice]] = {
    "every kind of fact": build_full_invoice,
    "an order for each package": lambda: sample(3, 6),
    "one order": lambda: sample(3, 3, change={f"lines/{at}/orderId": "ord_1" for at in range(3)}),
    # Goods of two orders are in the first carton, on a pallet.
    "several orders in a carton": lambda: sample(
        3, 3, change={"packages/1/contents/-": {"lineRef": "L2", "quantity": "1"}}
    ),
    "filing and trip": lambda: sample(3, 3, change=use_filing),
    "little": lambda: sample(3, 3, change=use_little),
    "much": lambda: sample(3, 3, change=use_much),
    "500 lines": lambda: sample(500),
}


@pytest.mark.parametrize("case", [*list(CASES)[:-1], pytest.param("500 lines", marks=pytest.mark.system)])
def test_two_readers_of_others_find_no_error(case: str, tmp_path: Path) -> None:
    text = render(CASES[case]())
    assert [each[1] for each in read_segments(text) if each[0] == "ST"] == ["810", "856"]
    assert list_grammar_errors(text, tmp_path) == []
    assert len(text.partition("~")[0]) == 105


def test_readers_find_errors(tmp_path: Path) -> None:
    text = render(sample(1))
    assert list_grammar_errors(text.replace("BIG*", "BIX*"), tmp_path) != []
    assert list_grammar_errors(text.replace("IT1*1*12*", "IT1*1*12345678901*"), tmp_path) != []
    with pytest.raises(AssertionError, match="SE count"):
        read_segments(text.replace("~\nSE*", "~\nCTT*1~\nSE*", 1))


def test_invoice_comes_back_from_its_segments() -> None:
    invoice = build_full_invoice()
    segments = read_segments(render(invoice, "810"))
    assert pick(segments, "BIG") == [["20261124", "INV-10045", "", "PO-7781"]]
    assert pick(segments, "CUR") == [["SE", "USD"]]
    assert pick(segments, "N1", "IM") == [["Lakeside Kitchen Supply Inc.", "ZZ", "12-3456789XX"]]
    lines = pick(segments, "IT1")
    assert [line[0] for line in lines] == ["1", "2", "3", "4", "5"]
    assert lines[0] == ["1", "12", "EA", "25", "", "VP", "PAN-24-0001", "HD", "7323930045", "CH", "CN"]
    total = sum((Decimal(line[1]) * Decimal(line[3]) for line in lines), Decimal(0))
    charges = sum(int(each[3]) for each in pick(segments, "SAC", "C"))
    allowances = sum(int(each[3]) for each in pick(segments, "SAC", "A"))
    assert pick(segments, "TDS") == [["121650"]]
    assert (charges, allowances) == (8000, 1250)
    assert total == Decimal(str(invoice.totals.goods_value.exact))
    facts = [
        (value, name)
        for value, name in pick(segments, "REF", "ZZ")
        if name.startswith(("CHAPTER 99", "METAL", "PGA", "SPI"))
    ]
    assert facts[:4] == [
        ("9903.05.29", "CHAPTER 99 S301_FORCED_LABOUR 10 PCT full_value"),
        ("9903.82.09", "CHAPTER 99 S232_METALS 25 PCT full_value"),
        ("steel 70.000 KG", "METAL MELT POUR CA US 0 PCT"),
        ("FD1", "PGA FDA DISCLAIMER A"),
    ]
    assert ("S", "SPI CERT CERT-1") in facts
    assert [maker[2] for maker in pick(segments, "N1", "MF")] == [line.mid for line in invoice.lines]
    digests = [name for value, name in pick(segments, "REF", "ZZ") if value == "TREATMENT DIGEST"]
    assert digests == [invoice.provenance.treatment_digest, *(line.treatment_digest for line in invoice.lines)]
    assert pick(segments, "CTT") == [["5"]]


def test_filing_consignee_and_trip_come_back() -> None:
    segments = read_segments(render(CASES["filing and trip"]()))
    notes = [note for (note,) in pick(segments, "NTE", "GEN")]
    assert {"entry number: ABC-1234567-6", "bond type: 8", "surety code: 123"} <= set(notes)
    assert pick(segments, "N1", "UC") == [["A Consignee", "ZZ", "11-1111111AA"]]
    named = {name: value for value, name in pick(segments, "REF", "ZZ")}
    assert (named["TRIP NUMBER"], named["TRUCK"], named["TRAILER"]) == ("T1234", "PLATE1", "TRL1")


@pytest.mark.parametrize(
    ("case", "structure", "levels"),
    [("one order", "0001", "SOTPIPIPI"), ("several orders in a carton", "0003", "STPOIOIPOIPOI")],
)
def test_ship_notice_has_the_tree_of_packages(case: str, structure: str, levels: str) -> None:
    invoice = CASES[case]()
    segments = read_segments(render(invoice, "856"))
    assert pick(segments, "BSN") == [["00", "CP-2026-000042", "20261124", "0000", structure]]
    found = pick(segments, "HL")
    assert "".join(level[2] for level in found) == levels
    parents = {level[1] for level in found}
    assert all((level[3] == "1") is (level[0] in parents) for level in found)
    assert pick(segments, "CTT") == [[str(len(found))]]
    # The application identifier, then the eighteen digits.
    assert pick(segments, "MAN", "GM") == [["00106141412345678908"]]
    shipped = [Decimal(each[1]) for each in pick(segments, "SN1")]
    assert sum(shipped) == sum(
        Decimal(str(content.quantity.exact)) for package in invoice.packages for content in package.contents
    )


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_texts_never_break_a_segment(text: str) -> None:
    def change(data: dict[str, Any]) -> None:
        data["lines"][0] |= {"description": text, "sku": text[:256]}
        data["parties"]["buyer"]["name"] = text[:256]

    segments = read_segments(render(sample(1, change=change), "810"))
    assert {len(each) - 1 for each in segments if each[0] == "ISA"} == {16}
    described = "".join(each[-1] for each in pick(segments, "PID"))
    assert described.replace(" ", "") == x12.spell_text(text).replace(" ", "") != ""


def test_letters_are_respelled_and_delimiters_replaced() -> None:
    assert x12.spell_text("Œuvre d\u2019été \u2013 5 € a*b>c~d 佛山\tx") == "OEuvre d'ete - 5 EUR a b c d ?? x"
    assert (x12.has_unknown("Café d\u2019Østerbro?"), x12.has_unknown("佛")) == (False, True)
    assert x12.split_text("one two three", 7) == ["one two", "three"]
    assert x12.split_text("x" * 9, 4) == ["xxxx", "xxxx", "x"]
    assert x12.split_text(None, 4) == []


def test_control_numbers_are_stable_for_a_revision_and_differ_between_revisions() -> None:
    def at(number: str, revision: int) -> Invoice:
        made = sample(1)
        changed = made.provenance.model_copy(update={"package_number": number, "revision": revision})
        return made.model_copy(update={"provenance": changed})

    first = render(at("CP-000042", 1))
    assert first == render(at("CP-000042", 1))
    segments = read_segments(first)
    assert pick(segments, "ISA")[0][12] == "000004201"
    assert [group[5] for group in pick(segments, "GS")] == ["42011", "42012"]
    assert pick(segments, "ISA")[0][14] == "P"
    replaced = read_segments(render(at("CP-000042", 2)))
    assert pick(replaced, "ISA")[0][12] == "000004202"
    assert pick(replaced, "BSN")[0][0] == "05"
    assert pick(read_segments(render(at("CP-1234567", 1))), "ISA")[0][12] == "123456701"
    assert pick(read_segments(render(sample(1, test=True))), "ISA")[0][14] == "T"


FREIGHT = {"code": "freight", "amount": "1", "includedInPrices": False}
STORES = {"name": "Demo Stores Inc", "address": unit_data(1)["parties"]["shipTo"]["address"]}


@table(
    ("change", "message"),
    [
        ({"lines/0/quantity": "12345678901"}, "the quantity of line 1 is 12345678901, which"),
        ({"lines/0/unitPrice": "123456789012.123456"}, "the unit price of line 1 is 1234"),
        ({"invoice/exchangeRate": "1234.12345678"}, "the exchange rate is 1234.12345678"),
        ({"packages/0/grossWeightKg": "1234567.891"}, "the gross weight of package "),
        (
            {"packages/1/contents/0/quantity": "12345678901"},
            "a packed quantity of line 1 is 12345678901, which has more than 10 digits",
        ),
        (
            {"invoice/charges": [FREIGHT] * 26, "invoice/discounts": []},
            "the invoice has 26 charges and discounts, and X12 carries 25",
        ),
        ({"parties/ultimateConsignees": [STORES] * 191}, "the invoice has 191 consignees, and X12 carries 190"),
        ({"invoice/charges/0/amount": "80.005"}, "Freight is 80.005, and X12 carries two decimals"),
    ],
)
def test_writer_drops_and_shortens_no_number(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationFailed, match=re.escape(message)):
        render(sample(1, change=change))


def test_facts_of_a_line_without_a_place_of_their_own_come_back() -> None:
    proof = f"Declarations of the foreign shipper and of the importer under 19 CFR 10.1, {'with invoices ' * 5}and more"
    claim = {"provision": "9801.00.10", "exemptValue": "300.00", "dutiableValue": "0", "exportedOn": "2026-06-15"}
    data = {"fdaProductCode": "21HGT07", "lots": ["one", "two"]}
    change = {
        "lines/0/attributes": {"adCvdCase": "A-122-857, C-122-858", "a-name-with-more-than-30-characters": "v" * 200},
        "lines/0/chapter98": claim | {"proof": proof},
        "lines/0/treatment/pga": [{"flag": "FD4", "agency": "FDA", "program": "FOO", "data": data}],
        "lines/0/unit": "X",
    }
    segments = read_segments(render(sample(1, change=change), "810"))
    expected = {
        "ATTRIBUTE adCvdCase": "A-122-857, C-122-858", "CHAPTER 98 EXPORTED ON": "20260615", "INVOICE UNIT": "X",
        "PGA FD4 fdaProductCode": "21HGT07", "PGA FD4 lots": "one|two",
    }  # fmt: skip
    assert expected.items() <= {name: value for value, name in pick(segments, "REF", "ZZ")}.items()
    long = pick(segments, "REF", "ZZ", "CHAPTER 98 PROOF")
    assert " ".join(part for (part,) in long) == proof
    assert len(long) > 1
    fact = "".join(part for (part,) in pick(segments, "REF", "ZZ", "FACT"))
    assert fact.replace(" ", "") == "ATTRIBUTEa-name-with-more-than-30-characters:" + "v" * 200


def test_charges_and_dates_have_codes_of_the_standard() -> None:
    segments = read_segments(render(build_full_invoice()))
    # D240 is freight; another charge has no code with the same meaning.
    assert [(each[0], each[1], each[-1]) for each in pick(segments, "SAC")] == [
        ("C", "D240", "Freight"), ("N", "ZZZZ", "Packing"), ("A", "ZZZZ", "Early order"),
    ]  # fmt: skip
    # 056 is the estimated arrival at the port of entry, in both transaction sets.
    assert pick(segments, "DTM", "056") == [["20261127", "1800", "UT"]] * 2


def check(**changes: Any) -> list[Finding]:
    raw = factories.plan()
    unit = raw["units"][0]
    for part, values in changes.items():
        (unit["lines"][0] if part == "line" else unit[part]).update(values)
    return check_file(build_profile(), Plan.model_validate(raw))


def test_more_notes_than_x12_carries_are_refused() -> None:
    rebates = [{"name": "r" * 250, "amount": "1.00"}] * 30
    with pytest.raises(ValidationFailed, match=r"lines of notes, and X12 carries 100"):
        render(sample(1, change=lambda data: data["invoice"].update(rebates=rebates)))
    (finding,) = check(invoice={"rebates": rebates})
    assert (finding.rule, finding.severity, finding.pointer) == ("B02", "block", "/units/0/invoice")


@table(
    ("changes", "expected"),
    [
        ({"entry": {"carrierScac": None}}, ("B01", "note", "/units/0/entry/carrierScac")),
        ({"line": {"quantity": "12345678901"}}, ("B02", "block", "/units/0/lines/0/quantity")),
        ({"line": {"unitPrice": "123456789012.123456"}}, ("B02", "block", "/units/0/lines/0/unitPrice")),
        ({"invoice": {"total": "10.005"}}, ("B02", "block", "/units/0/invoice/total")),
        ({"invoice": {"exchangeRate": "1234.12345678"}}, ("B02", "block", "/units/0/invoice/exchangeRate")),
        ({"invoice": {"charges": [FREIGHT] * 26}}, ("B02", "block", "/units/0/invoice/charges")),
        ({"line": {"sku": "s" * 49}}, ("B02", "warn", "/units/0/lines/0/sku")),
        ({"line": {"unit": "X"}}, ("B02", "note", "/units/0/lines/0/unit")),
        ({"line": {"description": "不锈钢 pan"}}, ("B02", "warn", "/units/0/lines/0/description")),
    ],
)
def test_what_the_file_lacks_or_changes_is_a_finding(changes: dict[str, Any], expected: tuple[str, str, str]) -> None:
    assert check() == []
    (finding,) = check(**changes)
    assert (finding.rule, finding.severity, finding.pointer) == expected
    assert finding.remedy
