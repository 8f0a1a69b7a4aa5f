"""What one row of a table has: an invoice line or an entry line, with all that its columns read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pipeline.documents.schemas.declarations import MergedLine
from pipeline.documents.schemas.invoice import Invoice, InvoiceLine, ManufacturerBlock
from pipeline.exports.schemas.entry_estimate import EntryEstimate, EntryLine


class FactsOfLine(NamedTuple):
    """An invoice line; `goods` is the line itself."""

    invoice: Invoice
    line: InvoiceLine
    goods: InvoiceLine
    maker: ManufacturerBlock
    ssccs: Mapping[str, str | None]
    notes: Sequence[str]
    entry_line: int


class FactsOfEntry(NamedTuple):
    """An entry line with its estimate; `goods` has the sums of its invoice lines, and `line` is the first of them.

    Merged lines have equal attributes, apart from the number of the order.
    """

    invoice: Invoice
    line: InvoiceLine
    goods: MergedLine
    entry: EntryLine
    estimate: EntryEstimate


def list_line_facts(invoice: Invoice) -> Iterator[FactsOfLine]:
    """Yield the invoice lines in their order."""
    makers = {maker.ref: maker for maker in invoice.parties.manufacturers}
    ssccs = {package.package_ref: package.sscc for package in invoice.packages}
    notes: dict[int, list[str]] = {}
    for finding in invoice.findings:
        if finding.line_number is not None:
            notes.setdefault(finding.line_number, []).append(f"{finding.rule} {finding.severity}: {finding.message}")
    numbers = invoice.entry_line_numbers
    for line in invoice.lines:
        maker, noted = makers[line.manufacturer_ref], notes.get(line.number, ())
        yield FactsOfLine(invoice, line, line, maker, ssccs, noted, numbers[line.number])


def has_estimate(invoice: Invoice) -> bool:
    """Return whether the invoice has an estimate of its entry."""
    return invoice.estimate is not None


def find_estimate(invoice: Invoice) -> EntryEstimate:
    """Return the estimate of the invoice; raises ValueError if it has none."""
    if invoice.estimate is None:
        raise ValueError("the entry's documents need an invoice with an estimate; this one has none")
    return invoice.estimate


def list_entry_facts(invoice: Invoice) -> Iterator[FactsOfEntry]:
    """Yield the entry lines in their order; raises ValueError if the invoice has no estimate."""
    estimate = find_estimate(invoice)
    for merged, entry in zip(invoice.entry_lines, estimate.lines, strict=True):
        yield FactsOfEntry(invoice, invoice.lines[merged.line_numbers[0] - 1], merged, entry, estimate)
