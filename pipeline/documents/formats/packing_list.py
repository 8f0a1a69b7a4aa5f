"""The packing list as a printed page, US Letter; it shows the facts of the packing list and no others."""

from __future__ import annotations

from typing import Any

from pipeline.documents.formats.packing_list_folded import SHOWN
from pipeline.documents.pdf.typesetter import ENGINE, Template, cuts, typeset
from pipeline.documents.schemas.invoice import FOR_PEOPLE, Invoice, PackageRow

VERSION = f"5/{ENGINE}"

#: What a package takes besides its contents, and what each of those takes, in characters.
PACKAGE_CHARACTERS, CONTENT_CHARACTERS = 250, 100

_PARTY = {"name", "address_lines", "contact_lines"}
_PRINTED: dict[str, Any] = {
    **{name: shown for name, shown in SHOWN.items() if name != "lines"},
    "parties": {"seller": _PARTY, "buyer": _PARTY, "ship_to": _PARTY},
    "package_summary": {*SHOWN["package_summary"], "shown"},
    "packages": {"__all__": {*SHOWN["packages"]["__all__"], "mark", "size_shown"}},
}


def packing_list_pdf(invoice: Invoice) -> bytes:
    """Return the PDF."""
    return typeset(invoice, TEMPLATE, cuts(map(_size, invoice.packages)))


def _size(package: PackageRow) -> int:
    return PACKAGE_CHARACTERS + sum(CONTENT_CHARACTERS + len(line.description) for line in package.contents)


def _facts(invoice: Invoice, cut: slice) -> bytes:
    some = invoice.model_copy(update={"packages": invoice.packages[cut]})
    return some.model_dump_json(include=_PRINTED, context=FOR_PEOPLE).encode()


def _remarks(_invoice: Invoice, _cut: slice) -> dict[str, Any]:
    return {}


TEMPLATE = Template("packing_list.typ", _facts, _remarks)
