"""The CargoWise shipment: valid by the schema of 2019-11, and with every fact of the invoice."""

import csv
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from lxml import etree

from pipeline.documents import broker_profile as profiles
from pipeline.documents.formats.profile_checks import check_file
from pipeline.documents.formats.universal_shipment import MOST, NAMESPACE
from pipeline.documents.schemas.invoice import Invoice
from pipeline.documents.schemas.profile import MessageProfile, UniversalShipmentSettings
from pipeline.exports.schemas.plan import Plan
from tests.documents.samples import build_full_invoice, build_truck_invoice, file_entry, sample
from tests.support import factories
from tests.support.hostile_inputs import BREAKING, DECEIVING, ODD

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "profiles" / "universal-shipment.json"

#: The elements that stand in our files, as the schema of release 19.11.13 has them: the type of the parent, the content, the
#: most characters, and whether it is required or may be repeated. From github.com/shippool/CargoWiseOne-Schema (6059056f),
#: UniversalShipment.xsd and UniversalCommon.xsd. Below a parent the elements stand in any order.
SCHEMA: Final = Path(__file__).parent / "universal_shipment_2019.csv"
CONTENT: Final = {
    "string": r".+",
    "decimal": r"-?\d+(\.\d+)?",
    "int": r"\d{1,9}",
    "emptiable_dateTime": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d",
}

LINES: Final = (
    "Shipment/CommercialInfo/CommercialInvoiceCollection/CommercialInvoice/CommercialInvoiceLineCollection"
    "/CommercialInvoiceLine"
)


def render(invoice: Invoice) -> etree._Element:
    profile = MessageProfile.model_validate_json(EXAMPLE.read_bytes())
    return etree.fromstring(profiles.profile_document(profile, invoice).body)


def find_all(root: etree._Element, path: str) -> list[etree._Element]:
    found: list[etree._Element] = root.findall("/".join(f"{{{NAMESPACE}}}{name}" for name in path.split("/")))
    return found


def read_facts(parent: etree._Element) -> dict[str, str]:
    """Return the facts of the AddInfo rows directly below an element."""
    return {row[0].text: row[1].text for row in find_all(parent, "AddInfoCollection/AddInfo")}


@cache
def read_schema() -> dict[str, dict[str, dict[str, str]]]:
    found: dict[str, dict[str, dict[str, str]]] = {}
    with SCHEMA.open(newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["parent"], {})[row["element"]] = row
    return found


def list_faults(parent: etree._Element, kind: str = "UniversalShipmentData") -> Iterator[str]:
    """Yield each difference from the schema, of an element of this type and of all below it."""
    allowed = read_schema()[kind]
    names = [etree.QName(child).localname for child in parent]
    yield from (f"{kind} without {name}" for name, row in allowed.items() if row["required"] and name not in names)
    for name, child in zip(names, parent, strict=True):
        row = allowed.get(name)
        if row is None or (names.count(name) > 1 and not row["many"]):
            yield f"{kind} with {name}"
        elif row["content"] not in CONTENT:
            yield from list_faults(child, row["content"])
        elif not re.fullmatch(CONTENT[row["content"]], child.text or "", re.DOTALL):
            yield f"{name} {child.text!r}"
        elif row["most"] and len(child.text) > int(row["most"]):
            yield f"{name} of {len(child.text)} characters"


def give_long_texts(data: dict[str, Any]) -> None:
    data["parties"]["importerOfRecord"] |= {"name": "I" * 256, "address": dict(data["parties"]["buyer"]["address"])}
    for name in ("seller", "importerOfRecord", "buyer", "shipTo"):
        party = data["parties"][name]
        party["name"] = name + "N" * 200
        party["contact"] = {"name": "C" * 256, "email": f"{'e' * 240}@example.com", "phone": "1" * 40}
        party["address"] |= {"line1": "A" * 256, "line2": "B" * 256, "city": "D" * 256, "region": "R" * 64}
        party["address"]["postalCode"] = "9" * 16
    data["invoice"] |= {"number": "N" * 64, "usmcaStatement": "S" * 1000}
    for line in data["lines"]:
        line |= {"description": "Pan" * 300, "orderId": "O" * 64, "sku": "K" * 256}
        line["entryQuantities"] = [{"quantity": "12", "unit": unit} for unit in ("NO", "DOZ", "KG")]
        line["attributes"] = {"r" * 64: "V" * 256}
        for agency in line["treatment"]["pga"]:
            agency["data"] = {"r" * 64: ["V" * 1000, "W" * 1000]}


@pytest.mark.parametrize(
    "invoice",
    [build_full_invoice(), build_truck_invoice(file_entry), build_truck_invoice(give_long_texts)],
    ids=["of every kind", "filed", "of long texts"],
)
def test_file_is_valid_by_the_schema(invoice: Invoice) -> None:
    root = render(invoice)
    assert list(list_faults(root)) == []
    assert sum(1 for _ in root.iter()) > 100


def test_limits_are_those_of_the_schema() -> None:
    limits = {name: row["most"] for rows in read_schema().values() for name, row in rows.items()}
    assert {name: str(most) for name, most in MOST.items()} == {name: limits[name] for name in MOST}


def test_long_value_goes_on_in_the_next_row_of_its_key() -> None:
    rows = find_all(render(sample(1, change=give_long_texts)), f"{LINES}/AddInfoCollection/AddInfo")
    assert "".join(row[1].text for row in rows if row[0].text == f"PGA1.{'r' * 64}") == "V" * 1000 + "|" + "W" * 1000


def test_text_that_is_cut_off_is_a_finding() -> None:
    data = factories.plan()
    give_long_texts(data["units"][0])
    long = Plan.model_validate(data)
    profile = MessageProfile.model_validate_json(EXAMPLE.read_bytes())
    (found,) = [each for each in check_file(profile, long) if each.rule == "B02"]
    assert (found.severity, found.pointer) == ("warn", "/units/0/invoice/number")
    assert "and " in found.message
    assert "takes 35 characters" in found.message
    assert not [each for each in check_file(profile, Plan.model_validate(factories.plan())) if each.rule == "B02"]


def test_shipment_has_the_facts_of_the_invoice() -> None:
    invoice = build_full_invoice()
    root = render(invoice)
    assert etree.QName(root) == etree.QName(NAMESPACE, "UniversalShipment")
    (made,) = find_all(root, "Shipment/CommercialInfo/CommercialInvoiceCollection/CommercialInvoice")
    assert [child.text for child in made[:3:2]] == ["INV-10045", "1216.50"]
    lines = find_all(made, "CommercialInvoiceLineCollection/CommercialInvoiceLine")
    assert len(lines) == len(invoice.lines)
    first = {etree.QName(child).localname: child for child in lines[0]}
    assert (first["HarmonisedCode"].text, first["LinePrice"].text, first["PartNo"].text) == (
        "7323930045", "300.00", "PAN-24-0001",
    )  # fmt: skip
    assert (first["CountryOfOrigin"][0].text, first["CountryOfExport"][0].text) == ("CN", "CA")
    figures = {name: first[name].text for name in ("UnitPrice", "InvoiceQuantity", "NetWeight", "Weight")}
    assert figures == {"UnitPrice": "25.00", "InvoiceQuantity": "12", "NetWeight": "14.4", "Weight": "15.4"}
    facts = read_facts(lines[0])
    assert facts["ManufacturerID"] == "XOMAPGOO400TOR"
    assert (facts["AdditionalTariff1"], facts["AdditionalTariff2"]) == ("9903.05.29", "9903.82.09")
    assert (facts["SteelWeightKg"], facts["SteelMeltAndPour"]) == ("70.000", "CA")
    assert (facts["PGA1"], facts["PGA1.reason"]) == ("FD1|FDA||||disclaim A", "not a food contact surface claim")
    assert read_facts(lines[1])["USMCACertificate"] == "CERT-1"
    (shipment,) = find_all(root, "Shipment")
    header = read_facts(shipment)
    assert (header["EntryType"], header["PortOfEntry"], header["ImporterNumber"]) == ("01", "0901", "12-3456789XX")
    assert (header["Charge1"], header["ChargeIncludedInPrices2"], header["Discount1"]) == (
        "Freight=80.00", "Packing=15.00", "Early order=12.50",
    )  # fmt: skip
    assert header["Test"] == "Y"
    parties = find_all(shipment, "OrganizationAddressCollection/OrganizationAddress")
    assert [party[0].text for party in parties] == [
        "SupplierDocumentaryAddress", "ImporterDocumentaryAddress", "BuyerDocumentaryAddress", "ConsigneeDocumentaryAddress",
    ]  # fmt: skip
    assert [code.text for code in find_all(parties[0], "OrganizationCode")] == ["MAPGOOTOR"]


@pytest.mark.parametrize("text", {**DECEIVING, **BREAKING, **ODD}.values(), ids={**DECEIVING, **BREAKING, **ODD}.keys())
def test_every_text_comes_back_unchanged(text: str) -> None:
    (found,) = find_all(render(sample(1, change={"lines/0/description": text})), f"{LINES}/Description")
    assert found.text == text


def test_facts_without_an_element_are_facts_of_shipment_and_line() -> None:
    claim = {"provision": "9801.00.10", "exemptValue": "300.00", "dutiableValue": "0", "exportedOn": "2026-06-15"}

    def change(data: dict[str, Any]) -> None:
        file_entry(data)
        data["invoice"] |= {
            "usmcaStatement": "They originate.",
            "valuationBasis": "Transaction value",
            "assists": "declared",
        }
        data["invoice"]["assistItems"] = [{"name": "Mould", "amount": "450.00"}]
        data["invoice"]["rebates"] = [{"name": "Drawback", "amount": "3.10"}]
        data["lines"][0] |= {"attributes": {"adCvdCase": "A-122-857"}, "chapter98": claim | {"proof": "Form 3311"}}

    root = render(build_truck_invoice(change))
    header = read_facts(find_all(root, "Shipment")[0])
    assert {
        "UsmcaStatement": "They originate.", "ValuationBasis": "Transaction value", "Assists": "declared",
        "Assist1": "Mould=450.00", "Rebate1": "Drawback=3.10", "PaymentTerms": "Net 30 days", "SaleDate": "2026-11-20",
        "ReasonForExport": "sale", "Charge1Code": "freight", "SellerIdentifier.businessNumber": "123456789RM0001",
        "UltimateConsignee1Name": "Lakeside Kitchen Supply Inc.", "UltimateConsignee1City": "Rochester",
        "UltimateConsignee1Lines": "1", "EntryNumber": "ABC-1234567-6", "BondType": "9", "SuretyCode": "036",
        "TripNumber": "ABCD261126A", "TruckLicensePlate": "DEMO 100",
    }.items() <= header.items()  # fmt: skip
    assert header["ExportDeclaration"]
    assert header["Seals"]
    facts = read_facts(find_all(root, LINES)[0])
    assert {
        "Attribute.adCvdCase": "A-122-857", "Chapter98Proof": "Form 3311", "Chapter98ExportedOn": "2026-06-15",
        "AdditionalTariff2.Program": "S232_METALS", "AdditionalTariff2.RatePercent": "25", "SteelUsPercent": "0",
        "ManufacturerCity": "Toronto",
    }.items() <= facts.items()  # fmt: skip


def test_party_without_an_organization_code_is_a_finding() -> None:
    plan = Plan.model_validate(factories.plan())
    profile = MessageProfile.model_validate_json(EXAMPLE.read_bytes())
    parties = plan.units[0].parties
    importer = parties.importer_of_record.name or parties.buyer.name

    def check(**codes: str) -> list[tuple[str, str, str]]:
        settings = UniversalShipmentSettings(organization_codes=codes)
        found = check_file(profile.model_copy(update={"universal_shipment": settings}), plan)
        return [(each.rule, each.severity, each.pointer) for each in found]

    seller, other = [("B01", "note", f"/units/0/parties/{name}") for name in ("seller", "importerOfRecord")]
    assert check() == [seller, other]
    assert check(**{parties.seller.name: "SELLER"}) == [other]
    assert check(**{parties.seller.name: "SELLER", importer: "IMPORTER"}) == []
