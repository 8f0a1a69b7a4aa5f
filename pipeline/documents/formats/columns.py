"""The columns of an invoice line and of an entry line: each is one name with its getter."""

from collections.abc import Iterator
from typing import Final

from pipeline.core.money import multiply, round_amount
from pipeline.documents.formats.cells import Cell, Columns, choose, join_list, join_values, of_part, read_columns
from pipeline.documents.formats.facts import FactsOfEntry, FactsOfLine, list_entry_facts, list_line_facts
from pipeline.documents.formats.invoice_columns import RECORD_COLUMNS
from pipeline.documents.formats.line_declarations import DECLARATIONS, read_attribute
from pipeline.documents.formats.treatment_columns import AGENCIES, AGENCY_DATA, FIRST_HEADINGS, HEADINGS, METALS
from pipeline.documents.schemas.declarations import Chapter98Claim
from pipeline.documents.schemas.invoice import Invoice, InvoiceLine, Printed
from pipeline.exports.line_declarations import CASES
from pipeline.exports.schemas.plan import Treatment

Facts = FactsOfLine | FactsOfEntry


def _treatment(columns: Columns[Treatment]) -> Columns[Facts]:
    return of_part(lambda row: row.goods.treatment, columns)


def _record(*names: str) -> Columns[Facts]:
    return of_part(lambda row: row.invoice, choose(RECORD_COLUMNS, *names))


def _in_usd(row: FactsOfLine) -> Cell:
    # Converted at the plan's rate, US dollars per unit of the invoice's currency; without a rate the broker converts.
    header, value = row.invoice.header, row.line.line_value
    if header.currency == "USD":
        return value.exact
    if header.exchange_rate is None:
        return None
    return round_amount(multiply(value.decimal, header.exchange_rate.decimal), "USD")


def _datum(line: InvoiceLine, agency: str, name: str) -> str | None:
    values = [row.data.get(name) for row in line.treatment.pga if row.agency == agency]
    return join_values(value if isinstance(value, str) else ", ".join(value) for value in values if value)


_CLAIM: Final[Columns[Chapter98Claim]] = {
    "ch98": lambda claim: claim.provision,
    "ch98_exempt_value": lambda claim: claim.exempt_value.exact,
    "ch98_dutiable_value": lambda claim: claim.dutiable_value.exact,
    "ch98_exported_on": lambda claim: claim.exported_on,
    "ch98_proof": lambda claim: claim.proof,
}


def _quantity(place: int, value: str, unit: str) -> Columns[Facts]:
    def find(row: Facts) -> tuple[Printed, str] | None:
        # Without entry quantities, the quantity of the line is the only one.
        given = row.goods.entry_quantities or (row.goods,)
        return (given[place].quantity, given[place].unit) if place < len(given) else None

    return of_part(find, {value: lambda each: each[0].exact, unit: lambda each: each[1]})


#: What an invoice line and an entry line have in columns of the same names.
_CLAIMED: Final[Columns[Facts]] = of_part(lambda row: row.goods.chapter98, _CLAIM)
_ENTERED: Final[Columns[Facts]] = {
    **_quantity(0, "entry_qty", "entry_uom"),
    **_quantity(1, "qty2", "uom2"),
    **_quantity(2, "qty3", "uom3"),
}
_SHARED: Final[Columns[Facts]] = {
    "hts10": lambda row: row.goods.hts_code.exact,
    "spi": lambda row: row.goods.spi,
    "usmca_cert_ref": lambda row: row.goods.usmca_certificate_ref,
    "origin": lambda row: row.goods.country_of_origin,
    "export_country": lambda row: row.goods.country_of_export,
    "mid": lambda row: row.goods.mid,
    "manufacturer_name": lambda row: row.goods.manufacturer_name,
    "qty": lambda row: row.goods.quantity.exact,
    "uom": lambda row: row.goods.unit,
    "gross_kg": lambda row: row.goods.gross_weight_kg.exact,
    "net_kg": lambda row: row.goods.net_weight_kg.exact,
    "currency": lambda row: row.invoice.header.currency,
    "ad_cvd_case": lambda row: read_attribute(row.line, CASES),
}

#: The columns of the flat table: first those that an import mapper needs, empty if the plan has no such fact, then those
#: that prove the origin of the row. `|` joins several values of one column, in the same order in each column.
LINE_COLUMNS: Final[Columns[FactsOfLine]] = {
    **_record("invoice_no", "invoice_date"),
    "line_no": lambda row: row.line.number,
    "sku": lambda row: row.line.sku,
    "description": lambda row: row.line.description,
    **choose(_SHARED, "hts10"),
    **_treatment(FIRST_HEADINGS),
    **_CLAIMED,
    **choose(_SHARED, "spi", "origin", "export_country", "mid", "manufacturer_name"),
    "manufacturer_addr1": lambda row: row.maker.address.line1,
    "manufacturer_city": lambda row: row.maker.address.city,
    "manufacturer_state": lambda row: row.maker.address.region,
    "manufacturer_zip": lambda row: row.maker.address.postal_code,
    "manufacturer_country": lambda row: row.maker.address.country,
    **choose(_SHARED, "qty", "uom"),
    **_ENTERED,
    "unit_price": lambda row: row.line.unit_price.exact,
    "line_value": lambda row: row.line.line_value.exact,
    **choose(_SHARED, "currency"),
    "fx_rate": lambda row: None if (rate := row.invoice.header.exchange_rate) is None else rate.exact,
    "line_value_usd": _in_usd,
    # Charges belong to the invoice: distributing them over its lines would invent a fact.
    "charges_usd": lambda _: None,
    **choose(_SHARED, "gross_kg", "net_kg"),
    **_treatment({**METALS, **AGENCIES}),
    "pga_data_ref": lambda row: f"pga_worksheet line {row.line.number}" if row.line.treatment.pga else None,
    **_record("related_party", "po_no"),
    "package_ids": lambda row: join_list(row.line.package_refs),
    "sscc_list": lambda row: join_list(sscc for ref in row.line.package_refs if (sscc := row.ssccs[ref])),
    "usmca_criterion": lambda row: row.line.usmca_criterion,
    **choose(_SHARED, "usmca_cert_ref"),
    "fda_product_code": lambda row: _datum(row.line, "FDA", "fdaProductCode"),
    "fcc_id": lambda row: read_attribute(row.line, "fccId"),
    "cpsc_product_id": lambda row: _datum(row.line, "CPS", "productId"),
    "cpsc_version": lambda row: _datum(row.line, "CPS", "versionId"),
    **choose(_SHARED, "ad_cvd_case"),
    "notes": lambda row: " / ".join(row.notes) or None,
    "line_ref": lambda row: row.line.line_ref,
    "order_id": lambda row: row.line.order_id,
    "manufacturer_addr2": lambda row: row.maker.address.line2,
    **_treatment({**HEADINGS, **AGENCY_DATA}),
    "treatment_undetermined": lambda row: row.line.treatment.undetermined,
    "attributes": lambda row: join_values(f"{pair.name}={pair.value}" for pair in row.line.attributes),
    "treatment_digest": lambda row: row.line.treatment_digest,
    **_record("export_treatment_digest", "batch_id", "package_no", "revision", "plan_hash", "test"),
    "entry_line": lambda row: row.entry_line,
}

#: The columns of an entry line: what is equal in its invoice lines, and the sums of the rest.
ENTRY_COLUMNS: Final[Columns[FactsOfEntry]] = {
    "entry_line": lambda row: row.goods.number,
    "invoice_lines": lambda row: "|".join(map(str, row.goods.line_numbers)),
    "description": lambda row: join_values(row.goods.descriptions),
    **choose(_SHARED, "hts10"),
    **_treatment({**FIRST_HEADINGS, **HEADINGS}),
    **_CLAIMED,
    **choose(_SHARED, "spi", "usmca_cert_ref", "origin", "export_country", "mid", "manufacturer_name", "qty", "uom"),
    **_ENTERED,
    **choose(_SHARED, "gross_kg", "net_kg"),
    "line_value": lambda row: row.entry.value,
    **choose(_SHARED, "currency"),
    "adjustment": lambda row: row.entry.adjustment,
    "dutiable_value": lambda row: row.entry.dutiable_value,
    "fx_rate": lambda row: row.estimate.exchange_rate,
    "dutiable_value_usd": lambda row: row.entry.dutiable_value_usd,
    "entered_value_usd": lambda row: row.entry.entered_value_usd,
    "charges_usd": lambda row: row.entry.charges_usd,
    **_treatment({**METALS, **AGENCIES, **AGENCY_DATA}),
    **choose(_SHARED, "ad_cvd_case"),
    **{name: get for each in DECLARATIONS for name, get in each.columns.items()},
    "treatment_digests": lambda row: "|".join(row.goods.treatment_digests),
}


def list_line_rows(invoice: Invoice) -> Iterator[dict[str, Cell]]:
    """Yield the row of each invoice line as column name to value."""
    return (read_columns(LINE_COLUMNS, row) for row in list_line_facts(invoice))


def list_entry_rows(invoice: Invoice) -> Iterator[dict[str, Cell]]:
    """Yield the row of each entry line as column name to value; raises ValueError if the invoice has no estimate."""
    return (read_columns(ENTRY_COLUMNS, row) for row in list_entry_facts(invoice))
