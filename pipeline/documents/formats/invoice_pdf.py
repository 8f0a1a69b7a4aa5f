"""The commercial invoice as a printed page: US Letter, PDF/A-3b with the invoice's JSON attached.

A pro forma invoice is the same page with its own title, without JSON, and with what its plan still misses.
"""

from dataclasses import replace
from typing import Any

from pipeline.documents.formats.invoice import has_summary, invoice_json
from pipeline.documents.pdf.typesetter import ENGINE, TypstTemplate, plan_parts, typeset
from pipeline.documents.schemas.invoice import FOR_PEOPLE, Invoice, InvoiceLine

VERSION = f"15/{ENGINE}"

#: The size of a line in addition to its wording, in characters.
LINE_CHARACTERS = 500

#: A line with more characters than this may break across pages; a shorter line is kept together.
BREAKABLE_CHARACTERS = 1_500

#: The longest summary by classification that is printed; a longer one would not help a reader.
MAX_CLASSIFICATIONS = 100

#: The most findings that a pro forma invoice lists; of more it gives the number.
MAX_FINDINGS = 60

#: The most manufacturers that are listed. Of more, only the lines name them; the attached data has their addresses.
MAX_MANUFACTURERS = 400

_UNPRINTED_CERTIFICATE_FIELDS = {"certifier_address", "certifier_contact", "exporter", "producer", "importer", "goods"}
_UNPRINTED: dict[str, Any] = {
    "packages": True,
    "metals": True,
    "metal_totals": True,
    "findings": True,
    "consolidation": {"lines": {"__all__": {"treatment", "treatment_digests", "line_refs", "line_numbers"}}},
    "certificates": {"__all__": _UNPRINTED_CERTIFICATE_FIELDS},
    "lines": {"__all__": {"treatment", "package_refs", "attributes"}},
    "parties": {"manufacturers": {"__all__": {"address"}}, "ultimate_consignees": True},
}
_UNPRINTED_IN_PROFORMA = {name: parts for name, parts in _UNPRINTED.items() if name != "findings"}


def invoice_pdf(invoice: Invoice) -> bytes:
    """Return the PDF."""
    template = TEMPLATE if invoice.kind == "commercial" else _PROFORMA_TEMPLATE
    return typeset(invoice, template, plan_parts(LINE_CHARACTERS + _wording_characters(line) for line in invoice.lines))


def _facts(invoice: Invoice, cut: slice) -> bytes:
    some = invoice.model_copy(update={"lines": invoice.lines[cut]})
    if cut.stop is not None and cut.stop < len(invoice.lines):
        # The summaries are on the last page, so earlier parts are set without them.
        some = some.model_copy(update={"classifications": (), "consolidation": None})
    if invoice.kind == "commercial":
        return some.model_dump_json(exclude=_UNPRINTED, context=FOR_PEOPLE).encode()
    some = some.model_copy(update={"findings": invoice.findings[:MAX_FINDINGS]})
    return some.model_dump_json(exclude=_UNPRINTED_IN_PROFORMA, context=FOR_PEOPLE).encode()


def _remarks(invoice: Invoice, cut: slice) -> dict[str, Any]:
    merged = invoice.consolidation
    return {
        "tall": [line.number for line in invoice.lines[cut] if _wording_characters(line) > BREAKABLE_CHARACTERS],
        "merged": merged is not None and merged.merged_line_count <= MAX_CLASSIFICATIONS,
        "makers": _lists_makers(invoice),
        "more_findings": max(0, len(invoice.findings) - MAX_FINDINGS),
        "summary": has_summary(invoice) and len(invoice.classifications) <= MAX_CLASSIFICATIONS,
    }


def _lists_makers(invoice: Invoice) -> bool:
    # A manufacturer that is also the seller, at the same address, is already at the head of the invoice.
    seller, makers = invoice.parties.seller, invoice.parties.manufacturers
    others = [maker for maker in makers if (maker.name, maker.address) != (seller.name, seller.address)]
    return bool(others) and len(makers) <= MAX_MANUFACTURERS


def _wording_characters(line: InvoiceLine) -> int:
    words = [line.packages_shown, line.description, *(pair.value for pair in line.attributes)]
    return sum(map(len, words)) + sum(len(mark.code) + len(mark.text) for mark in line.marks)


TEMPLATE = TypstTemplate("commercial_customs_invoice.typ", _facts, _remarks, invoice_json, letterhead=True)
# No program may read a pro forma invoice for the commercial one.
_PROFORMA_TEMPLATE = replace(TEMPLATE, attachment=None)
