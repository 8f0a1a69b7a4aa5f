"""The invoice of a unit with the words of the rules and the estimate of its entry: what documents take from customs."""

from pipeline.core.runtime import Runtime
from pipeline.customs import rulesets
from pipeline.customs.chapter99.facts import entry_date
from pipeline.customs.reference.content import RulesContent, load_once
from pipeline.customs.reference.entry import entry_rules
from pipeline.customs.reference.filing import filing_rules
from pipeline.customs.reference.pga import pga_rules
from pipeline.customs.reference.ports import port_rules
from pipeline.customs.reference.ruleset import ruleset
from pipeline.customs.tariff.facts import read_facts
from pipeline.customs.valuation.estimate import build_estimate
from pipeline.documents.invoice.code_wording import RuleWords
from pipeline.documents.invoice.repository import recorded_unit
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.schemas.plan import Unit
from pipeline.exports.step_context import StepContext


def recorded_invoice(runtime: Runtime, context: StepContext) -> Invoice:
    """Return the invoice of the context's unit with its estimate, by the rules with which the export was accepted.

    Raises RulesUnreadable, and StepFailed if the unit's packages were never recorded.
    """
    with rulesets.use_stored(runtime, context.rules_hash):
        recorded = recorded_unit(runtime, context, rule_words())
        return add_estimate(recorded.invoice, recorded.unit, recorded.tariff)


@load_once
def rule_words(_content: RulesContent) -> RuleWords:
    """Return the words of the rules in use, which documents print for the codes of the plan."""
    filing = filing_rules()
    return RuleWords(
        programs={program.id: program.name for program in ruleset().programs},
        entry_types=entry_rules().entry_types.types,
        bond_types=filing.bond_types.types,
        payment_types={code: each.name for code, each in filing.payment_types.types.items()},
        agency_data={key: element.label for key, element in pga_rules().elements.items()},
        ports=port_rules().ports.ports,
    )


def add_estimate(invoice: Invoice, unit: Unit, tariff: str | None = None) -> Invoice:
    """Return the invoice of `unit` with the estimate of its entry, by what the export keeps of the tariff as JSON.

    Documents and customs do not know each other: documents merge the lines, customs estimates the entry.
    """
    groups = [line.line_numbers for line in invoice.entry_lines]
    return invoice.model_copy(update={"estimate": build_estimate(unit, entry_date(unit), groups, read_facts(tariff))})
