"""The entry worksheet as a printed page in US Letter: the blocks of CBP Form 7501, and the entry lines with their values.

Each block has its value, or the name of the party that must supply it.
"""

import json
from decimal import Decimal
from functools import partial
from typing import Any, Final

from pipeline.core.money import format_amount, format_plain
from pipeline.documents.formats.entry_blocks import divide_duties, list_blocks
from pipeline.documents.formats.entry_filing import list_consignee_facts
from pipeline.documents.formats.facts import FactsOfEntry, find_estimate, list_entry_facts
from pipeline.documents.formats.line_declarations import DECLARATIONS
from pipeline.documents.pdf.typesetter import ENGINE, TypstTemplate, plan_parts, typeset
from pipeline.documents.schemas.declarations import MergedLine
from pipeline.documents.schemas.invoice import FOR_PEOPLE, Invoice
from pipeline.exports.schemas.entry_estimate import EntryEstimate, EntryLine

VERSION = f"13/{ENGINE}"

#: The size of an entry line in addition to its wording, in characters.
LINE_CHARACTERS, DUTY_CHARACTERS = 300, 90

#: The most characters of the descriptions of merged lines that are printed.
LONGEST_DESCRIPTION: Final = 240

_EFFECTS: Final = {"included": "in the prices", "none": "not counted"}

_PRINTED: dict[str, Any] = {
    "test": True,
    "provenance": True,
    "header": {"number", "invoice_date", "currency"},
    "parties": {"seller": {"name"}},
}


def entry_worksheet(invoice: Invoice) -> bytes:
    """Return the PDF."""
    rows = list(list_entry_facts(invoice))
    template = TypstTemplate("entry_worksheet.typ", partial(_facts, rows), _remarks)
    return typeset(invoice, template, plan_parts(_size(row.goods, row.entry) for row in rows))


def _size(merged: MergedLine, entry: EntryLine) -> int:
    return LINE_CHARACTERS + len(_describe(merged)) + DUTY_CHARACTERS * len(entry.duties)


def _describe(merged: MergedLine) -> str:
    text = "; ".join(merged.descriptions)
    return text if len(text) <= LONGEST_DESCRIPTION else f"{text[:LONGEST_DESCRIPTION]}…"


def _facts(rows: list[FactsOfEntry], invoice: Invoice, cut: slice) -> bytes:
    facts = invoice.model_dump(mode="json", include=_PRINTED, context=FOR_PEOPLE)
    estimate, currency = find_estimate(invoice), invoice.header.currency
    blocks = list(list_blocks(invoice, estimate))
    facts["head_blocks"] = [each._asdict() for each in blocks if each.place in {"head", "beyond"}]
    facts["foot_blocks"] = [each._asdict() for each in blocks if each.place == "foot"]
    facts["consignees"] = (
        [] if invoice.filing is None or len(invoice.filing.consignees) == 1 else list_consignee_facts(invoice.filing)
    )
    several_exports = len({merged.country_of_export for merged in invoice.entry_lines}) > 1
    facts["lines"] = [
        _line_facts(row.goods, row.entry, currency)
        | {
            "exported_from": row.goods.country_of_export if several_exports else None,
            "declared": [words for each in DECLARATIONS for words in each.list_words(row)],
        }
        for row in rows[cut]
    ]
    facts["adjustments"] = [
        {
            "name": row.name,
            "amount": None if row.amount is None else format_amount(row.amount, currency),
            "effect": _EFFECTS.get(row.effect, row.effect),
            "reason": row.text,
            "source": f"{row.source} ({row.status})",
        }
        for row in estimate.adjustments
    ]
    facts["heading_sources"] = [f"{row.heading}: {row.source} ({row.status})" for row in estimate.heading_sources] + [
        f"{fee.code}: {fee.source} ({fee.status})" for fee in estimate.unpriced_fees
    ]
    duties = divide_duties(invoice, estimate)
    facts["fees"] = [
        *(
            _fee(f"{row.name} ({row.code})", row.arithmetic, row.amount_usd, f"{row.source} ({row.status})")
            for row in estimate.fees
        ),
        *(
            _fee(row.heading, row.arithmetic or row.rate, row.amount_usd, row.note or row.source)
            for row in duties.deposits
            if row.amount_usd is not None
        ),
        *(
            _fee(
                f"Tax on {row.name} of line {row.line} ({row.section})",
                row.arithmetic,
                row.amount_usd,
                f"{row.source} ({row.status})",
            )
            for row in estimate.taxes
            if row.amount_usd is not None
        ),
    ]
    facts["estimate"] = _total_facts(estimate) | {
        "duty": None if duties.duty is None else _in_cents(duties.duty),
        "fees": _in_cents(duties.others),
    }
    digests = sorted(
        (number, digest)
        for row in rows[cut]
        for number, digest in zip(row.goods.line_numbers, row.goods.treatment_digests, strict=True)
    )
    facts["digests"] = digests
    return json.dumps(facts, ensure_ascii=False).encode()


def _fee(name: str, arithmetic: str | None, amount: Decimal, source: str | None) -> dict[str, Any]:
    return {"name": name, "arithmetic": arithmetic, "amount": _in_cents(amount), "source": source}


def _line_facts(merged: MergedLine, entry: EntryLine, currency: str) -> dict[str, Any]:
    sign = "\N{MINUS SIGN}" if entry.adjustment < 0 else "+"
    return {
        "number": merged.number,
        "invoice_lines": merged.lines_shown,
        "description": _describe(merged),
        "hts_code": merged.hts_code.shown,
        "origin": merged.country_of_origin,
        "mid": merged.mid,
        "spi": merged.spi,
        "quantity": ", ".join(
            f"{each.quantity.shown}\u00a0{each.unit}" for each in merged.entry_quantities or (merged,)
        ),
        "chapter98": _describe_claim(merged, entry, currency),
        "gross_kg": merged.gross_weight_kg.shown,
        "net_kg": merged.net_weight_kg.shown,
        "value": format_amount(entry.value, currency),
        "adjustment": f"{sign}{format_amount(abs(entry.adjustment), currency)}" if entry.adjustment else None,
        "usd": None if entry.dutiable_value_usd is None else _in_cents(entry.dutiable_value_usd),
        "entered": None if entry.entered_value_usd is None else f"{entry.entered_value_usd:,}",
        "charges": None if entry.charges_usd is None else f"{entry.charges_usd:,}",
        "duties": [
            {
                "heading": row.heading,
                "rate": row.rate,
                "amount": None if row.amount_usd is None else _in_cents(row.amount_usd),
                "note": row.remarks,
            }
            for row in entry.duties
        ],
    }


def _describe_claim(merged: MergedLine, entry: EntryLine, currency: str) -> str | None:
    claim = merged.chapter98
    if claim is None:
        return None
    in_usd = "" if entry.division is None else f"; in USD {entry.division.arithmetic}"
    parts = f"{claim.exempt_value.shown} {currency} without duty, {claim.dutiable_value.shown} with duty"
    return f"{claim.provision}: {parts}{in_usd}"


def _total_facts(estimate: EntryEstimate) -> dict[str, Any]:
    entered, rate, bond = estimate.total_entered_value_usd, estimate.exchange_rate, estimate.bond
    due = estimate.summary_due
    return {
        "exchange_rate": None if rate is None else format_plain(rate),
        "rounding": estimate.rounding,
        "value": format_amount(estimate.total_value, estimate.currency),
        "dutiable": format_amount(estimate.total_dutiable_value, estimate.currency),
        "entered": None if entered is None else f"{entered:,}",
        "total": None if estimate.total_usd is None else _in_cents(estimate.total_usd),
        "bond": None if bond is None else _in_cents(bond.amount_usd),
        "bond_reason": None if bond is None else f"{bond.arithmetic}. {bond.text}. {bond.source} ({bond.status}).",
        "summary_reason": None if due is None else f"Summary due {due.day}. {due.text}. {due.source} ({due.status}).",
        "missing": list(estimate.missing),
        "editions": list(estimate.editions),
        "disclaimer": estimate.disclaimer,
    }


def _in_cents(amount: Decimal) -> str:
    return format_amount(amount, "USD")


def _remarks(_invoice: Invoice, _cut: slice) -> dict[str, Any]:
    return {}
