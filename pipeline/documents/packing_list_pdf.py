"""The packing list as a printed page, US Letter; it shows the facts of the packing list and no others."""

from __future__ import annotations

from typing import Any

from pipeline.documents.packing_list import SHOWN
from pipeline.documents.typeset import ENGINE, Template, typeset
from pipeline.schemas.invoice import FOR_PEOPLE, Invoice

VERSION = f"1/{ENGINE}"

#: Packages, and lines within them, of one compiled part: what keeps the engine below its memory limit.
ROWS_PER_PART = 500

_PARTY = {"name", "address_lines", "contact_lines"}
_PRINTED: dict[str, Any] = {
    **{name: shown for name, shown in SHOWN.items() if name != "lines"},
    "parties": {"seller": _PARTY, "buyer": _PARTY, "ship_to": _PARTY},
    "package_summary": {*SHOWN["package_summary"], "shown"},
    "packages": {"__all__": {*SHOWN["packages"]["__all__"], "mark", "size_shown"}},
}


def packing_list_pdf(invoice: Invoice) -> bytes:
    """Return the PDF."""
    return typeset(invoice, TEMPLATE, _cuts(invoice))


def _cuts(invoice: Invoice) -> list[slice]:
    cuts: list[slice] = []
    start = rows = 0
    for at, package in enumerate(invoice.packages):
        height = 1 + len(package.contents)
        if rows and rows + height > ROWS_PER_PART:
            cuts.append(slice(start, at))
            start, rows = at, 0
        rows += height
    return [*cuts, slice(start, len(invoice.packages))]


def _facts(invoice: Invoice, cut: slice) -> bytes:
    some = invoice.model_copy(update={"packages": invoice.packages[cut]})
    return some.model_dump_json(include=_PRINTED, context=FOR_PEOPLE).encode()


def _extra(invoice: Invoice, cut: slice) -> dict[str, Any]:
    return {}


TEMPLATE = Template("packing_list.typ", _facts, _extra)
