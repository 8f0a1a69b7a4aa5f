"""The parties of a plan's unit: of the sale, of the carriage and of the entry."""

from typing import Annotated

from pydantic import AfterValidator, Field

from pipeline.core.field_types import check_printable, mask_number
from pipeline.exports.schemas.plan_fields import Country, Email, Ref, StrictModel, Text


class Address(StrictModel):
    """A postal address."""

    line1: Text
    line2: Text | None = None
    city: Text
    region: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(check_printable)] | None = None
    postal_code: Annotated[str, Field(min_length=1, max_length=16), AfterValidator(check_printable)] | None = None
    country: Country


class Contact(StrictModel):
    """A person or department that answers questions."""

    name: Text
    title: Text | None = None
    email: Email | None = None
    phone: Annotated[str, Field(min_length=3, max_length=40), AfterValidator(check_printable)] | None = None


class Party(StrictModel):
    """A party of the invoice: its name, address and identification numbers."""

    name: Text
    address: Address
    contact: Contact | None = None
    identifiers: dict[Ref, Text] = Field(default_factory=dict, max_length=16)


class ResidentAgent(StrictModel):
    """The agent in the United States on whom process may be served for a foreign importer (19 CFR 141.18)."""

    name: Text
    address: Address
    number: Text | None = Field(default=None, description="IRS number, or number assigned by CBP")
    contact: Contact | None = None

    @property
    def masked_number(self) -> str | None:
        """The agent's number for display; None if the plan gives none."""
        return None if self.number is None else mask_number(self.number)


class Importer(StrictModel):
    """The importer of record: its number always; name and address if they differ from the buyer's."""

    importer_number: Text
    name: Text | None = None
    address: Address | None = None
    contact: Contact | None = None
    resident_agent: ResidentAgent | None = Field(default=None, exclude_if=lambda value: value is None)

    @property
    def masked_number(self) -> str:
        """The importer's number for display."""
        return mask_number(self.importer_number)


class Manufacturer(StrictModel):
    """The manufacturer of the goods, and its manufacturer identification code (19 CFR 102 appendix)."""

    ref: Ref
    name: Text
    address: Address
    mid: Annotated[str, Field(pattern=r"^[A-Z0-9]{5,15}$")]


class Consignee(StrictModel):
    """Who receives goods in the United States."""

    name: Text
    address: Address
    number: Text | None = Field(
        default=None,
        description="IRS number, Social Security number or number assigned by CBP; not with `sameAsImporter`",
    )
    same_as_importer: bool = Field(default=False, description="Whether it is the importer of record")


class UltimateConsignee(Consignee):
    """Who receives the goods in the United States (CBP Form 7501, blocks 26 and 29): all, or those of its orders or packages."""

    order_ids: list[Ref] = Field(default_factory=list, max_length=2_000, description="Goods of these orders")
    package_refs: list[Ref] = Field(default_factory=list, max_length=2_000, description="Goods in these packages")

    @property
    def masked_number(self) -> str | None:
        """The consignee's number for display; None if the plan gives none."""
        return None if self.number is None else mask_number(self.number)


class Parties(StrictModel):
    """All parties named on the invoice, and those whom only the entry names."""

    seller: Party
    buyer: Party
    ship_to: Party
    importer_of_record: Importer
    exporter_contact: Contact
    manufacturers: list[Manufacturer] = Field(min_length=1, max_length=2_000)
    ultimate_consignees: list[UltimateConsignee] = Field(
        default_factory=list, max_length=1_000, exclude_if=lambda value: not value
    )
