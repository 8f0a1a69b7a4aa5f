"""What an entry line declares is in the records, the tables and the worksheet; amounts of merged lines are added."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.documents import broker_profile as profiles
from pipeline.documents.formats.entry_blocks import list_blocks
from pipeline.documents.formats.entry_worksheet import entry_worksheet
from pipeline.documents.formats.facts import find_estimate, list_entry_facts
from pipeline.documents.formats.line_declarations import Lumber, find_lumber, list_licenses
from pipeline.documents.schemas.invoice import Invoice
from pipeline.documents.schemas.profile import MessageProfile
from tests.documents.formats.test_entry_import import read_page, read_tables
from tests.documents.formats.test_entry_records import read_record
from tests.documents.samples import sample

RECORDS = Path(__file__).resolve().parents[3] / "examples" / "profiles" / "entry-records.json"
LUMBER = {"softwoodExportPrice": "1250.00", "softwoodExportCharge": "0.5", "softwoodDeclaration": "Y"}


def declare(*attributes: dict[str, str], lines: int = 1) -> Invoice:
    def change(data: dict[str, Any]) -> None:
        for line, named in zip(data["lines"], attributes, strict=False):
            line["attributes"] = named

    return sample(lines, change=change)


def merge(first: dict[str, str], second: dict[str, str]) -> Invoice:
    """Return an invoice of two lines of the same goods."""

    def change(data: dict[str, Any]) -> None:
        kept = ("lineRef", "orderId")
        data["lines"][1] |= {name: value for name, value in data["lines"][0].items() if name not in kept}
        data["lines"][0]["attributes"], data["lines"][1]["attributes"] = first, second

    return sample(2, change=change)


def list_records(invoice: Invoice, record: str) -> list[dict[str, str]]:
    profile = MessageProfile.model_validate_json(RECORDS.read_bytes())
    lines = profiles.profile_document(profile, invoice).body.decode("ascii").split("\r\n")
    return [read_record(line) for line in lines if line.startswith(record)]


def read_lines(invoice: Invoice) -> list[dict[str, str]]:
    return read_tables(invoice)["lines.csv"]


def read_foot(invoice: Invoice) -> dict[str, tuple[str | None, str | None]]:
    blocks = list_blocks(invoice, find_estimate(invoice))
    return {each.name: (each.value, each.supplier) for each in blocks if each.place == "foot" and not each.number}


@pytest.mark.pdf_engine
@pytest.mark.parametrize(
    ("name", "number", "code", "words"),
    [
        ("steelImportLicense", "S24110601", "01", "Steel import license"),
        ("aluminumImportLicense", "A24110601", "28", "Aluminum import license"),
        ("diamondCertificate", "CA0012345", "06", "Kimberley certificate"),
    ],
)
def test_license_is_in_record_table_and_worksheet(name: str, number: str, code: str, words: str) -> None:
    invoice = declare({name: number})
    assert list_records(invoice, "52") == [{"license_type": code, "license_number": number}]
    (row,) = read_lines(invoice)
    assert (row["license_type"], row["license_number"]) == (code, number)
    assert "".join(f"{words} (type {code}) {number}".split()) in read_page(invoice)
    assert read_foot(invoice)["License or certificate number"] == ("see lines", None)


@pytest.mark.pdf_engine
def test_lumber_is_in_record_table_and_worksheet() -> None:
    invoice = declare(LUMBER)
    record = {"declared": "P", "export_price": "00000125000", "export_charge": "00000000050"}
    assert list_records(invoice, "5401") == [record]
    (row,) = read_lines(invoice)
    names = ("softwood_price_usd", "softwood_charge_usd", "softwood_declaration")
    assert [row[name] for name in names] == ["1250.00", "0.5", "Y"]
    assert "Softwoodlumber:exportpriceUSD1,250.00,exportchargeUSD0.50,declarationY" in read_page(invoice)
    assert read_foot(invoice)["Softwood lumber declaration"] == ("see lines", None)


def test_line_without_a_declaration_names_who_supplies_it() -> None:
    invoice = declare({})
    assert list_records(invoice, "52") == list_records(invoice, "5401") == []
    (row,) = read_lines(invoice)
    assert [row[name] for name in row if name.startswith(("license", "softwood"))] == [""] * 5
    foot = read_foot(invoice)
    assert foot["License or certificate number"] == (None, "the importer, if the goods need one")
    assert foot["Softwood lumber declaration"] == (None, "the importer, if of softwood lumber")


def test_amounts_of_merged_lines_are_added_and_their_license_stands_once() -> None:
    invoice = merge(LUMBER | {"steelImportLicense": "S1"}, LUMBER | {"steelImportLicense": "S1"})
    (line,) = list_entry_facts(invoice)
    assert find_lumber(line) == Lumber(Decimal("2500.00"), Decimal("1.0"), declared=True)
    assert [number for _, number in list_licenses(line)] == ["S1"]


def test_lines_under_two_licenses_are_two_entry_lines() -> None:
    invoice = merge({"steelImportLicense": "S1"}, {"steelImportLicense": "S2"})
    assert [number for line in list_entry_facts(invoice) for _, number in list_licenses(line)] == ["S1", "S2"]


@pytest.mark.parametrize(
    ("change", "lumber"),
    [
        ({"softwoodDeclaration": "N"}, Lumber(Decimal("1250.00"), Decimal("0.5"), declared=False)),
        ({"softwoodExportPrice": "about 1250"}, Lumber(None, Decimal("0.5"), declared=True)),
        ({"softwoodExportCharge": "1e9"}, Lumber(Decimal("1250.00"), None, declared=True)),
    ],
)
def test_value_of_another_form_is_not_a_figure(change: dict[str, str], lumber: Lumber) -> None:
    invoice = declare(LUMBER | change)
    assert find_lumber(next(list_entry_facts(invoice))) == lumber
    (record,) = list_records(invoice, "5401")
    assert [*record.values()].count("") == 1


@pytest.mark.pdf_engine
@pytest.mark.parametrize("number", ["9" * 200, '#"<b>[', "=1+1", "\u202eS1", "許可証"])
def test_hostile_number_stays_text(number: str) -> None:
    invoice = declare({"steelImportLicense": number})
    (record,) = list_records(invoice, "52")
    assert len(record["license_number"]) <= 10
    assert read_lines(invoice)[0]["license_number"].lstrip("'") == number
    assert entry_worksheet(invoice)
