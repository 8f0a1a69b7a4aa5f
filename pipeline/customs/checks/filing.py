"""Checks of how an entry is filed: its number, bond, power of attorney, payment, and a foreign importer's agent (F03 to F08)."""

from collections.abc import Iterator
from datetime import date

from pipeline.core.findings import Finding
from pipeline.customs.chapter99.facts import entry_date
from pipeline.customs.checks.chapter98 import add_years
from pipeline.customs.checks.consignees import check_number
from pipeline.customs.checks.entry import is_foreign_importer
from pipeline.customs.reference.base import join_words
from pipeline.customs.reference.entry import entry_rules
from pipeline.customs.reference.filing import filing_rules
from pipeline.customs.reference.ports import port_rules
from pipeline.customs.valuation.estimate import build_estimate
from pipeline.exports.entry_lines import group_entry_lines
from pipeline.exports.schemas.entry_filing import (
    Bond,
    Filing,
    Payment,
    PowerOfAttorney,
    entry_check_digit,
    format_entry_number,
)
from pipeline.exports.schemas.parties import ResidentAgent
from pipeline.exports.schemas.plan import Plan, Unit


def check_filing(plan: Plan, unit: Unit, pointer: str) -> Iterator[Finding]:
    """Yield what is wrong with the filing of the unit's entry.

    Without `filing` only a foreign importer is checked: the entry worksheet names who supplies the rest.
    """
    on = entry_date(unit)
    yield from _check_resident_agent(unit, f"{pointer}/parties/importerOfRecord/residentAgent", on)
    filing = unit.entry.filing
    if filing is None:
        return
    here = f"{pointer}/entry/filing"
    yield from _check_entry_number(filing, here)
    yield from _check_bond(unit, filing.bond, f"{here}/bond", on)
    yield from _check_authority(plan, unit, filing.power_of_attorney, f"{here}/powerOfAttorney", on)
    if filing.payment is not None:
        yield from _check_payment(filing.payment, f"{here}/payment", on)


def _check_entry_number(filing: Filing, here: str) -> Iterator[Finding]:
    row = filing_rules().entry_number
    if filing.entry_number is None:
        return
    number = filing.entry_number.replace("-", "")
    digit = entry_check_digit(number[:10])
    if number[10] != digit:
        yield row.finding(
            "F08",
            f"{here}/entryNumber",
            f"Entry number {format_entry_number(number)} ends in {number[10]}; its check digit is {digit}.",
            "Correct the entry number, or leave it out: the filer assigns it.",
        )
    if filing.filer_code is not None and number[:3] != filing.filer_code:
        yield Finding.blocking(
            "F08",
            f"{here}/filerCode",
            f"Entry number {format_entry_number(number)} begins with {number[:3]}; the filer code is {filing.filer_code}.",
            "Correct one of them: an entry number begins with the code of its filer.",
            row.source,
        )


def _check_bond(unit: Unit, bond: Bond | None, here: str, on: date) -> Iterator[Finding]:
    rules = filing_rules()
    types, needed, foreign = rules.bond_types, rules.bond_needed, rules.foreign_continuous_bond
    is_needed = unit.entry.type in needed.entry_types and needed.in_force(on)
    if bond is None or bond.type == types.none:
        if is_needed:
            yield needed.warning(
                "F03",
                here if bond is None else f"{here}/type",
                f"Unit {unit.unit_ref} names no bond, and entry type {unit.entry.type} needs one.",
                "Give the importer's continuous bond, or let the customs broker arrange a single transaction bond.",
            )
    elif bond.type not in types.types:
        names = join_words(f"{code} ({name})" for code, name in types.types.items())
        yield types.finding("F03", f"{here}/type", f"{bond.type} is not a bond type.", f"Use one of {names}.")
        return
    if bond is None:
        return
    yield from _check_surety(unit, bond, here, on)
    if bond.type == types.continuous and is_foreign_importer(unit) and foreign.in_force(on):
        yield foreign.warning(
            "F03",
            f"{here}/type",
            f"The importer of unit {unit.unit_ref} is outside the United States. Since {foreign.effective_from} CBP "
            "reportedly requires its permission for a continuous bond.",
            "Ask the broker whether CBP gave permission, or use a single transaction bond (9).",
        )
    yield from _check_bond_amount(unit, bond, f"{here}/amountUsd", on)


def _check_surety(unit: Unit, bond: Bond, here: str, on: date) -> Iterator[Finding]:
    rules = filing_rules()
    types, sureties = rules.bond_types, rules.sureties
    code = bond.surety_code
    if bond.type == types.none:
        if code not in (None, sureties.none):
            yield sureties.finding(
                "F03",
                f"{here}/suretyCode",
                f"Bond type {types.none} (none) takes no surety code; the plan gives {code}.",
                f"Use {sureties.none}, or give the type of the bond.",
            )
    elif code is None:
        yield sureties.warning(
            "F03",
            f"{here}/suretyCode",
            f"The {types.types[bond.type]} bond has no surety code.",
            f"Add the three digits of the surety company from the bond (CBP Form 301), or {sureties.cash} for cash.",
        )
    elif code == sureties.none and bond.type == types.continuous:
        yield sureties.warning(
            "F03",
            f"{here}/suretyCode",
            f"Surety code {code} says that there is no surety, but the bond is continuous.",
            f"Give the code of the surety company, {sureties.cash} for cash, or bond type {types.none}.",
        )
    elif code == sureties.cash and is_foreign_importer(unit) and rules.resident_agent.in_force(on):
        yield rules.resident_agent.warning(
            "F03",
            f"{here}/suretyCode",
            f"Surety code {code} is cash. The importer of unit {unit.unit_ref} is outside the United States; a corporation there "
            "needs a surety company.",
            "Give the code of a surety company in the United States, or ask the broker.",
        )


def _check_bond_amount(unit: Unit, bond: Bond, here: str, on: date) -> Iterator[Finding]:
    rules = filing_rules()
    amount, least = bond.amount_usd, rules.continuous_bond
    if amount is None:
        return
    if bond.type == rules.bond_types.continuous and amount < least.least_usd and least.in_force(on):
        yield least.warning(
            "F04",
            here,
            f"The continuous bond is for ${amount:,.2f}, below the least amount of ${least.least_usd:,}.",
            "Correct the amount, or ask the surety.",
        )
    if bond.type == rules.bond_types.single:
        hint = build_estimate(unit, on, group_entry_lines(unit)).bond
        if hint is not None and amount < hint.amount_usd:
            yield Finding.warning(
                "F04",
                here,
                f"The single transaction bond is for ${amount:,.2f}, below the ${hint.amount_usd:,.2f} that this entry "
                "probably needs as far as its duties are known.",
                f"Ask the broker for the amount. {hint.text}.",
                hint.source,
            )


def _check_authority(
    plan: Plan, unit: Unit, authority: PowerOfAttorney | None, here: str, on: date
) -> Iterator[Finding]:
    rules = filing_rules()
    row, partnership = rules.power_of_attorney, rules.partnership_power
    if authority is None:
        yield row.warning(
            "F05",
            here,
            f"Unit {unit.unit_ref} does not say that broker {plan.broker.id} has a power of attorney of the importer.",
            "Add who gave it and from when it is valid, or ask the broker for its form (CBP Form 5291).",
        )
        return
    if authority.broker not in (None, plan.broker.id):
        yield row.finding(
            "F05",
            f"{here}/broker",
            f"The power of attorney is with {authority.broker}; the broker of the plan is {plan.broker.id}.",
            "Give the importer's power of attorney for this broker, or change the broker.",
        )
    until = authority.valid_until
    if on < authority.valid_from or (until is not None and on > until):
        period = f"from {authority.valid_from}{'' if until is None else f' to {until}'}"
        yield row.finding(
            "F05",
            f"{here}/{'validFrom' if on < authority.valid_from else 'validUntil'}",
            f"Unit {unit.unit_ref} is expected to be entered on {on}; the power of attorney is valid {period}.",
            "Ask the importer for a power of attorney that is valid on that day.",
        )
    importer = unit.parties.importer_of_record.name or unit.parties.buyer.name
    if authority.grantor.casefold() != importer.casefold():
        yield row.warning(
            "F05",
            f"{here}/grantor",
            f"{authority.grantor} gave the power of attorney; the importer of record is {importer}.",
            "Correct the name, or ask the importer for its own power of attorney.",
        )
    if authority.by_partnership and on > add_years(authority.valid_from, partnership.years):
        yield partnership.warning(
            "F05",
            f"{here}/validFrom",
            f"A partnership's power of attorney is valid for {partnership.years} years; this one began on {authority.valid_from}.",
            "Ask the partnership for a new power of attorney.",
        )


def _check_payment(payment: Payment, here: str, on: date) -> Iterator[Finding]:
    rules = filing_rules()
    row, days = rules.payment_types, rules.statement_days
    kind = row.types.get(payment.type)
    if kind is None:
        names = join_words(f"{code} ({each.name})" for code, each in row.types.items())
        yield row.finding(
            "F06", f"{here}/type", f"{payment.type} is not a payment type of ACE.", f"Use one of {names}."
        )
        return
    named = f"Payment type {payment.type} ({kind.name})"
    on_statement = kind.cycle != "none"
    for key, value, is_due, what in (
        ("statementDate", payment.statement_date, on_statement, "preliminary statement print date"),
        ("statementMonth", payment.statement_month, kind.cycle == "monthly", "month of the periodic statement"),
        # A filer may group the entries of any statement by branch, and need not.
        ("clientBranch", payment.client_branch, on_statement and payment.client_branch is not None, "branch"),
    ):
        if (value is not None) != is_due:
            yield row.warning(
                "F06",
                f"{here}/{key}",
                f"{named} {'needs a' if is_due else 'has no'} {what}.",
                f"Add the {what}; the broker knows it."
                if is_due
                else f"Remove the {what}, or correct the payment type.",
            )
    printed = payment.statement_date
    if printed is None:
        return
    if fault := _find_statement_fault(printed, on):
        yield days.warning(
            "F06",
            f"{here}/statementDate",
            f"The preliminary statement would be printed on {printed}, {fault}.",
            "Choose a working day after the entry, not later than the last day for the entry summary.",
        )


def _find_statement_fault(printed: date, on: date) -> str | None:
    """Return why a statement for an entry of the day `on` is not printed on that day; None if it can be."""
    days = filing_rules().statement_days
    if printed < on:
        return f"before the expected day of entry, {on}"
    if not days.in_force(printed):
        return None
    if (closed := days.describe_closed(printed)) is not None:
        return f"which is {closed}"
    last = None if days.working_days is None else days.add_working_days(on, days.working_days)
    if last is not None and printed > last:
        return f"more than {days.working_days} working days after the expected day of entry, {on}; the last is {last}"
    return None


def _check_resident_agent(unit: Unit, here: str, on: date) -> Iterator[Finding]:
    row = filing_rules().resident_agent
    agent = unit.parties.importer_of_record.resident_agent
    if agent is None:
        if is_foreign_importer(unit) and row.in_force(on):
            yield row.warning(
                "F07",
                here,
                f"The importer of unit {unit.unit_ref} is outside the United States, and the plan names no resident agent.",
                "Name the agent in the State of the port of entry on whom process may be served, or ask the broker who it is.",
            )
        return
    if agent.number is not None:
        yield from check_number(agent.number, f"The number of resident agent {agent.name}", f"{here}/number", "F07")
    if agent.address.country != entry_rules().destination:
        yield row.warning(
            "F07",
            f"{here}/address/country",
            f"Resident agent {agent.name} is in {agent.address.country}, not in the United States.",
            "Name an agent who resides in the State of the port of entry.",
        )
    elif row.in_force(on):
        yield from _check_agent_state(unit, agent, f"{here}/address/region")


def _check_agent_state(unit: Unit, agent: ResidentAgent, here: str) -> Iterator[Finding]:
    row, ports = filing_rules().resident_agent, port_rules().ports
    port, region = unit.entry.port_of_entry, agent.address.region
    states = ports.find_states(port)
    # E05 names an unknown port.
    if not states or region in states:
        return
    state = " or ".join(states)
    if region in entry_rules().consignee.regions:
        problem = f"is in {region}, but port {port} is {ports.ports[port]}"
        remedy = (
            f"Name an agent who resides in {state}. If the broker files from another State (remote location filing), an agent "
            "there is enough."
        )
    else:
        problem = "has no State" if region is None else f"is in {region}, which is not the two letters of a State"
        remedy = f"Write the State as two letters; the port of entry is in {state}."
    yield Finding.warning(
        "F07", here, f"Resident agent {agent.name} {problem}.", remedy, f"{row.source}. {ports.source}"
    )
