"""The tables of customs: waivers and certifications of origin of accounts; editions of the tariff, and rulesets, which all accounts share."""

from datetime import date, datetime

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from pipeline.core.columns import JSON_TYPE, instant_column, text_column, timestamp_column


class Waiver(SQLModel, table=True):
    """An account's recorded acceptance of a warning; a revoked waiver stays in the table."""

    __tablename__ = "waivers"
    __table_args__ = (Index("ix_waivers_account_id", "account_id", "id"),)

    id: str = Field(primary_key=True)
    account_id: str = Field(foreign_key="accounts.id")
    rule: str
    pointer: str | None = None
    partner_id: str | None = None
    reason: str = text_column()
    waived_by: str
    ends_on: date | None = None
    created_at: datetime = timestamp_column()
    revoked_by: str | None = None
    revoked_at: datetime | None = instant_column(nullable=True)


class OriginCertification(SQLModel, table=True):
    """A USMCA certification in use: one row for each product and blanket period of an account."""

    __tablename__ = "origin_certifications"
    __table_args__ = (
        Index("ix_origin_certifications_blanket_to", "blanket_to", "account_id"),
        Index("ix_origin_certifications_export_id", "export_id"),  # the purge of an export removes its rows
    )

    account_id: str = Field(primary_key=True, foreign_key="accounts.id")
    hs_code: str = Field(primary_key=True, description="HS, six digits")
    sku: str = Field(primary_key=True)  # empty: a plan had it for the subheading, but no line named it
    blanket_to: date = Field(primary_key=True)
    blanket_from: date = Field(primary_key=True)
    certifier_name: str = Field(primary_key=True)
    ref: str
    certifier_role: str
    criterion: str
    signed_on: date
    export_id: str  # the first export that had it; its documents have the certification
    first_used_at: datetime = timestamp_column()


class TariffEdition(SQLModel, table=True):
    """An imported edition of a table: in force from its first day until its last day or the next edition of its kind."""

    __tablename__ = "tariff_editions"
    __table_args__ = (UniqueConstraint("name"), UniqueConstraint("kind", "effective_from"))

    id: str = Field(primary_key=True)
    kind: str = Field(description="`tariff`, `agency-flags` or `duty-cases`")
    name: str
    effective_from: date
    effective_to: date | None = None
    content_hash: str = Field(description="SHA-256 of the file that was imported")
    source: str = text_column()
    rows: int
    numbers: int
    chapters: list[str] = Field(sa_type=JSON_TYPE, description="The chapters that the file has, two digits each")
    imported_at: datetime = timestamp_column()


class TariffRow(SQLModel, table=True):
    """One row of an edition, in the order of the file; a row without a number heads the rows below it."""

    __tablename__ = "tariff_rows"
    __table_args__ = (
        Index("ix_tariff_rows_number8", "edition_id", "number8"),
        Index("ix_tariff_rows_heading", "edition_id", "heading", "position"),
    )

    edition_id: str = Field(foreign_key="tariff_editions.id", primary_key=True)
    position: int = Field(primary_key=True)
    heading: str = Field(description="Four digits: the heading that the row stands under")
    number: str = Field(description="4, 6, 8 or 10 digits; empty for a row without a number")
    number8: str | None = Field(default=None, description="The first eight digits of a number that has as many")
    indent: int
    description: str = text_column()
    units: list[str] = Field(sa_type=JSON_TYPE)
    general: str = text_column()
    special: str = text_column()
    other: str = text_column()
    quota_quantity: str = text_column()
    additional_duties: str = text_column()
    footnotes: list[str] = Field(sa_type=JSON_TYPE)


class NumberFlag(SQLModel, table=True):
    """A flag of a partner government agency that tariff numbers carry, in an edition of agency flags."""

    __tablename__ = "tariff_flags"
    __table_args__ = (Index("ix_tariff_flags_number", "edition_id", "number"),)

    edition_id: str = Field(foreign_key="tariff_editions.id", primary_key=True)
    position: int = Field(primary_key=True)
    number: str = Field(description="4, 6, 8 or 10 digits: the row is for all numbers that begin so")
    flag: str
    agency: str
    requirement: str = Field(description="`must`, `may`, or empty: the rules say it")
    meaning: str = text_column()


class DutyCase(SQLModel, table=True):
    """A case of antidumping or countervailing duty from a day on, in an edition of duty cases."""

    __tablename__ = "duty_cases"
    __table_args__ = (
        Index("ix_duty_cases_country", "edition_id", "country"),
        Index("ix_duty_cases_root", "edition_id", "root"),
    )

    edition_id: str = Field(foreign_key="tariff_editions.id", primary_key=True)
    position: int = Field(primary_key=True)
    case_number: str = Field(description="A letter and nine digits")
    root: str = Field(description="The case number without its last three digits, which are of a company")
    name: str = text_column()
    country: str
    numbers: list[str] = Field(sa_type=JSON_TYPE, description="Tariff numbers that the case names: 4 to 10 digits")
    status: str = Field(description="`active` or `revoked`")
    rate: str = text_column()
    effective_from: date
    source: str = text_column()


class StoredRuleset(SQLModel, table=True):
    """The files of a ruleset, stored once for all processes; an export is judged and rendered by one of them."""

    __tablename__ = "rulesets"

    content_hash: str = Field(primary_key=True)
    ruleset_id: str
    as_of: date
    files: str = text_column()  # a zip in base64
    place: str  # the folder or bundle that it was first read from, or the version of the service
    signed_by: str | None = None
    stored_at: datetime = timestamp_column()


class RulesetActivation(SQLModel, table=True):
    """The moment when a ruleset became the active one of all processes; the row with the highest number counts."""

    __tablename__ = "ruleset_activations"

    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    content_hash: str = Field(foreign_key="rulesets.content_hash")
    activated_by: str
    activated_at: datetime = timestamp_column()
