"""UBL 2.1: valid against the OASIS schema for any plan, and the treatment can be read back from it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from pipeline.documents.formats.ubl import NAMESPACE, invoice_ubl, read_treatment
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.schemas.plan import as_json
from tests.documents.samples import file_entry, sample

SCHEMA = Path(__file__).parent / "ubl-2.1" / "maindoc" / "UBL-Invoice-2.1.xsd"

CBC = "{urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2}"
CAC = "{urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2}"


@pytest.fixture(scope="module")
def schema() -> Any:
    return etree.XMLSchema(etree.parse(SCHEMA))


def parsed(invoice: Invoice) -> Any:
    return etree.fromstring(invoice_ubl(invoice), etree.XMLParser(resolve_entities=False, no_network=True))


def in_currency(currency: str, rate: str | None, total: str) -> dict[str, str | None]:
    return {"invoice/currency": currency, "invoice/exchangeRate": rate, "invoice/total": total}


def remove_optional(data: dict[str, Any]) -> None:
    data["invoice"] |= dict.fromkeys(("saleDate", "salePlace", "paymentTerms", "purchaseOrder"))
    data["invoice"].update(charges=[], discounts=[])
    data["entry"] |= dict.fromkeys(("carrierScac", "shipmentControlNumber", "estimatedArrivalAt"))
    data["parties"]["seller"]["contact"] = None
    data["parties"]["exporterContact"] = {"name": "Export desk"}
    for line in data["lines"]:
        line.update(orderId=None, attributes={}, treatment={}, spi=None, usmcaCertificateRef=None)
    data["usmcaCertificates"] = []


def add_optional(data: dict[str, Any]) -> None:
    seller, buyer = data["parties"]["seller"], data["parties"]["buyer"]
    data["invoice"].update(
        assists="declared",
        assistItems=[{"name": "Die lent by the buyer", "amount": "350.00"}, {"name": "Drawings"}],
        rebates=[{"name": "Excise refunded on export", "amount": "3.20"}],
    )
    data["usmcaCertificates"][0] |= {
        "certifierAddress": seller["address"],
        "certifierContact": {"name": "Origin desk", "phone": "+1 416 555 0199"},
        "producer": {"name": "Maple Foundry Ltd", "address": seller["address"]},
        "importer": buyer,
        "goods": [{"description": "Pots of stainless steel", "hsCode": "732393"}],
    }


@pytest.mark.parametrize(
    "change",
    [None, remove_optional, add_optional, file_entry, in_currency("CAD", "0.71234567", "916.50"), in_currency("JPY", "0.0066", "917"), in_currency("KWD", None, "916.505")],
)  # fmt: skip
def test_invoice_matches_ubl_schema(schema: Any, change: Callable[[dict[str, Any]], None] | None) -> None:
    assert schema.validate(parsed(sample(3, 6, test=True, change=change))), schema.error_log


def test_extension_has_assists_and_certification_elements() -> None:
    root = parsed(sample(3, change=add_optional))
    prefix = f"{{{NAMESPACE}}}"
    assert [dict(row.attrib) for row in root.iter(f"{prefix}Assist")] == [
        {"name": "Die lent by the buyer", "amount": "350.00", "currency": "USD"},
        {"name": "Drawings"},
    ]
    (certificate,) = root.iter(f"{prefix}UsmcaCertificate")
    assert certificate.get("producerOnRequest") == "false"
    toronto = {
        "line1": "120 Front Street West", "line2": "Suite 400", "city": "Toronto", "region": "ON",
        "postalCode": "M5J 2M2", "country": "CA",
    }  # fmt: skip
    assert {row.tag.removeprefix(prefix): dict(row.attrib) for row in certificate} == {
        "CertifierAddress": toronto,
        "CertifierContact": {"name": "Origin desk", "phone": "+1 416 555 0199"},
        "Producer": {"name": "Maple Foundry Ltd", **toronto},
        "Importer": {
            "name": "Lakeside Kitchen Supply Inc.", "line1": "45 Delaware Avenue", "city": "Buffalo", "region": "NY",
            "postalCode": "14202", "country": "US",
        },
        "Goods": {"hsCode": "732393", "description": "Pots of stainless steel"},
    }  # fmt: skip


def test_line_names_its_consignees_as_party_of_its_delivery() -> None:
    def share(data: dict[str, Any]) -> None:
        file_entry(data)
        importer, store = data["parties"]["ultimateConsignees"]
        importer.update(orderIds=[], packageRefs=["CTN-00001"])
        store.update(number=None, orderIds=["ord_1000", "ord_1001", "ord_1002"])

    lines = parsed(sample(3, 6, change=share)).findall(f"{CAC}InvoiceLine")
    parties = [line.findall(f"{CAC}Delivery/{CAC}DeliveryParty") for line in lines]
    names = [[each.find(f"{CAC}PartyName/{CBC}Name").text for each in row] for row in parties]
    assert names == [["Lakeside Kitchen Supply Inc.", "Demo Stores Inc"], ["Demo Stores Inc"], ["Demo Stores Inc"]]
    numbers = [[(each.get("schemeID"), each.text) for each in party.iter(f"{CBC}ID")] for party in parties[0]]
    assert numbers == [[("ultimateConsignee", "12-3456789XX")], []]


def test_extension_has_orders_and_packages_of_consignees() -> None:
    def change(data: dict[str, Any]) -> None:
        file_entry(data)
        data["parties"]["ultimateConsignees"][1]["packageRefs"] = [data["packages"][0]["packageRef"]]

    invoice = sample(3, change=change)
    prefix = f"{{{NAMESPACE}}}"
    first, second = parsed(invoice).iter(f"{prefix}UltimateConsignee")
    address = {
        "line1": "55 Lake Avenue", "city": "Rochester", "region": "NY", "postalCode": "14608", "country": "US",
    }  # fmt: skip
    assert dict(second.attrib) == {
        "name": "Demo Stores Inc", **address, "number": "987-65-4321", "sameAsImporter": "false",
        "lines": " ".join(map(str, invoice.parties.ultimate_consignees[1].line_numbers)),
    }  # fmt: skip
    assert (first.get("sameAsImporter"), first.get("number")) == ("true", "12-3456789XX")
    assert [each.get("id") for each in second.iterfind(f"{prefix}Order")] == ["ord_1001", "ord_1002"]
    assert [each.get("ref") for each in second.iterfind(f"{prefix}Package")] == [invoice.packages[0].package_ref]


def test_large_invoice_matches_ubl_schema(schema: Any) -> None:
    assert schema.validate(parsed(sample(500))), schema.error_log


def test_facts_are_in_standard_ubl_elements() -> None:
    document = parsed(sample(3))
    total, item = "cac:LegalMonetaryTotal/cbc:", "cac:InvoiceLine/cac:"
    for path, texts in {
        "cbc:ID": ["INV-10045"],
        f"{total}LineExtensionAmount": ["849.00"],
        f"{total}ChargeTotalAmount": ["80.00"],
        f"{total}AllowanceTotalAmount": ["12.50"],
        f"{total}PayableAmount": ["916.50"],  # the sum of these
        f"{item}Item/cac:CommodityClassification/cbc:ItemClassificationCode": [
            "7323930045",
            "7323930060",
            "3924102000",
        ],
        f"{item}Price/cbc:PriceAmount": ["25.00", "41.50", "4.25"],
        "cac:AccountingCustomerParty/cac:Party/cac:PartyIdentification/cbc:ID": ["12-3456789XX"],
    }.items():
        found = document.findall(path.replace("cbc:", CBC).replace("cac:", CAC))
        assert [each.text for each in found] == texts, path
    for unit, code, listed in (("NO", "C62", "UN/ECE Recommendation 20"), ("PFL", "PFL", "HTSUS unit of quantity")):
        quantity = parsed(sample(1, change={"lines/0/unit": unit})).find(f"{CAC}InvoiceLine/{CBC}InvoicedQuantity")
        assert (quantity.get("unitCode"), quantity.get("unitCodeListID")) == (code, listed)


TEXT = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"), min_size=1, max_size=60
)
TEXTS = TEXT.map(str.strip).filter(bool)


@settings(max_examples=40, deadline=None)
@given(TEXTS, st.lists(TEXTS, max_size=3), st.none() | TEXTS)
def test_any_treatment_round_trips_and_any_text_is_valid(
    schema: Any, text: str, several: list[str], open_: str | None
) -> None:
    def change(data: dict[str, Any]) -> None:
        line = data["lines"][0]
        line["description"] = line["sku"] = data["parties"]["seller"]["name"] = data["invoice"]["paymentTerms"] = text
        line["attributes"] = {"finish": text}
        line["treatment"]["undetermined"] = open_
        line["treatment"]["pga"] = [
            {"flag": "FD1", "agency": "FDA", "program": "FOO", "data": {"reason": text, "lots": several}},
            {"flag": "AL1", "agency": "APH", "disclaimer": "A"},
        ]

    invoice = sample(1, change=change)
    document = parsed(invoice)
    assert schema.validate(document), schema.error_log
    assert document.find(f"{CAC}InvoiceLine/{CAC}Item/{CBC}Description").text == text
    (line,) = document.iter(f"{{{NAMESPACE}}}Line")
    assert as_json(read_treatment(canonicalize(line))) == as_json(invoice.lines[0].treatment)
    assert (line.get("htsCode"), line.get("digest")) == (
        invoice.lines[0].hts_code.exact,
        invoice.lines[0].treatment_digest,
    )


def canonicalize(element: Any) -> Element:
    result = Element(element.tag, dict(element.attrib))
    result.text = element.text
    result.extend(canonicalize(each) for each in element)
    return result
