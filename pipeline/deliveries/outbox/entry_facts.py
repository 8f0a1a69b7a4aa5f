"""The invoice of a unit with the estimate of its entry, from which documents and customs brokers' own files are made."""

from __future__ import annotations

from pipeline.core.runtime import Runtime
from pipeline.customs import rulesets
from pipeline.customs.chapter99.facts import entry_date
from pipeline.customs.tariff.facts import read_facts
from pipeline.customs.valuation.estimate import build_estimate
from pipeline.documents.invoice.repository import recorded_unit
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.schemas.plan import Unit
from pipeline.exports.step_context import StepContext


def recorded_invoice(runtime: Runtime, context: StepContext) -> Invoice:
    """Return the invoice of the context's unit with its estimate, by the rules with which the export was accepted.

    Raises RulesUnreadable, and StepFailed if the unit's packages were never recorded.
    """
    recorded = recorded_unit(runtime, context)
    with rulesets.use_stored(runtime, context.rules_hash):
        return add_estimate(recorded.invoice, recorded.unit, recorded.tariff)


def add_estimate(invoice: Invoice, unit: Unit, tariff: str | None = None) -> Invoice:
    """Return the invoice of `unit` with the estimate of its entry, by what the export keeps of the tariff as JSON.

    Documents and customs do not know each other: documents merge the lines, customs estimates the entry.
    """
    groups = [line.line_numbers for line in invoice.entry_lines]
    return invoice.model_copy(update={"estimate": build_estimate(unit, entry_date(unit), groups, read_facts(tariff))})
