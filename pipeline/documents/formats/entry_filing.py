"""The filing of an entry: its columns for the import files and the broker's own file, its blocks for the worksheet."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pipeline.documents.formats.cells import Cell, Columns, of_part, read_columns
from pipeline.documents.invoice import wording
from pipeline.documents.schemas.entry_filing import EntryConsignee, EntryFiling, EntryParty
from pipeline.documents.schemas.invoice import Invoice, ManufacturerBlock, PartyBlock
from pipeline.documents.schemas.values import Printed

Party = PartyBlock | EntryParty | ManufacturerBlock

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


def has_filing(invoice: Invoice) -> bool:
    """Return whether the plan says anything of how the entry is filed, of its consignees or of a resident agent."""
    return invoice.filing is not None


def party_columns(role: str) -> Columns[Party]:
    """Return the columns of a party's name and address, each with `role` before its name."""

    def bind(part: str) -> Callable[[Party], Cell]:
        return lambda party: getattr(party.address, part, None)

    parts = {f"{role}_{column}": bind(part) for part, column in ADDRESS_COLUMNS.items()}
    return {f"{role}_name": lambda party: party.name, **parts}


#: The parties of the invoice by their role: name and address.
PARTY_COLUMNS: Final[Mapping[str, Columns[Invoice]]] = {
    "seller": of_part(lambda invoice: invoice.parties.seller, party_columns("seller")),
    "buyer": of_part(lambda invoice: invoice.parties.buyer, party_columns("buyer")),
    "ship_to": of_part(lambda invoice: invoice.parties.ship_to, party_columns("ship_to")),
    "importer": of_part(lambda invoice: invoice.parties.importer_of_record, party_columns("importer")),
}

_FILING: Final[Columns[EntryFiling]] = {
    "filer_code": lambda filing: filing.filer_code,
    "entry_number": lambda filing: filing.entry_number,
    "team_number": lambda filing: filing.team_number,
    "firms_code": lambda filing: filing.firms_code,
    "location_of_goods": lambda filing: filing.location_of_goods,
    "bond_type": lambda filing: _exact(filing.bond_type),
    "surety_code": lambda filing: filing.surety_code,
    "bond_number": lambda filing: filing.bond_number,
    "bond_amount_usd": lambda filing: _exact(filing.bond_amount_usd),
    "poa_broker": lambda filing: filing.authority_broker,
    "poa_grantor": lambda filing: filing.authority_grantor,
    "poa_from": lambda filing: filing.authority_from,
    "poa_until": lambda filing: filing.authority_until,
    "payment_type": lambda filing: _exact(filing.payment_type),
    "statement_date": lambda filing: filing.statement_date,
    "statement_month": lambda filing: filing.statement_month,
    "client_branch": lambda filing: filing.client_branch,
    "consignee_numbers": lambda filing: "|".join(str(_exact(each.number) or "") for each in filing.consignees) or None,
    "prior_notices": lambda filing: "|".join(filing.prior_notices) or None,
    "agent_number": lambda filing: None if filing.resident_agent is None else _exact(filing.resident_agent.number),
    **of_part(lambda filing: filing.resident_agent, party_columns("agent")),
}

#: The filing of the entry; `|` joins the numbers of several consignees and of several prior notices.
FILING_COLUMNS: Final[Columns[Invoice]] = of_part(lambda invoice: invoice.filing, _FILING)


def list_consignee_rows(invoice: Invoice) -> Iterator[dict[str, Cell]]:
    """Yield the row of each ultimate consignee: its number, name and address, and the goods that it receives."""
    for place, consignee in enumerate((invoice.filing or EntryFiling()).consignees, start=1):
        receives = set(consignee.line_numbers)
        yield {
            "consignee": place,
            "consignee_number": _exact(consignee.number),
            "same_as_importer": "Y" if consignee.same_as_importer else "N",
            **read_columns(party_columns("consignee"), consignee),
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
