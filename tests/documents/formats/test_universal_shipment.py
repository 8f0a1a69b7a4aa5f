"""The CargoWise shipment: well-formed, in the order of published samples, and with every fact of the invoice."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
from lxml import etree

from pipeline.documents import broker_profile as profiles
from pipeline.documents.formats.profile_checks import check_file
from pipeline.documents.formats.universal_shipment import NAMESPACE
from pipeline.documents.schemas.invoice import Invoice
from pipeline.documents.schemas.profile import MessageProfile, UniversalShipmentSettings
from pipeline.exports.schemas.plan import Plan
from tests.documents.samples import build_full_invoice, build_truck_invoice, file_entry, sample
from tests.support import factories
from tests.support.hostile_inputs import BREAKING, DECEIVING, ODD

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "profiles" / "universal-shipment.json"

#: The order of the elements in two published maps that make such shipments for CargoWise:
#: github.com/twopugs/maps, TTAF_InvoiceCSV_To_XUS_V1.xslt (e9c4961e) and ScalesLogistics_UniversalShipment_To_ChamberCommerce.xslt.
SAMPLE_ORDER: Final = {
    "Shipment": ("DataContext", "CommercialInfo", "OrganizationAddressCollection"),
    "DataTarget": ("Type",),
    "CommercialInvoice": (
        "InvoiceNumber", "IncoTerm", "InvoiceAmount", "InvoiceCurrency", "InvoiceDate", "CommercialInvoiceLineCollection",
    ),
    "CommercialInvoiceLine": (
        "LineNo", "PrimaryPreference", "CountryOfOrigin", "CustomsQuantity", "CustomsQuantityUnit", "LinePrice",
        "InvoiceQuantity", "InvoiceQuantityUnit", "PartNo", "Weight",
    ),
}  # fmt: skip

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
    rows = find_all(parent, "AddInfoCollection/AddInfo")
    return {row[0].text: row[1].text for row in rows}


@pytest.mark.parametrize("name", SAMPLE_ORDER)
def test_elements_stand_in_the_order_of_the_samples(name: str) -> None:
    root = render(build_full_invoice())
    for element in root.iter(f"{{{NAMESPACE}}}{name}"):
        names = [etree.QName(child).localname for child in element]
        shared = [child for child in names if child in SAMPLE_ORDER[name]]
        assert shared == [child for child in SAMPLE_ORDER[name] if child in names]
        assert len(set(names)) == len(names)


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
    assert first["CountryOfOrigin"][0].text == "CN"
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
    def change(data: dict[str, Any]) -> None:
        data["lines"][0]["description"] = text

    (found,) = find_all(render(sample(1, change=change)), f"{LINES}/Description")
    assert found.text == text


def test_filing_and_trip_are_facts_of_the_shipment() -> None:
    def change(data: dict[str, Any]) -> None:
        data["entry"]["filing"] = {"entryNumber": "ABC-1234567-6", "bond": {"type": "8", "suretyCode": "123"}}
        data["entry"]["trip"] = {"number": "T1234", "truck": {"licensePlate": "PLATE1"}, "trailers": [], "crew": []}

    facts = read_facts(find_all(render(sample(1, change=change)), "Shipment")[0])
    assert (facts["EntryNumber"], facts["BondType"], facts["SuretyCode"]) == ("ABC-1234567-6", "8", "123")
    assert (facts["TripNumber"], facts["TruckLicensePlate"]) == ("T1234", "PLATE1")


def test_facts_without_an_element_are_facts_of_shipment_and_line() -> None:
    def change(data: dict[str, Any]) -> None:
        file_entry(data)
        data["invoice"] |= {
            "usmcaStatement": "They originate.",
            "valuationBasis": "Transaction value",
            "assists": "declared",
        }
        data["invoice"]["assistItems"] = [{"name": "Mould", "amount": "450.00"}]
        data["invoice"]["rebates"] = [{"name": "Drawback", "amount": "3.10"}]
        line = data["lines"][0]
        line["attributes"] = {"adCvdCase": "A-122-857"}
        line["chapter98"] = {
            "provision": "9801.00.10",
            "exemptValue": "300.00",
            "dutiableValue": "0",
            "proof": "Form 3311",
        }
        line["chapter98"]["exportedOn"] = "2026-06-15"

    root = render(build_truck_invoice(change))
    header = read_facts(find_all(root, "Shipment")[0])
    assert {
        "UsmcaStatement": "They originate.", "ValuationBasis": "Transaction value", "Assists": "declared",
        "Assist1": "Mould=450.00", "Rebate1": "Drawback=3.10", "PaymentTerms": "Net 30 days", "SaleDate": "2026-11-20",
        "ReasonForExport": "sale", "Charge1Code": "freight", "SellerIdentifier.businessNumber": "123456789RM0001",
        "UltimateConsignee1Name": "Lakeside Kitchen Supply Inc.", "UltimateConsignee1City": "Rochester",
        "UltimateConsignee1Lines": "1", "SuretyCode": "036",
    }.items() <= header.items()  # fmt: skip
    assert header["ExportDeclaration"]
    assert header["Seals"]
    facts = read_facts(find_all(root, LINES)[0])
    assert {
        "Attribute.adCvdCase": "A-122-857", "Chapter98Proof": "Form 3311", "Chapter98ExportedOn": "2026-06-15",
        "AdditionalTariff2.Program": "S232_METALS", "AdditionalTariff2.RatePercent": "25", "SteelUsPercent": "0",
        "ManufacturerCity": "Toronto", "UnitPrice": "25.00",
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
