"""The filing of an entry: its columns for the import files and the broker's own file, its blocks for the worksheet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pipeline.documents.formats.columns import Cell, read_attributes
from pipeline.documents.invoice import wording
from pipeline.documents.schemas.entry_filing import EntryConsignee, EntryFiling, EntryParty
from pipeline.documents.schemas.invoice import Invoice, InvoiceLine, ManufacturerBlock, PartyBlock
from pipeline.documents.schemas.values import Printed
from pipeline.exports.line_declarations import CASES, NOT_REIMBURSED, is_antidumping, split_cases

#: The end of a column's name for each part of an address.
ADDRESS_COLUMNS: Final = {
    "line1": "addr1",
    "line2": "addr2",
    "city": "city",
    "region": "state",
    "postal_code": "zip",
    "country": "country",
}

#: In place of a consignee's number that is the importer's (CBP Form 7501, block 26).
SAME: Final = "SAME"


def find_certificate(line: InvoiceLine) -> str | None:
    """Return `Y` if the importer certifies that nobody reimburses the line's antidumping duty; None if it does not."""
    return "Y" if read_attributes(line).get(NOT_REIMBURSED) == "Y" else None


def has_antidumping_case(line: InvoiceLine) -> bool:
    """Return whether the line declares an antidumping case: its number begins with A."""
    return any(map(is_antidumping, split_cases(read_attributes(line).get(CASES, ""))))


def has_filing(invoice: Invoice) -> bool:
    """Return whether the plan says anything of how the entry is filed, of its consignees or of a resident agent."""
    return invoice.filing is not None


def party_columns(role: str, party: PartyBlock | EntryParty | ManufacturerBlock | None) -> dict[str, Cell]:
    """Return the name and address of a party, each column with `role` before its name; None for what is not given."""
    address = None if party is None else party.address
    parts = {f"{role}_{column}": getattr(address, part, None) for part, column in ADDRESS_COLUMNS.items()}
    return {f"{role}_name": None if party is None else party.name, **parts}


def filing_columns(invoice: Invoice) -> dict[str, Cell]:
    """Return the filing of the entry as column name to value, always with the same columns in the same order.

    `|` joins the numbers of several consignees and of several prior notices.
    """
    filing = invoice.filing or EntryFiling()
    agent = filing.resident_agent
    numbers = [each.number for each in filing.consignees]
    return {
        "filer_code": filing.filer_code,
        "entry_number": filing.entry_number,
        "team_number": filing.team_number,
        "firms_code": filing.firms_code,
        "location_of_goods": filing.location_of_goods,
        "bond_type": _exact(filing.bond_type),
        "surety_code": filing.surety_code,
        "bond_number": filing.bond_number,
        "bond_amount_usd": _exact(filing.bond_amount_usd),
        "poa_broker": filing.authority_broker,
        "poa_grantor": filing.authority_grantor,
        "poa_from": filing.authority_from,
        "poa_until": filing.authority_until,
        "payment_type": _exact(filing.payment_type),
        "statement_date": filing.statement_date,
        "statement_month": filing.statement_month,
        "client_branch": filing.client_branch,
        "consignee_numbers": "|".join(str(_exact(number) or "") for number in numbers) or None,
        "prior_notices": "|".join(filing.prior_notices) or None,
        "agent_number": None if agent is None else _exact(agent.number),
        **party_columns("agent", agent),
    }


def list_consignee_rows(invoice: Invoice) -> Iterator[dict[str, Cell]]:
    """Yield the row of each ultimate consignee: its number, name and address, and the goods that it receives."""
    for place, consignee in enumerate((invoice.filing or EntryFiling()).consignees, start=1):
        receives = set(consignee.line_numbers)
        yield {
            "consignee": place,
            "consignee_number": _exact(consignee.number),
            "same_as_importer": "Y" if consignee.same_as_importer else "N",
            **party_columns("consignee", consignee),
            "invoice_lines": "|".join(map(str, consignee.line_numbers)),
            "entry_lines": "|".join(
                str(line.number) for line in invoice.entry_lines if receives & set(line.line_numbers)
            ),
            "order_ids": "|".join(consignee.order_ids),
            "package_ids": "|".join(consignee.package_refs),
        }


def describe_filing(filing: EntryFiling) -> Iterator[tuple[str, str]]:
    """Yield the facts that CBP Form 7501 has no block for: the name and the words of each that is given."""
    amount = None if filing.bond_amount_usd is None else f"USD {filing.bond_amount_usd}"
    branch = None if filing.client_branch is None else f"branch {filing.client_branch}"
    month = None if filing.statement_month is None else f"month {filing.statement_month}"
    printed = None if filing.statement_date is None else f"print date {filing.statement_date}"
    agent = filing.resident_agent
    rows = (
        ("CBP team", filing.team_number),
        ("Bond number and amount", _join(filing.bond_number, amount)),
        ("Power of attorney", _describe_authority(filing)),
        ("Payment type and statement", _join(_shown(filing.payment_type), printed, month, branch)),
        ("Resident agent", None if agent is None else _join(agent.name, _shown(agent.number), *_lines(agent))),
        ("Prior notice numbers", _join(*filing.prior_notices)),
    )
    for name, value in rows:
        if value is not None:
            yield name, value


def describe_bond_type(filing: EntryFiling) -> str | None:
    """Return the type of the bond (block 5); None if it is not given."""
    return _shown(filing.bond_type)


def describe_location(filing: EntryFiling) -> str | None:
    """Return where the goods are (block 25); None if it is not given."""
    return _join(filing.firms_code, filing.location_of_goods)


def describe_consignee(consignee: EntryConsignee) -> str:
    """Return the name and the printed address of a consignee."""
    return ", ".join((consignee.name, *_lines(consignee)))


def list_consignee_facts(filing: EntryFiling) -> list[dict[str, Any]]:
    """Return what the worksheet's table prints of each consignee."""
    return [
        {
            "number": SAME if each.same_as_importer else _shown(each.number),
            "party": describe_consignee(each),
            "lines": wording.format_line_numbers(each.line_numbers),
        }
        for each in filing.consignees
    ]


def _describe_authority(filing: EntryFiling) -> str | None:
    if filing.authority_grantor is None:
        return None
    until = "" if filing.authority_until is None else f" to {filing.authority_until}"
    broker = None if filing.authority_broker is None else f"to {filing.authority_broker}"
    return _join(filing.authority_grantor, broker, f"from {filing.authority_from}{until}")


def _lines(party: EntryParty) -> tuple[str, ...]:
    return wording.format_address(party.address)


def _join(*parts: str | None) -> str | None:
    return ", ".join(part for part in parts if part) or None


def _exact(value: Printed | None) -> Cell:
    return None if value is None else value.exact


def _shown(value: Printed | None) -> str | None:
    return None if value is None else value.shown
