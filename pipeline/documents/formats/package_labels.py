"""The labels of packages that have an SSCC, one 4 by 6 inch page each, with the SSCC as a GS1-128 barcode."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.documents.formats.barcode import sscc_bars
from pipeline.documents.formats.consignees import describe_place, find_package_consignees
from pipeline.documents.pdf.typesetter import ENGINE, TypstTemplate, plan_parts, typeset
from pipeline.documents.schemas.entry_filing import EntryConsignee
from pipeline.documents.schemas.invoice import FOR_PEOPLE, Invoice, PackageRow

VERSION = f"4/{ENGINE}"

#: The size of a label in addition to its wording, in characters.
LABEL_CHARACTERS = 1_000

#: The most contents that a label names; of more it gives the number, and the packing list names them.
MAX_CONTENTS = 4

_PARTY = {"name", "address_lines"}
_PRINTED: dict[str, Any] = {
    "test": True,
    "header": {"number", "purchase_order"},
    "transport": {"carrier_scac", "shipment_control_number"},
    "provenance": {"package_number", "treatment_digest"},
    "parties": {"seller": _PARTY, "ship_to": _PARTY},
    "package_summary": {"count"},
    "packages": {
        "__all__": {
            "number", "package_ref", "type", "sscc", "parent_number", "size_shown", "gross_weight_kg", "tracking_number",
            "order_id", "contents",
        }
    },
}  # fmt: skip


def has_labels(invoice: Invoice) -> bool:
    """Return whether any package of the invoice has an SSCC."""
    return any(package.sscc for package in invoice.packages)


def package_labels(invoice: Invoice) -> bytes:
    """Return the PDF."""
    # Packages around or in it, which may have no label, can decide for whom a package is.
    remarks = partial(_remarks, find_package_consignees(invoice))
    labelled = invoice.model_copy(update={"packages": tuple(_labelled(invoice))})
    template = TypstTemplate("package_labels.typ", _facts, remarks)
    return typeset(labelled, template, plan_parts(map(_size, labelled.packages)))


def _labelled(invoice: Invoice) -> list[PackageRow]:
    return [package for package in invoice.packages if package.sscc]


def _size(package: PackageRow) -> int:
    return LABEL_CHARACTERS + sum(len(line.description) for line in package.contents[:MAX_CONTENTS])


def _facts(invoice: Invoice, cut: slice) -> bytes:
    shown = [
        package if len(package.contents) <= MAX_CONTENTS else package.model_copy(update={"contents": ()})
        for package in invoice.packages[cut]
    ]
    some = invoice.model_copy(update={"packages": tuple(shown)})
    return some.model_dump_json(include=_PRINTED, context=FOR_PEOPLE).encode()


def _remarks(consignees: Mapping[int, EntryConsignee], invoice: Invoice, cut: slice) -> dict[str, Any]:
    some = invoice.packages[cut]
    return {
        "bars": {package.sscc: sscc_bars(package.sscc) for package in some if package.sscc},
        "ship_for": {
            str(package.number): describe_place(consignees[package.number])
            for package in some
            if package.number in consignees
        },
        "many": {
            str(package.number): len(package.contents) for package in some if len(package.contents) > MAX_CONTENTS
        },
    }
