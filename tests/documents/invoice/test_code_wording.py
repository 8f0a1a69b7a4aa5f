"""The words of printed codes: those of the rules, and the plan's own code if the rules do not know it."""

import json
from io import BytesIO

import pytest
from pypdf import PdfReader

from pipeline.customs.reference.ruleset import ruleset
from pipeline.customs.reference.units import unit_rules
from pipeline.deliveries.outbox.entry_facts import rule_words
from pipeline.documents.formats.invoice import invoice_html, invoice_json
from pipeline.documents.formats.invoice_pdf import invoice_pdf
from pipeline.documents.formats.pga_worksheet import pga_worksheet
from pipeline.documents.formats.section_232_statement import section_232_statement
from pipeline.documents.formats.ubl import invoice_ubl
from pipeline.documents.invoice import code_wording as words
from pipeline.documents.schemas.invoice import Invoice
from tests.documents.samples import sample


def test_every_basis_and_unit_of_the_rules_has_words() -> None:
    assert {row.basis for row in ruleset().rows} <= words.read_words()["bases"].keys()
    assert {each.code for each in unit_rules().units} - {*unit_rules().without_quantity} == words.read_words()[
        "packed_units"
    ].keys()


@pytest.fixture
def invoice() -> Invoice:
    return sample(2, change={"lines/0/treatment/chapter99/0/program": "S301_FL"})


def test_pages_show_words(invoice: Invoice) -> None:
    page, statement, worksheet = (_text(make(invoice)) for make in (invoice_pdf, section_232_statement, pga_worksheet))
    for fact in (
        "9903.05.29 Section 301, forced labor · 10 % of the full value",
        "Section 232, metals · 25 % of the full value",
        "FDA FD1 disclaimed A · Reason: not a food contact surface claim",
        "01 consumption, formal; port 0901 Buffalo-Niagara Falls NY",
        "Business number",
        "EIN 12-3456789",
    ):
        assert fact in page, fact
    assert "25 % of the full value" in statement
    assert "01 consumption, formal" in worksheet
    assert "Reason not a food contact surface claim" in worksheet
    for shown in (page, statement, worksheet, invoice_html(invoice).decode()):
        for code in ("S301_FL", "S232_METALS", "full_value", "businessNumber"):
            assert code not in shown, code


def test_data_keep_codes(invoice: Invoice) -> None:
    data = json.loads(invoice_json(invoice))
    assert [data["transport"][name] for name in ("entryType", "portOfEntry")] == ["01", "0901"]
    assert data["parties"]["seller"]["identifiers"] == [{"name": "businessNumber", "value": "123456789RM0001"}]
    assert data["lines"][0]["treatment"]["chapter99"][0]["program"] == "S301_FL"
    assert b'schemeID="businessNumber"' in invoice_ubl(invoice)
    assert b'<Entry type="01"' in invoice_ubl(invoice)


def test_unknown_codes_stay() -> None:
    of_rules = rule_words()
    assert of_rules.name_program("OWN_PROGRAM") == "OWN_PROGRAM"
    assert words.format_basis("own_basis").shown == "of the own basis"
    assert of_rules.format_entry_type("99").shown == "99"
    assert of_rules.name_agency_datum("ownDatum") == "Own datum"
    assert of_rules.describe_port("9999") == "9999"
    assert words.format_package_type("ZZ").shown == "ZZ"


def _text(body: bytes) -> str:
    return " ".join(" ".join(page.extract_text().split()) for page in PdfReader(BytesIO(body)).pages)
