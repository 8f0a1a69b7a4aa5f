"""The tables and their constraints, nothing else."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKeyConstraint,
    Index,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from pipeline.db import Instant, database_now

NAMING = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
SQLModel.metadata.naming_convention = NAMING

Json = JSON().with_variant(JSONB(), "postgresql")


def _instant(*, nullable: bool = False) -> Any:
    return Field(default=None, sa_type=Instant, nullable=nullable)


def _written_at() -> Any:
    # The database's clock fills it in, on either database, because no server default is spelt alike on both.
    return Field(default=None, sa_type=Instant, nullable=False, sa_column_kwargs={"default": database_now()})


def _text() -> Any:
    return Field(sa_type=Text)


class Account(SQLModel, table=True):
    """A merchant: the owner of everything below, and the counters that must never give a number twice."""

    __tablename__ = "accounts"

    id: str = Field(primary_key=True)
    name: str
    gs1_prefix: str | None = None
    packages_numbered: int = Field(default=0, sa_type=BigInteger)
    ssccs_issued: int = Field(default=0, sa_type=BigInteger)
    created_at: datetime = _written_at()


class ApiKey(SQLModel, table=True):
    """A bearer key, of which only the hash is kept."""

    __tablename__ = "api_keys"

    id: str = Field(primary_key=True)
    account_id: str = Field(foreign_key="accounts.id", index=True)
    name: str
    mode: str  # live | test
    roles: list[str] = Field(sa_type=Json)
    secret_hash: str
    created_at: datetime = _written_at()
    expires_at: datetime | None = _instant(nullable=True)
    revoked_at: datetime | None = _instant(nullable=True)


class Partner(SQLModel, table=True):
    """A customs broker, warehouse or operator of an account."""

    __tablename__ = "partners"

    account_id: str = Field(primary_key=True, foreign_key="accounts.id")
    id: str = Field(primary_key=True)
    kind: str  # customs_broker | warehouse | operator
    name: str
    state: str
    test: bool = False
    path: str | None = None  # borderbuddy | byob, of a customs broker
    artifact_types: list[str] | None = Field(default=None, sa_type=Json)
    created_at: datetime = _written_at()
    updated_at: datetime = _written_at()


class PartnerChannel(SQLModel, table=True):
    """One way to reach a partner; `secret` is encrypted."""

    __tablename__ = "partner_channels"
    __table_args__ = (ForeignKeyConstraint(["account_id", "partner_id"], ["partners.account_id", "partners.id"]),)

    account_id: str = Field(primary_key=True)
    partner_id: str = Field(primary_key=True)
    channel: str = Field(primary_key=True)  # queue | webhook | borderbuddy
    address: str | None = None
    secret: str | None = None
    position: int = 0


class PlanSnapshot(SQLModel, table=True):
    """An approved plan as it was registered or sent, in canonical JSON; never changed."""

    __tablename__ = "plans"
    __table_args__ = (UniqueConstraint("account_id", "batch_id", "plan_hash"),)

    id: str = Field(primary_key=True)
    account_id: str = Field(foreign_key="accounts.id")
    batch_id: str
    plan_hash: str
    document: str = _text()
    registered_at: datetime = _written_at()


class Export(SQLModel, table=True):
    """One execution of one approved plan."""

    __tablename__ = "exports"
    __table_args__ = (
        UniqueConstraint("account_id", "batch_id", "revision"),
        Index("ix_exports_account_id_id", "account_id", "id"),
    )

    id: str = Field(primary_key=True)
    account_id: str = Field(foreign_key="accounts.id")
    batch_id: str
    revision: int = 1
    plan_id: str = Field(foreign_key="plans.id")
    plan_hash: str
    test: bool
    state: str
    broker_id: str
    warehouse_id: str
    ruleset_id: str
    ruleset_as_of: date
    units_total: int
    units_closed: int = 0
    next_seq: int = 1
    treatment_digest: str
    findings: list[dict[str, Any]] = Field(sa_type=Json)
    failure: str | None = None
    trace_parent: str | None = None
    accepted_at: datetime = _written_at()
    updated_at: datetime = _written_at()
    finished_at: datetime | None = _instant(nullable=True)


class ExportUnit(SQLModel, table=True):
    """One unit of the plan, and the customs package made of it."""

    __tablename__ = "units"
    __table_args__ = (
        UniqueConstraint("customs_package_id"),
        UniqueConstraint("account_id", "package_number"),
    )

    export_id: str = Field(primary_key=True, foreign_key="exports.id")
    unit_no: int = Field(primary_key=True)
    account_id: str
    unit_ref: str
    customs_package_id: str
    package_number: str | None = None
    treatment_digest: str
    document: str = _text()
    created_at: datetime = _written_at()


class Step(SQLModel, table=True):
    """One step of an export (unit_no 0) or of one of its units; who holds it, and until when."""

    __tablename__ = "steps"
    __table_args__ = (
        Index(
            "ix_steps_due_at", "due_at", postgresql_where=text("state = 'owed'"), sqlite_where=text("state = 'owed'")
        ),
    )

    export_id: str = Field(primary_key=True, foreign_key="exports.id")
    unit_no: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    position: int
    state: str
    fence: int = 0
    attempts: int = 0
    lease_until: datetime | None = _instant(nullable=True)
    due_at: datetime | None = _instant(nullable=True)
    started_at: datetime | None = _instant(nullable=True)
    finished_at: datetime | None = _instant(nullable=True)
    error: str | None = None


class Package(SQLModel, table=True):
    """A physical handling unit."""

    __tablename__ = "packages"
    __table_args__ = (
        ForeignKeyConstraint(["export_id", "unit_no"], ["units.export_id", "units.unit_no"]),
        UniqueConstraint("account_id", "sscc"),
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
    lpn: str | None = None
    parent_ref: str | None = None
    length_cm: str
    width_cm: str
    height_cm: str
    gross_weight_kg: str
    tare_weight_kg: str
    tracking_number: str | None = None
    order_id: str | None = None
    contents: list[dict[str, str]] = Field(sa_type=Json)


class LineTreatment(SQLModel, table=True):
    """What customs must be told of one invoice line, and the digest that every document repeats."""

    __tablename__ = "treatments"
    __table_args__ = (ForeignKeyConstraint(["export_id", "unit_no"], ["units.export_id", "units.unit_no"]),)

    export_id: str = Field(primary_key=True)
    unit_no: int = Field(primary_key=True)
    line_ref: str = Field(primary_key=True)
    position: int
    hts_code: str
    country_of_origin: str
    chapter99: list[dict[str, Any]] = Field(sa_type=Json)
    section232: list[dict[str, Any]] = Field(sa_type=Json)
    pga: list[dict[str, Any]] = Field(sa_type=Json)
    digest: str


class Artifact(SQLModel, table=True):
    """A document of a customs package; its bytes lie in the store under their hash."""

    __tablename__ = "artifacts"
    __table_args__ = (
        ForeignKeyConstraint(["export_id", "unit_no"], ["units.export_id", "units.unit_no"]),
        UniqueConstraint("export_id", "unit_no", "artifact_type"),
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
    generated_at: datetime = _written_at()


class Event(SQLModel, table=True):
    """What happened, in order; only ever added to."""

    __tablename__ = "events"

    export_id: str = Field(primary_key=True, foreign_key="exports.id")
    seq: int = Field(primary_key=True)
    type: str
    at: datetime = _written_at()
    actor: str
    data: dict[str, Any] = Field(sa_type=Json)


class IdempotencyRecord(SQLModel, table=True):
    """The first answer to an idempotency key, replayed to whoever sends it again."""

    __tablename__ = "idempotency_records"

    account_id: str = Field(primary_key=True, foreign_key="accounts.id")
    key: str = Field(primary_key=True)
    fingerprint: str
    export_id: str = Field(foreign_key="exports.id")
    status: int
    body: str = _text()
    created_at: datetime = _written_at()


class BrokerSubmission(SQLModel, table=True):
    """The handoff to the customs broker, and the rung it has climbed to."""

    __tablename__ = "broker_submissions"
    __table_args__ = (UniqueConstraint("export_id", "partner_id"),)

    id: str = Field(primary_key=True)
    export_id: str = Field(foreign_key="exports.id")
    account_id: str
    partner_id: str
    submission_type: str
    path: str
    channel: str
    state: str
    recipient: str | None = None
    subject: str
    sent_at: datetime | None = _instant(nullable=True)
    deadline_at: datetime | None = _instant(nullable=True)
    error_message: str | None = None
    created_at: datetime = _written_at()
    updated_at: datetime = _written_at()


class Acknowledgement(SQLModel, table=True):
    """One answer of the broker; the same answer sent twice is one row."""

    __tablename__ = "acknowledgements"

    submission_id: str = Field(primary_key=True, foreign_key="broker_submissions.id")
    id: str = Field(primary_key=True)
    rung: str
    reference: str | None = None
    entry_number: str | None = None
    message: str | None = None
    fields: list[dict[str, Any]] = Field(sa_type=Json)
    received_at: datetime = _written_at()


class Notification(SQLModel, table=True):
    """What is said: one message, the same id on every try and on every channel."""

    __tablename__ = "notifications"
    __table_args__ = (Index("ix_notifications_export_id_position", "export_id", "position"),)

    id: str = Field(primary_key=True)
    export_id: str = Field(foreign_key="exports.id")
    account_id: str
    audience: str  # customs_broker | warehouse | operator
    event_type: str
    position: int
    data: str = _text()
    created_at: datetime = _written_at()


class Delivery(SQLModel, table=True):
    """To whom: one notification, one recipient, one channel."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("notification_id", "partner_id", "channel"),
        Index("ix_deliveries_lane", "export_id", "partner_id", "channel", "position"),
        Index(
            "ix_deliveries_due_at",
            "due_at",
            postgresql_where=text("state = 'pending'"),
            sqlite_where=text("state = 'pending'"),
        ),
        Index("ix_deliveries_account_id_id", "account_id", "id"),
    )

    id: str = Field(primary_key=True)
    notification_id: str = Field(foreign_key="notifications.id")
    export_id: str = Field(foreign_key="exports.id")
    account_id: str
    audience: str
    partner_id: str
    channel: str
    position: int
    state: str
    fence: int = 0
    attempts: int = 0
    attempts_forgiven: int = 0  # of those, how many were made before a person resent it: the schedule begins anew
    lease_until: datetime | None = _instant(nullable=True)
    due_at: datetime | None = _instant(nullable=True)
    delivered_at: datetime | None = _instant(nullable=True)
    error: str | None = None
    created_at: datetime = _written_at()


class Attempt(SQLModel, table=True):
    """Each try of a delivery; only ever added to."""

    __tablename__ = "attempts"

    delivery_id: str = Field(primary_key=True, foreign_key="deliveries.id")
    number: int = Field(primary_key=True)
    outcome: str  # delivered | failed | refused
    status: str | None = None
    duration_ms: int
    answer: str | None = None
    error_class: str | None = None
    at: datetime = _written_at()


class SandboxHandoff(SQLModel, table=True):
    """What the built-in sandbox broker received, and how it answers."""

    __tablename__ = "sandbox_handoffs"

    id: str = Field(primary_key=True)  # the notification's id: the same handoff twice is one row
    submission_id: str
    path: str
    invoice_numbers: list[str] = Field(sa_type=Json)
    outcome: str
    answer: dict[str, Any] = Field(sa_type=Json)
    received_at: datetime = _written_at()


class Heartbeat(SQLModel, table=True):
    """When a worker last made progress: a live process is no evidence of that."""

    __tablename__ = "heartbeats"

    worker: str = Field(primary_key=True)
    last_progress_at: datetime = _written_at()
