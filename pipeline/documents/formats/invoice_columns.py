"""The facts of an invoice that are equal for all its lines, as columns."""

from typing import Final

from pipeline.core.money import sum_exact
from pipeline.documents.formats.cells import Columns
from pipeline.documents.schemas.invoice import Invoice

#: The columns that prove to which invoice a row belongs.
RECORD_COLUMNS: Final[Columns[Invoice]] = {
    "invoice_no": lambda invoice: invoice.header.number,
    "invoice_date": lambda invoice: invoice.header.invoice_date,
    "related_party": lambda invoice: "Y" if invoice.header.related_parties else "N",
    "po_no": lambda invoice: invoice.header.purchase_order,
    "export_treatment_digest": lambda invoice: invoice.provenance.treatment_digest,
    "batch_id": lambda invoice: invoice.provenance.batch_id,
    "package_no": lambda invoice: invoice.provenance.package_number,
    "revision": lambda invoice: invoice.provenance.revision,
    "plan_hash": lambda invoice: invoice.provenance.plan_hash,
    "test": lambda invoice: "Y" if invoice.test else "N",
}

#: The other columns, in the order in which messages name them.
INVOICE_COLUMNS: Final[Columns[Invoice]] = {
    "unit_ref": lambda invoice: invoice.provenance.unit_ref,
    "entry_type": lambda invoice: invoice.transport.entry_type.exact,
    "entry_part": lambda invoice: invoice.transport.entry_part,
    "entry_parts": lambda invoice: invoice.transport.entry_parts,
    "port_of_entry": lambda invoice: invoice.transport.port_of_entry,
    "mode_of_transport": lambda invoice: invoice.transport.mode_of_transport.exact,
    "mode_code": lambda invoice: None if invoice.estimate is None else invoice.estimate.mode_code,
    "carrier_scac": lambda invoice: invoice.transport.carrier_scac,
    "shipment_control_number": lambda invoice: invoice.transport.shipment_control_number,
    "export_date": lambda invoice: invoice.transport.export_date,
    "manifest_quantity": lambda invoice: invoice.transport.manifest_quantity,
    "incoterm": lambda invoice: invoice.header.incoterm,
    "incoterm_place": lambda invoice: invoice.header.incoterm_place,
    "sale_date": lambda invoice: invoice.header.sale_date,
    "sale_place": lambda invoice: invoice.header.sale_place,
    "reason_for_export": lambda invoice: invoice.header.reason_for_export.exact,
    "payment_terms": lambda invoice: invoice.header.payment_terms,
    "valuation_basis": lambda invoice: invoice.header.valuation_basis,
    "usmca_statement": lambda invoice: invoice.header.usmca_statement,
    "assists": lambda invoice: invoice.header.assists.exact,
    "importer_number": lambda invoice: invoice.parties.importer_of_record.importer_number.exact,
    "declarant_name": lambda invoice: invoice.declaration.name,
    "declarant_email": lambda invoice: invoice.declaration.email,
    "declarant_phone": lambda invoice: invoice.declaration.phone,
    "goods_value": lambda invoice: invoice.totals.goods_value.exact,
    "charges_added": lambda invoice: sum_exact(
        row.amount.decimal for row in invoice.charges if not row.included_in_prices
    ),
    "discounts": lambda invoice: sum_exact(row.amount.decimal for row in invoice.discounts),
    "rebates": lambda invoice: sum_exact(row.amount.decimal for row in invoice.rebates),
    "invoice_total": lambda invoice: invoice.totals.invoice_total.exact,
    "package_count": lambda invoice: invoice.package_summary.manifest_count,
    "total_gross_kg": lambda invoice: invoice.totals.gross_weight_kg.exact,
    "total_net_kg": lambda invoice: invoice.totals.net_weight_kg.exact,
}
