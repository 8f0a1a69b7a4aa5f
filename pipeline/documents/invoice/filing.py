"""Builds the filing of a unit's entry for the entry's documents."""

from collections.abc import Iterator
from typing import Final

from pipeline.documents.invoice import wording
from pipeline.documents.invoice.code_wording import RuleWords
from pipeline.documents.schemas.entry_filing import EntryConsignee, EntryFiling, EntryParty
from pipeline.documents.schemas.invoice import Printed
from pipeline.exports.consignees import list_recipients
from pipeline.exports.schemas.entry_filing import Filing, format_entry_number
from pipeline.exports.schemas.parties import ResidentAgent, UltimateConsignee
from pipeline.exports.schemas.plan import Unit

#: The agencies' datum for the number of a prior notice that was filed before.
_PRIOR_NOTICE: Final = "priorNoticeConfirmation"


def build_filing(unit: Unit, words: RuleWords) -> EntryFiling | None:
    """Return the filing of the unit's entry; None if the plan names neither it, nor consignees, nor a resident agent."""
    parties, given = unit.parties, unit.entry.filing
    agent = parties.importer_of_record.resident_agent
    if given is None and agent is None and not parties.ultimate_consignees:
        return None
    filing = given or Filing()
    bond, authority, payment = filing.bond, filing.power_of_attorney, filing.payment
    return EntryFiling(
        filer_code=filing.filer_code,
        entry_number=None if filing.entry_number is None else format_entry_number(filing.entry_number),
        team_number=filing.team_number,
        firms_code=filing.firms_code,
        location_of_goods=filing.location_of_goods,
        bond_type=None if bond is None else words.format_bond_type(bond.type),
        surety_code=None if bond is None else bond.surety_code,
        bond_number=None if bond is None else bond.number,
        bond_amount_usd=None
        if bond is None or bond.amount_usd is None
        else wording.format_amount(bond.amount_usd, "USD"),
        authority_broker=None if authority is None else authority.broker,
        authority_grantor=None if authority is None else authority.grantor,
        authority_from=None if authority is None else authority.valid_from,
        authority_until=None if authority is None else authority.valid_until,
        payment_type=None if payment is None else words.format_payment_type(payment.type),
        statement_date=None if payment is None else payment.statement_date,
        statement_month=None if payment is None else payment.statement_month,
        client_branch=None if payment is None else payment.client_branch,
        resident_agent=None if agent is None else _agent(agent),
        consignees=tuple(_consignees(unit)),
        prior_notices=tuple(dict.fromkeys(_prior_notices(unit))),
    )


def _agent(agent: ResidentAgent) -> EntryParty:
    return EntryParty(name=agent.name, address=agent.address, number=_printed_number(agent))


def _consignees(unit: Unit) -> Iterator[EntryConsignee]:
    lines: list[list[int]] = [[] for _ in unit.parties.ultimate_consignees]
    for number, recipients in enumerate(list_recipients(unit), start=1):
        for place in recipients.places:
            lines[place].append(number)
    for consignee, numbers in zip(unit.parties.ultimate_consignees, lines, strict=True):
        importer = unit.parties.importer_of_record
        yield EntryConsignee(
            name=consignee.name,
            address=consignee.address,
            number=Printed(importer.importer_number, importer.masked_number)
            if consignee.same_as_importer
            else _printed_number(consignee),
            same_as_importer=consignee.same_as_importer,
            order_ids=tuple(consignee.order_ids),
            package_refs=tuple(consignee.package_refs),
            line_numbers=tuple(numbers),
        )


def _printed_number(party: ResidentAgent | UltimateConsignee) -> Printed | None:
    return None if party.number is None else Printed(party.number, party.masked_number or "")


def _prior_notices(unit: Unit) -> Iterator[str]:
    for line in unit.lines:
        for row in line.treatment.pga:
            given = row.data.get(_PRIOR_NOTICE, [])
            yield from [given] if isinstance(given, str) else given
