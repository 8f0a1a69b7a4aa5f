"""Tables of API keys, and of partners with their endpoints, secrets, portal links and connection tests."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKeyConstraint, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from pipeline.core.columns import JSON_TYPE, instant_column, timestamp_column


class ApiKey(SQLModel, table=True):
    """An API key. Only the hash of its secret is stored."""

    __tablename__ = "api_keys"

    id: str = Field(primary_key=True)
    account_id: str = Field(foreign_key="accounts.id", index=True)
    name: str
    mode: str  # live | test
    roles: list[str] = Field(sa_type=JSON_TYPE)
    secret_hash: str
    created_at: datetime = timestamp_column()
    expires_at: datetime | None = instant_column(nullable=True)
    revoked_at: datetime | None = instant_column(nullable=True)
    last_used_at: datetime | None = instant_column(nullable=True)  # accurate to a minute, to save writes


class Partner(SQLModel, table=True):
    """A customs broker, warehouse or operator of an account."""

    __tablename__ = "partners"
    __table_args__ = (UniqueConstraint("kind", "routing_name"),)

    account_id: str = Field(primary_key=True, foreign_key="accounts.id")
    id: str = Field(primary_key=True)
    kind: str  # customs_broker | warehouse | operator
    name: str
    routing_name: str | None = None  # the name in routing keys, unique over accounts; None for operators (by account)
    state: str
    test: bool = False
    path: str | None = None  # borderbuddy | byob, of a customs broker
    artifact_types: list[str] | None = Field(default=None, sa_type=JSON_TYPE)
    profile: dict[str, Any] | None = Field(default=None, sa_type=JSON_TYPE)  # the customs broker's import template
    endpoints_changed_at: datetime = timestamp_column()  # older connection tests are outdated
    created_at: datetime = timestamp_column()
    updated_at: datetime = timestamp_column()


class PartnerChannel(SQLModel, table=True):
    """One endpoint of a partner, with its circuit breaker. `credential` is encrypted."""

    __tablename__ = "partner_channels"
    __table_args__ = (ForeignKeyConstraint(["account_id", "partner_id"], ["partners.account_id", "partners.id"]),)

    account_id: str = Field(primary_key=True)
    partner_id: str = Field(primary_key=True)
    channel: str = Field(primary_key=True)  # queue | webhook | email | sftp | borderbuddy
    endpoint: dict[str, Any] = Field(sa_type=JSON_TYPE)  # as it was registered, without its credential
    credential: str | None = None
    position: int = 0
    failures: int = 0  # consecutive, over all exports
    window_began_at: datetime | None = instant_column(nullable=True)
    window_attempts: int = 0
    window_failures: int = 0
    open_until: datetime | None = instant_column(nullable=True)  # the circuit breaker allows no attempt until then
    polled_at: datetime | None = instant_column(nullable=True)


class PartnerSecret(SQLModel, table=True):
    """A signing secret of a partner, encrypted. An older secret stays valid until `ends_at`."""

    __tablename__ = "partner_secrets"
    __table_args__ = (ForeignKeyConstraint(["account_id", "partner_id"], ["partners.account_id", "partners.id"]),)

    account_id: str = Field(primary_key=True)
    partner_id: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    sealed: str
    created_at: datetime = timestamp_column()
    ends_at: datetime | None = instant_column(nullable=True)


class PortalLink(SQLModel, table=True):
    """A link by which a partner opens its portal. Only the hash of its token is stored."""

    __tablename__ = "portal_links"
    __table_args__ = (
        ForeignKeyConstraint(["account_id", "partner_id"], ["partners.account_id", "partners.id"]),
        Index("ix_portal_links_account_id_partner_id", "account_id", "partner_id"),
    )

    id: str = Field(primary_key=True)
    account_id: str
    partner_id: str
    token_hash: str
    created_by: str
    created_at: datetime = timestamp_column()
    expires_at: datetime = instant_column()
    revoked_at: datetime | None = instant_column(nullable=True)
    last_used_at: datetime | None = instant_column(nullable=True)  # accurate to a minute, to save writes


class UsedSignature(SQLModel, table=True):
    """A signed request of a partner and the submission that it answers. Deleted when its timestamp is too old."""

    __tablename__ = "used_signatures"
    __table_args__ = (ForeignKeyConstraint(["account_id", "partner_id"], ["partners.account_id", "partners.id"]),)

    account_id: str = Field(primary_key=True)
    partner_id: str = Field(primary_key=True)
    digest: str = Field(primary_key=True)  # SHA-256 of what was signed, in hex
    submission_id: str
    used_at: datetime = timestamp_column()


class ConnectionTest(SQLModel, table=True):
    """One staged test of all endpoints of a partner. Rows are only added, never changed."""

    __tablename__ = "connection_tests"
    __table_args__ = (
        ForeignKeyConstraint(["account_id", "partner_id"], ["partners.account_id", "partners.id"]),
        Index("ix_connection_tests_account_id_partner_id", "account_id", "partner_id"),
    )

    id: str = Field(primary_key=True)
    account_id: str
    partner_id: str
    passed: bool
    endpoints: list[dict[str, Any]] = Field(sa_type=JSON_TYPE)
    tested_by: str
    tested_at: datetime = timestamp_column()
