"""The packing list as JSON, and as a printed page in US Letter with the same facts."""

from typing import Any

from pipeline.documents.formats.barcode import sscc_bars
from pipeline.documents.invoice.code_wording import format_packed_unit
from pipeline.documents.pdf.typesetter import ENGINE, TypstTemplate, plan_parts, typeset
from pipeline.documents.schemas.invoice import FOR_PEOPLE, Invoice, PackageRow, UnitTotal

JSON_VERSION = "1"

_PARTY = {"name", "address", "contact"}
_PACKAGE = {
    "number", "package_ref", "type", "sscc", "lpn", "parent_ref", "parent_number", "depth", "length_cm", "width_cm",
    "height_cm", "gross_weight_kg", "tare_weight_kg", "tracking_number", "order_id", "contents",
}  # fmt: skip

#: The facts of the invoice that a packing list shows.
SHOWN: dict[str, Any] = {
    "schema_version": True,
    "test": True,
    "provenance": True,
    "header": {"number", "invoice_date", "purchase_order"},
    "transport": {"mode_of_transport", "carrier_scac", "shipment_control_number", "export_date"},
    "parties": {"seller": _PARTY, "buyer": _PARTY, "ship_to": _PARTY},
    "lines": {
        "__all__": {
            "number", "line_ref", "order_id", "sku", "description", "quantity", "unit", "net_weight_kg",
            "gross_weight_kg", "treatment_digest", "package_refs",
        }
    },
    "totals": {"line_count", "quantities", "net_weight_kg", "gross_weight_kg"},
    "package_summary": {"count", "outermost_count", "by_type", "gross_weight_kg", "volume_m3"},
    "packages": {"__all__": _PACKAGE},
}  # fmt: skip


def packing_list(invoice: Invoice) -> bytes:
    """Return the packing list as UTF-8 JSON in camelCase."""
    return invoice.model_dump_json(by_alias=True, include=SHOWN, indent=1).encode() + b"\n"


PDF_VERSION = f"12/{ENGINE}"

#: The size of a package without its contents, of its barcode, and of each of its contents, in characters.
PACKAGE_CHARACTERS, BARCODE_CHARACTERS, CONTENT_CHARACTERS = 250, 400, 100

_PRINTED_PARTY = {"name", "address_lines", "contact_lines"}
_PRINTED: dict[str, Any] = {
    **{name: shown for name, shown in SHOWN.items() if name != "lines"},
    "parties": {"seller": _PRINTED_PARTY, "buyer": _PRINTED_PARTY, "ship_to": _PRINTED_PARTY},
    "package_summary": {*SHOWN["package_summary"], "shown"},
    "packages": {"__all__": {*SHOWN["packages"]["__all__"], "mark", "size_shown"}},
}


def packing_list_pdf(invoice: Invoice) -> bytes:
    """Return the PDF."""
    return typeset(invoice, TEMPLATE, plan_parts(map(_size, invoice.packages)))


def _size(package: PackageRow) -> int:
    size = PACKAGE_CHARACTERS + (BARCODE_CHARACTERS if package.sscc else 0)
    return size + sum(CONTENT_CHARACTERS + len(line.description) for line in package.contents)


def _facts(invoice: Invoice, cut: slice) -> bytes:
    totals = invoice.totals.model_copy(update={"quantities": tuple(map(_name_unit, invoice.totals.quantities))})
    some = invoice.model_copy(update={"packages": invoice.packages[cut], "totals": totals})
    return some.model_dump_json(include=_PRINTED, context=FOR_PEOPLE).encode()


def _name_unit(total: UnitTotal) -> UnitTotal:
    return total.model_copy(update={"unit": format_packed_unit(total.unit).shown})


def _remarks(invoice: Invoice, cut: slice) -> dict[str, Any]:
    return {"bars": {package.sscc: sscc_bars(package.sscc) for package in invoice.packages[cut] if package.sscc}}


TEMPLATE = TypstTemplate("packing_list.typ", _facts, _remarks, letterhead=True)
