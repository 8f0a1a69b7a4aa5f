"""How the entry of an invoice is filed: what the entry's documents print in addition to the invoice."""

from datetime import date
from typing import Annotated

from pydantic import Field

from pipeline.documents.schemas.values import DocumentModel, Value
from pipeline.exports.schemas.parties import Address


class EntryParty(DocumentModel):
    """A party that only the entry names."""

    name: str
    address: Address
    number: Value | None


class EntryConsignee(EntryParty):
    """An ultimate consignee, and the invoice lines whose goods it receives."""

    same_as_importer: bool
    order_ids: tuple[str, ...]
    package_refs: tuple[str, ...]
    line_numbers: tuple[int, ...]


class EntryFiling(DocumentModel):
    """Filer, number, place of the goods, bond, power of attorney, payment and parties of the entry; None is not given."""

    filer_code: str | None = None
    entry_number: str | None = None
    team_number: str | None = None
    firms_code: str | None = None
    location_of_goods: str | None = None
    bond_type: Value | None = None
    surety_code: str | None = None
    bond_number: str | None = None
    bond_amount_usd: Value | None = None
    authority_broker: str | None = None
    authority_grantor: str | None = None
    authority_from: date | None = None
    authority_until: date | None = None
    payment_type: Value | None = None
    statement_date: date | None = None
    statement_month: str | None = None
    client_branch: str | None = None
    resident_agent: EntryParty | None = None
    consignees: tuple[EntryConsignee, ...] = ()
    prior_notices: tuple[str, ...] = ()


#: For the entry's documents only, and left out of the published invoice. None if the plan has nothing of it.
InvoiceFiling = Annotated[EntryFiling | None, Field(exclude=True)]
