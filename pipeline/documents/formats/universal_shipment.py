"""The invoice as CargoWise Universal Shipment XML, by the schema of 2019-11; this project is not affiliated."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final
from xml.etree.ElementTree import Element, indent, tostring

from pipeline.documents.formats.cells import Cell, join_values, read_columns
from pipeline.documents.formats.entry_filing import FILING_COLUMNS, party_columns
from pipeline.documents.formats.invoice_columns import INVOICE_COLUMNS
from pipeline.documents.formats.transport import TRANSPORT_COLUMNS
from pipeline.documents.schemas.declarations import UnitTotal
from pipeline.documents.schemas.invoice import Invoice, InvoiceLine, ManufacturerBlock, PartyBlock
from pipeline.documents.schemas.profile import UniversalShipmentSettings
from pipeline.documents.schemas.values import Printed
from pipeline.exports.schemas.plan import Address, Contact

NAMESPACE: Final = "http://www.cargowise.com/Schemas/Universal/2011/11"
_VERSION: Final = "1.1"
_DECLARATION: Final = '<?xml version="1.0" encoding="utf-8"?>\n'

#: The most characters of an element whose text can be longer in a plan.
MOST: Final[Mapping[str, int]] = {
    "InvoiceNumber": 35, "Description": 525, "OrderNumber": 20, "PartNo": 35, "CompanyName": 100,
    "Address1": 50, "Address2": 50, "City": 50, "State": 25, "Postcode": 10, "Phone": 20,
}  # fmt: skip
_MOST_OF_A_VALUE: Final = 1024

#: The codes of modes of transport; a mail item and other modes have none.
_MODES: Final[Mapping[str, str]] = {"truck": "ROA", "rail": "RAI", "air": "AIR", "vessel": "SEA"}

#: The facts of the invoice that have an element, or a key of another name.
_PLACED: Final = frozenset(
    """entry_type port_of_entry carrier_scac shipment_control_number export_date incoterm incoterm_place importer_number
    invoice_total discounts trip_number truck_plate trailers""".split()
)


def universal_shipment(settings: UniversalShipmentSettings, invoice: Invoice) -> bytes:
    """Return the shipment as UTF-8 XML: the invoice with its lines, the parties, and all other facts as AddInfo."""
    root = Element("UniversalShipment", {"xmlns": NAMESPACE, "version": _VERSION})
    shipment = _add(root, "Shipment")
    _add_context(shipment, settings)
    collection = _add(_add(shipment, "CommercialInfo"), "CommercialInvoiceCollection")
    _add_invoice(collection, invoice)
    _add(shipment, "OuterPacks", str(invoice.package_summary.outermost_count))
    _add(shipment, "TotalWeight", _plain(invoice.package_summary.gross_weight_kg))
    _add_code(shipment, "TotalWeightUnit", "KG")
    _add_code(shipment, "TransportMode", _MODES.get(str(invoice.transport.mode_of_transport.exact)))
    _add(shipment, "WayBillNumber", invoice.transport.shipment_control_number)
    _add_info(shipment, _list_header_facts(invoice))
    _add_parties(shipment, settings, invoice)
    indent(root)
    return str(tostring(root, encoding="unicode", xml_declaration=False)).join((_DECLARATION, "\n")).encode()


def _add_context(shipment: Element, settings: UniversalShipmentSettings) -> None:
    context = _add(shipment, "DataContext")
    _add(_add(_add(context, "DataTargetCollection"), "DataTarget"), "Type", settings.target)
    if settings.company_code is not None:
        _add_code(context, "Company", settings.company_code)
    _add(context, "EnterpriseID", settings.enterprise_id)
    _add(context, "ServerID", settings.server_id)


def _add_invoice(collection: Element, invoice: Invoice) -> None:
    header = invoice.header
    made = _add(collection, "CommercialInvoice")
    _add(made, "InvoiceNumber", header.number)
    _add_code(made, "IncoTerm", header.incoterm)
    _add(made, "InvoiceAmount", _plain(invoice.totals.invoice_total))
    _add_code(made, "InvoiceCurrency", header.currency)
    _add(made, "InvoiceDate", f"{header.invoice_date.isoformat()}T00:00:00")
    lines = _add(made, "CommercialInvoiceLineCollection")
    makers = {maker.ref: maker for maker in invoice.parties.manufacturers}
    for line in invoice.lines:
        _add_line(lines, line, makers[line.manufacturer_ref])


def _add_line(lines: Element, line: InvoiceLine, maker: ManufacturerBlock) -> None:
    made = _add(lines, "CommercialInvoiceLine")
    quantities: tuple[UnitTotal | InvoiceLine, ...] = line.entry_quantities or (line,)
    _add(made, "LineNo", str(line.number))
    _add(made, "PrimaryPreference", line.spi)
    _add_code(made, "CountryOfExport", line.country_of_export)
    _add_code(made, "CountryOfOrigin", line.country_of_origin)
    for name, each in zip(
        ("CustomsQuantity", "CustomsSecondQuantity", "CustomsThirdQuantity"), quantities, strict=False
    ):
        _add(made, name, _plain(each.quantity))
        _add_code(made, f"{name}Unit", each.unit)
    _add(made, "Description", line.description)
    _add(made, "HarmonisedCode", str(line.hts_code.exact))
    _add(made, "LinePrice", _plain(line.line_value))
    _add(made, "InvoiceQuantity", _plain(line.quantity))
    _add_code(made, "InvoiceQuantityUnit", line.unit)
    _add(made, "NetWeight", _plain(line.net_weight_kg))
    _add_code(made, "NetWeightUnit", "KG")
    _add(made, "OrderNumber", line.order_id)
    _add(made, "PartNo", line.sku)
    _add(made, "UnitPrice", _plain(line.unit_price))
    _add(made, "Weight", _plain(line.gross_weight_kg))
    _add_code(made, "WeightUnit", "KG")
    _add_info(made, _list_line_facts(line, maker))


def _list_header_facts(invoice: Invoice) -> Iterator[tuple[str, str | None]]:
    header, transport, provenance = invoice.header, invoice.transport, invoice.provenance
    yield "Test", "Y" if invoice.test else None
    yield "EntryType", str(transport.entry_type.exact)
    yield "PortOfEntry", transport.port_of_entry
    yield "CarrierSCAC", transport.carrier_scac
    yield "ExportDate", transport.export_date.isoformat()
    yield (
        "EstimatedArrival",
        None if transport.estimated_arrival_at is None else str(transport.estimated_arrival_at.exact),
    )
    yield "ImporterNumber", str(invoice.parties.importer_of_record.importer_number.exact)
    others = {name: get for name, get in {**INVOICE_COLUMNS, **TRANSPORT_COLUMNS}.items() if name not in _PLACED}
    filed = read_columns(FILING_COLUMNS, invoice)
    yield from _name_facts(filed | _list_truck(invoice) | read_columns(others, invoice))
    yield "RelatedParties", "Y" if header.related_parties else "N"
    yield "IncoTermPlace", header.incoterm_place
    yield "ExchangeRate", None if header.exchange_rate is None else _plain(header.exchange_rate)
    yield "PurchaseOrder", header.purchase_order
    for kind, rows in (("Charge", invoice.charges), ("Discount", invoice.discounts)):
        for at, row in enumerate(rows, 1):
            name = f"{kind}IncludedInPrices" if row.included_in_prices else kind
            yield f"{name}{at}", f"{row.name}={_plain(row.amount)}"
            yield f"{kind}{at}Code", row.code
    for at, rebate in enumerate(invoice.rebates, 1):
        yield f"Rebate{at}", f"{rebate.name}={_plain(rebate.amount)}"
    for at, assist in enumerate(invoice.assist_items, 1):
        yield f"Assist{at}", assist.name if assist.amount is None else f"{assist.name}={_plain(assist.amount)}"
    for at, consignee in enumerate(() if invoice.filing is None else invoice.filing.consignees, 1):
        number = None if consignee.number is None else str(consignee.number.exact)
        yield f"UltimateConsignee{at}Number", number
        yield f"UltimateConsignee{at}Lines", join_values(consignee.line_numbers)
        yield from _name_facts(read_columns(party_columns(f"ultimate_consignee{at}"), consignee))
    for identifier in invoice.parties.seller.identifiers:
        yield f"SellerIdentifier.{identifier.name.exact}", str(identifier.value.exact)
    yield "CustomsPackage", provenance.package_number
    yield "BatchID", provenance.batch_id
    yield "Revision", str(provenance.revision)
    yield "PlanHash", provenance.plan_hash
    yield "TreatmentDigest", provenance.treatment_digest


def _list_truck(invoice: Invoice) -> dict[str, Cell]:
    transport = invoice.transport
    return {
        "trip_number": transport.trip_number,
        "truck_license_plate": transport.truck_license_plate,
        "trailer_numbers": join_values(transport.trailer_numbers),
    }


def _name_facts(columns: Mapping[str, Cell]) -> Iterator[tuple[str, str | None]]:
    """Yield columns as keys: `bond_type` is BondType."""
    for name, value in columns.items():
        key = "".join(part.capitalize() for part in name.split("_"))
        yield key, None if value is None else f"{value:f}" if isinstance(value, Decimal) else str(value)


def _list_line_facts(line: InvoiceLine, maker: ManufacturerBlock) -> Iterator[tuple[str, str | None]]:
    """Yield the facts of a line for which the schema has no element, or one whose codes are not public."""
    yield "ManufacturerID", line.mid
    yield from _name_facts(read_columns(party_columns("manufacturer"), maker))
    yield "USMCACertificate", line.usmca_certificate_ref
    if line.chapter98 is not None:
        yield "Chapter98", line.chapter98.provision
        yield "Chapter98ExemptValue", _plain(line.chapter98.exempt_value)
        yield "Chapter98DutiableValue", _plain(line.chapter98.dutiable_value)
        exported_on = line.chapter98.exported_on
        yield "Chapter98ExportedOn", None if exported_on is None else exported_on.isoformat()
        yield "Chapter98Proof", line.chapter98.proof
    for at, row in enumerate(line.treatment.chapter99, 1):
        yield f"AdditionalTariff{at}", row.heading
        yield f"AdditionalTariff{at}.Program", row.program
        yield f"AdditionalTariff{at}.RatePercent", None if row.rate_percent is None else f"{row.rate_percent:f}"
        yield f"AdditionalTariff{at}.Basis", row.basis
    for metal in line.treatment.section232:
        name = metal.metal.capitalize()
        yield f"{name}WeightKg", f"{metal.metal_weight_kg:f}"
        yield f"{name}MeltAndPour", metal.country_of_melt_and_pour
        yield f"{name}PrimarySmelt", metal.primary_country_of_smelt
        yield f"{name}SecondarySmelt", metal.secondary_country_of_smelt
        yield f"{name}Cast", metal.country_of_cast
        yield f"{name}UsPercent", None if metal.us_metal_percent is None else f"{metal.us_metal_percent:f}"
    for at, agency in enumerate(line.treatment.pga, 1):
        codes = (agency.agency, agency.program, agency.processing, agency.intended_use)
        yield f"PGA{at}", join_values((agency.flag, *codes, agency.disclaimer and f"disclaim {agency.disclaimer}"))
        for name, value in agency.data.items():
            yield f"PGA{at}.{name}", value if isinstance(value, str) else join_values(value)
    for pair in line.attributes:
        yield f"Attribute.{pair.name}", pair.value
    yield "LineRef", line.line_ref
    yield "TreatmentDigest", line.treatment_digest


def _add_parties(shipment: Element, settings: UniversalShipmentSettings, invoice: Invoice) -> None:
    parties = invoice.parties
    collection = _add(shipment, "OrganizationAddressCollection")
    for kind, party in (
        ("SupplierDocumentaryAddress", parties.seller),
        ("ImporterDocumentaryAddress", parties.importer_of_record),
        ("BuyerDocumentaryAddress", parties.buyer),
        ("ConsigneeDocumentaryAddress", parties.ship_to),
    ):
        _add_party(collection, kind, party, settings)


def _add_party(collection: Element, kind: str, party: PartyBlock, settings: UniversalShipmentSettings) -> None:
    made = _add(collection, "OrganizationAddress")
    address: Address | None = party.address
    contact: Contact | None = party.contact
    _add(made, "AddressType", kind)
    _add(made, "OrganizationCode", settings.organization_codes.get(party.name))
    if address is not None:
        _add(made, "Address1", address.line1)
        _add(made, "Address2", address.line2)
        _add(made, "City", address.city)
    _add(made, "CompanyName", party.name)
    if contact is not None:
        _add(made, "Contact", contact.name)
    if address is not None:
        _add_code(made, "Country", address.country)
    if contact is not None:
        _add(made, "Email", contact.email)
        _add(made, "Phone", contact.phone)
    if address is not None:
        _add(made, "Postcode", address.postal_code)
        _add(made, "State", address.region)


def _add_info(parent: Element, facts: Iterator[tuple[str, str | None]]) -> None:
    collection = _add(parent, "AddInfoCollection")
    for key, value in facts:
        for start in range(0, len(value or ""), _MOST_OF_A_VALUE):
            info = _add(collection, "AddInfo")
            _add(info, "Key", key)
            _add(info, "Value", value and value[start : start + _MOST_OF_A_VALUE])


def _add(parent: Element, name: str, text: str | None = "") -> Element:
    """Add an element, and return it; one whose text is None is not added to its parent."""
    made = Element(name)
    made.text = text[: MOST.get(name)] if text else None
    if text is not None:
        parent.append(made)
    return made


def _add_code(parent: Element, name: str, code: str | None) -> None:
    if code is not None:
        _add(_add(parent, name), "Code", code)


def _plain(value: Printed) -> str:
    return f"{value.decimal:f}"
