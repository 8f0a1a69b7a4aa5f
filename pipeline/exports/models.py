"""The tables of accounts, plans and exports, with their units, steps, packages and documents."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKeyConstraint, Index, Text, UniqueConstraint, false, text
from sqlmodel import Field, SQLModel

from pipeline.core.columns import JSON_TYPE, instant_column, partial_index, text_column, timestamp_column
from pipeline.exports.states import Outcome


class Account(SQLModel, table=True):
    """A merchant, who owns all rows of the tables below; its counters must never give a number twice."""

    __tablename__ = "accounts"
    # The sweep reads the accounts whose test clock was moved.
    __table_args__ = (partial_index("ix_accounts_test_clock", "id", where=text("test_clock_seconds > 0")),)

    id: str = Field(primary_key=True)
    name: str
    gs1_prefix: str | None = None
    #: None: mail may go to any domain.
    mail_domains: list[str] | None = Field(default=None, sa_type=JSON_TYPE)
    #: None: people of any domain may be invited.
    people_domains: list[str] | None = Field(default=None, sa_type=JSON_TYPE)
    packages_numbered: int = Field(default=0, sa_type=BigInteger)
    ssccs_issued: int = Field(default=0, sa_type=BigInteger)
    blocks_dropped_to: int = Field(default=0, sa_type=BigInteger)  # blocks up to this package number give none
    serial_blocks_dropped_to: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": "0"})
    prints_french: bool = False  # new exports print French beside English
    logo_sha256: str | None = None  # the logo that new exports print
    #: How often; older links to the calendar are not valid.
    calendar_links_revoked: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    #: Minutes by mode of transport and status; what it lacks is as the process's settings say.
    deadline_leads: dict[str, dict[str, int]] | None = Field(default=None, sa_type=JSON_TYPE)
    #: By so much the clock of its test exports is ahead.
    test_clock_seconds: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    created_at: datetime = timestamp_column()


class LogoFile(SQLModel, table=True):
    """A logo of an account, never changed or deleted: a lost document of an export is rendered with it again."""

    __tablename__ = "logos"

    account_id: str = Field(primary_key=True, foreign_key="accounts.id")
    sha256: str = Field(primary_key=True)
    picture: bytes  # PNG
    added_by: str
    added_at: datetime = timestamp_column()


class PlanSnapshot(SQLModel, table=True):
    """A plan as it was registered or sent, in canonical JSON; the document never changes, except to `{}` when it is purged."""

    __tablename__ = "plans"
    __table_args__ = (
        UniqueConstraint("account_id", "batch_id", "plan_hash", "test"),
        Index("ix_plans_account_id_id", "account_id", "id"),
        Index("ix_plans_entry_on", "entry_on", "id"),  # the recheck reads those whose entry is not over
    )

    id: str = Field(primary_key=True)
    account_id: str = Field(foreign_key="accounts.id")
    batch_id: str
    plan_hash: str
    test: bool = False  # a plan sent with a test key does not count for a live batch
    document: str = text_column()
    registered_at: datetime = timestamp_column()
    entry_on: date | None = None  # the last day of entry of its units; None if an older version wrote the plan
    rules_hash: str | None = None  # the rules by which it was last checked; None if an older version wrote the plan
    editions: str | None = Field(default=None, sa_type=Text)  # JSON, those by which it was last checked; None as above


class Export(SQLModel, table=True):
    """One execution of one approved plan."""

    __tablename__ = "exports"
    __table_args__ = (
        UniqueConstraint("account_id", "batch_id", "test", "revision"),
        Index("ix_exports_account_id_id", "account_id", "id"),
        Index("ix_exports_state", "account_id", "state", "id"),  # the list filters by it and the next ones
        Index("ix_exports_broker", "account_id", "broker_id", "id"),
        Index("ix_exports_warehouse", "account_id", "warehouse_id", "id"),
        Index(
            "ix_exports_quarantined",
            "account_id",
            "id",
            postgresql_where=text("quarantined IS true"),
            sqlite_where=text("quarantined IS 1"),
        ),
        Index("ix_exports_updated_at", "account_id", "updated_at"),  # for its newest entry
        Index("ix_exports_outcome", "account_id", "outcome", "id"),
        Index("ix_exports_broker_outcome", "account_id", "broker_id", "outcome", "id"),
        Index("ix_exports_warehouse_outcome", "account_id", "warehouse_id", "outcome", "id"),
        # Written so that PostgreSQL takes these two only for the inbox, which writes the same conditions.
        partial_index(
            "ix_exports_inbox",
            "account_id",
            "outcome",
            "id",
            where=text(
                "(outcome IN ('needs_attention', 'handoff_held', 'overdue', 'rejected', 'query', 'held', 'not_withdrawn')"
                " AND purged_at IS NULL"
                " AND (acknowledged_seq IS NULL OR outcome = 'needs_attention')) IS TRUE"
            ),
        ),
        partial_index(
            "ix_exports_inbox_acknowledged",
            "account_id",
            "outcome",
            "id",
            where=text(
                "(outcome IN ('needs_attention', 'handoff_held', 'overdue', 'rejected', 'query', 'held', 'not_withdrawn')"
                " AND purged_at IS NULL"
                " AND acknowledged_seq IS NOT NULL) IS TRUE"
            ),
        ),
        # These do not change the outcome. The inbox writes the same conditions.
        *(
            partial_index(f"ix_exports_{name}", "account_id", "id", where=where)
            for name, where in (
                ("amounts_differ", text("(amounts_differ AND purged_at IS NULL AND acknowledged_seq IS NULL) IS TRUE")),
                (
                    "amounts_acknowledged",
                    text("(amounts_differ AND purged_at IS NULL AND acknowledged_seq IS NOT NULL) IS TRUE"),
                ),
                ("earlier_entry", text("(earlier_entry AND purged_at IS NULL AND acknowledged_seq IS NULL) IS TRUE")),
                (
                    "earlier_acknowledged",
                    text("(earlier_entry AND purged_at IS NULL AND acknowledged_seq IS NOT NULL) IS TRUE"),
                ),
                (
                    "summary_trouble",
                    text("(summary_trouble AND purged_at IS NULL AND acknowledged_seq IS NULL) IS TRUE"),
                ),
                (
                    "summary_acknowledged",
                    text("(summary_trouble AND purged_at IS NULL AND acknowledged_seq IS NOT NULL) IS TRUE"),
                ),
            )
        ),
        partial_index(
            "uq_exports_supersedes_id", "supersedes_id", where=text("supersedes_id IS NOT NULL"), unique=True
        ),
    )

    id: str = Field(primary_key=True)
    account_id: str = Field(foreign_key="accounts.id")
    batch_id: str
    revision: int = 1
    supersedes_id: str | None = None  # the export of the revision before
    plan_id: str = Field(foreign_key="plans.id")
    plan_hash: str
    test: bool
    state: str
    broker_id: str
    warehouse_id: str
    upstream_id: str | None = None  # the partner for whom it was executed, if the request named one
    ruleset_id: str
    ruleset_as_of: date
    rules_hash: str | None = None  # the rules by which it was accepted; None if an older version accepted it
    units_total: int
    units_closed: int = 0
    next_seq: int = 1
    treatment_digest: str
    prints_french: bool = False  # as its account did when it was accepted
    logo_sha256: str | None = None  # the same
    broker_name: str | None = None  # of its customs broker when it was accepted; None: the partner did not exist
    approved_by: str | None = None  # as its plan says; these are None if an older version accepted it
    approved_at: datetime | None = instant_column(nullable=True)
    sent_by: str | None = None  # the key or person who sent the plan for execution
    findings: list[dict[str, Any]] = Field(sa_type=JSON_TYPE)
    failure: str | None = None
    outcome: str = Outcome.IN_PROGRESS.value  # triggers keep it, on this table, on submissions and on deliveries
    quarantined: bool = False  # failed because its work killed workers or raised an unknown error
    amounts_differ: bool | None = None  # customs assessed other amounts than the estimate; else None
    summary_trouble: bool | None = None  # the summary of an entry needs a person; else None
    earlier_entry: bool | None = None  # it is superseded, and an entry that it left needs a person; else None
    acknowledged_seq: int | None = None  # the event by which a person acknowledged it; no fact needs a person since
    trace_parent: str | None = None  # of the request that was accepted; messages repeat it
    trace_state: str | None = None
    accepted_at: datetime = timestamp_column()
    updated_at: datetime = timestamp_column()
    finished_at: datetime | None = instant_column(nullable=True)  # None while the export is active, also after a retry
    purged_at: datetime | None = instant_column(nullable=True)  # since then only its hashes and its log are kept
    hold_seq: int | None = None  # the event by which a person holds its handoff; None: nobody does
    withdrawal_seq: int | None = None  # the event by which a person requested its withdrawal


class ExportUnit(SQLModel, table=True):
    """One unit of the plan, and its customs package."""

    __tablename__ = "units"
    __table_args__ = (
        UniqueConstraint("customs_package_id"),
        partial_index(
            "uq_units_account_id_package_number",
            "account_id",
            "package_number",
            where=text("NOT released"),
            unique=True,
        ),
        partial_index(
            "ix_units_invoice_number",
            "account_id",
            "invoice_number",
            "export_id",
            where=text("invoice_number IS NOT NULL"),
        ),
        partial_index(
            "ix_units_purchase_order",
            "account_id",
            "purchase_order",
            "export_id",
            where=text("purchase_order IS NOT NULL"),
        ),
        partial_index("ix_units_informal", "account_id", "informal_key", where=text("informal_key IS NOT NULL")),
        partial_index(
            "uq_units_control_number_key",
            "account_id",
            "control_number_key",
            where=text("control_number_key IS NOT NULL AND NOT released"),
            unique=True,
        ),
        partial_index("ix_units_invoice_key", "account_id", "invoice_key", where=text("invoice_key IS NOT NULL")),
    )

    export_id: str = Field(primary_key=True, foreign_key="exports.id")
    unit_no: int = Field(primary_key=True)
    account_id: str
    unit_ref: str
    customs_package_id: str
    package_number: str | None = None
    invoice_number: str | None = None  # these are searched for, until the payload is purged
    purchase_order: str | None = None
    informal_key: str | None = None  # of an informal entry: its day, and the digest of its consignee or `several`
    informal_usd: str | None = None  # its US dollars; of several consignees as a JSON object, by digest
    control_number_key: str | None = None  # of its carrier and control number; None too if a later export took it
    invoice_key: str | None = None  # of its invoice number and seller, in the mode of its export
    released: bool = False  # a newer revision of its export uses its numbers now
    same_since: int | None = None  # the revision since which its customs broker has the same; None means its own
    treatment_digest: str
    document: str = text_column()
    tariff: str | None = Field(default=None, sa_type=Text)  # kept at acceptance, as JSON: documents estimate duty by it
    created_at: datetime = timestamp_column()


class Step(SQLModel, table=True):
    """One step of an export (unit_no 0) or of one of its units, with its state, fence and lease."""

    __tablename__ = "steps"
    __table_args__ = (
        partial_index("ix_steps_due_at", "due_at", where=text("state = 'ready'")),
        # The first steps of all queued exports are due; this finds the others.
        partial_index("ix_steps_due_later", "due_at", where=text("state = 'ready' AND name <> 'record_packages'")),
        partial_index("ix_steps_lost", "due_at", where=text("state = 'ready' AND error IS NULL AND attempts > 1")),
        partial_index("ix_steps_stalled", "stalled_since", where=text("state = 'ready' AND stalled_since IS NOT NULL")),
        partial_index("ix_steps_retrying", "name", where=text("state = 'ready' AND error IS NOT NULL")),
        partial_index("ix_steps_finished_at", "finished_at", where=text("finished_at IS NOT NULL")),
        Index(
            "ix_steps_large",
            "due_at",
            postgresql_where=text("state = 'ready' AND large"),
            sqlite_where=text("state = 'ready' AND large = 1"),
        ),
    )

    export_id: str = Field(primary_key=True, foreign_key="exports.id")
    unit_no: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    position: int
    large: bool = Field(default=False, sa_column_kwargs={"server_default": false()})  # of a unit with much on it
    state: str
    fence: int = 0
    attempts: int = 0
    lease_until: datetime | None = instant_column(nullable=True)
    due_at: datetime | None = instant_column(nullable=True)
    stalled_since: datetime | None = instant_column(nullable=True)  # since a sweep found it due, no worker claimed it
    started_at: datetime | None = instant_column(nullable=True)
    finished_at: datetime | None = instant_column(nullable=True)
    error: str | None = None


class ExportPackage(SQLModel, table=True):
    """A physical handling unit."""

    __tablename__ = "packages"
    __table_args__ = (
        ForeignKeyConstraint(["export_id", "unit_no"], ["units.export_id", "units.unit_no"]),
        partial_index("uq_packages_account_id_sscc", "account_id", "sscc", where=text("NOT released"), unique=True),
        partial_index("ix_packages_released_sscc", "account_id", "sscc", "export_id", where=text("released")),
        Index("ix_packages_account_id_lpn", "account_id", "lpn"),
    )

    export_id: str = Field(primary_key=True)
    unit_no: int = Field(primary_key=True)
    package_ref: str = Field(primary_key=True)
    account_id: str
    position: int
    type: str
    sscc: str | None = None
    sscc_issued: bool = False
    released: bool = False  # another package may carry its SSCC: the export was cancelled or superseded, or is a test
    lpn: str | None = None
    parent_ref: str | None = None
    length_cm: str
    width_cm: str
    height_cm: str
    gross_weight_kg: str
    tare_weight_kg: str
    tracking_number: str | None = None
    order_id: str | None = None
    contents: list[dict[str, str]] = Field(sa_type=JSON_TYPE)


class LineTreatment(SQLModel, table=True):
    """The treatment of one invoice line, and the digest that every document repeats."""

    __tablename__ = "treatments"
    __table_args__ = (ForeignKeyConstraint(["export_id", "unit_no"], ["units.export_id", "units.unit_no"]),)

    export_id: str = Field(primary_key=True)
    unit_no: int = Field(primary_key=True)
    line_ref: str = Field(primary_key=True)
    position: int
    hts_code: str
    country_of_origin: str
    chapter99: list[dict[str, Any]] = Field(sa_type=JSON_TYPE)
    section232: list[dict[str, Any]] = Field(sa_type=JSON_TYPE)
    pga: list[dict[str, Any]] = Field(sa_type=JSON_TYPE)
    digest: str


class Artifact(SQLModel, table=True):
    """A document of a customs package; the store holds its bytes under their hash."""

    __tablename__ = "artifacts"
    __table_args__ = (
        ForeignKeyConstraint(["export_id", "unit_no"], ["units.export_id", "units.unit_no"]),
        UniqueConstraint("export_id", "unit_no", "artifact_type"),
        Index("ix_artifacts_sha256_id", "sha256", "id"),
    )

    id: str = Field(primary_key=True)
    export_id: str
    unit_no: int
    account_id: str
    artifact_type: str
    filename: str
    media_type: str
    size: int = Field(sa_type=BigInteger)
    sha256: str
    template_version: str
    generated_at: datetime = timestamp_column()
    purged_at: datetime | None = instant_column(nullable=True)  # since then its bytes are not in the store


class IdempotencyRecord(SQLModel, table=True):
    """The first response to a request with an idempotency key; a repeated request gets it again."""

    __tablename__ = "idempotency_records"

    account_id: str = Field(primary_key=True, foreign_key="accounts.id")
    key: str = Field(primary_key=True)
    fingerprint: str
    export_id: str = Field(foreign_key="exports.id")
    status: int
    body: str = text_column()
    created_at: datetime = timestamp_column()


class LegalHold(SQLModel, table=True):
    """A hold that keeps records from the purge: those of one export and its batch, or all of an account. Never deleted."""

    __tablename__ = "legal_holds"
    __table_args__ = (Index("ix_legal_holds_account_id", "account_id", "id"),)

    id: str = Field(primary_key=True)
    account_id: str = Field(foreign_key="accounts.id")
    export_id: str | None = Field(default=None, foreign_key="exports.id")
    reason: str = text_column()
    placed_by: str
    placed_at: datetime = timestamp_column()
    released_by: str | None = None
    released_at: datetime | None = instant_column(nullable=True)


class SavedFilter(SQLModel, table=True):
    """A filter of the list of exports, saved under a name for the people of an account."""

    __tablename__ = "saved_filters"

    account_id: str = Field(primary_key=True, foreign_key="accounts.id")
    name: str = Field(primary_key=True)
    query: str = text_column()
    saved_by: str
    saved_at: datetime = timestamp_column()
