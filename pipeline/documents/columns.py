"""The flat table of the invoice, one row a line: the columns that CSV and XLSX share, for a broker's import mapper."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal

from pipeline.documents.treatment_columns import agency_columns, chapter99_columns, joined, metal_columns
from pipeline.schemas.invoice import Invoice, Printed

Cell = str | Decimal | int | None

#: A spreadsheet cell holds 32,767 characters; a list that does not fit refers to the packing list instead.
LONGEST_LIST = 32_000

# A spreadsheet takes text that begins with one of these, full-width forms included, for a formula.
_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def rows(invoice: Invoice) -> Iterator[dict[str, Cell]]:
    """Yield the row of each line: column name to value, the same columns in the same order every time.

    Several values of one column (metals, agencies, packages) are joined by `|`, in the same order in each column.
    """
    makers = {maker.ref: maker for maker in invoice.parties.manufacturers}
    ssccs = {package.package_ref: package.sscc for package in invoice.packages}
    header, provenance = invoice.header, invoice.provenance
    for line in invoice.lines:
        maker = makers[line.manufacturer_ref]
        treatment = line.treatment
        yield {
            "invoice_no": header.number,
            "invoice_date": header.invoice_date.isoformat(),
            "line_no": line.number,
            "line_ref": line.line_ref,
            "order_id": line.order_id,
            "sku": line.sku,
            "description": line.description,
            "hts10": _exact(line.hts_code),
            **chapter99_columns(treatment.chapter99),
            "spi": line.spi,
            "origin": line.country_of_origin,
            "export_country": line.country_of_export,
            "mid": line.mid,
            "manufacturer_name": maker.name,
            "manufacturer_addr1": maker.address.line1,
            "manufacturer_addr2": maker.address.line2,
            "manufacturer_city": maker.address.city,
            "manufacturer_state": maker.address.region,
            "manufacturer_zip": maker.address.postal_code,
            "manufacturer_country": maker.address.country,
            "qty": _exact(line.quantity),
            "uom": line.unit,
            "unit_price": _exact(line.unit_price),
            "line_value": _exact(line.line_value),
            "currency": header.currency,
            "fx_rate": None if header.exchange_rate is None else _exact(header.exchange_rate),
            "gross_kg": _exact(line.gross_weight_kg),
            "net_kg": _exact(line.net_weight_kg),
            **metal_columns(treatment.section232),
            **agency_columns(treatment.pga),
            "treatment_undetermined": treatment.undetermined,
            "attributes": joined(f"{pair.name}={pair.value}" for pair in line.attributes),
            "related_party": "Y" if header.related_parties else "N",
            "po_no": header.purchase_order,
            "package_ids": _listed(line.package_refs),
            "sscc_list": _listed(sscc for ref in line.package_refs if (sscc := ssccs[ref])),
            "usmca_criterion": line.usmca_criterion,
            "usmca_cert_ref": line.usmca_certificate_ref,
            "treatment_digest": line.treatment_digest,
            "export_treatment_digest": provenance.treatment_digest,
            "batch_id": provenance.batch_id,
            "package_no": provenance.package_number,
            "revision": provenance.revision,
            "plan_hash": provenance.plan_hash,
            "test": "Y" if invoice.test else "N",
        }


def defused(text: str) -> str:
    """Return `text` with an apostrophe before it where a spreadsheet would take it for a formula.

    Text that has apostrophes before such a sign already gets one more, so that `undefused` gives every text back.
    """
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA_SIGNS) else text


def undefused(text: str) -> str:
    """Return the text that `defused` made a cell of."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(_FORMULA_SIGNS) else text


def _exact(value: Printed) -> str | Decimal:
    return value.exact


def _listed(values: Iterable[str]) -> str | None:
    text = "|".join(values)
    return text or None if len(text) <= LONGEST_LIST else "see packing list"
