"""Tables of API keys, of people with their sessions, and of partners with their endpoints, secrets, portal links and connection tests."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from pipeline.core.columns import JSON_TYPE, instant_column, partial_index, timestamp_column


class ApiKey(SQLModel, table=True):
    """An API key. Only the hash of its secret is stored."""

    __tablename__ = "api_keys"
    __table_args__ = (Index("ix_api_keys_account_id", "account_id", "created_at", "id"),)

    id: str = Field(primary_key=True)
    account_id: str = Field(foreign_key="accounts.id")
    name: str
    mode: str  # live | test
    roles: list[str] = Field(sa_type=JSON_TYPE)
    secret_hash: str
    created_at: datetime = timestamp_column()
    expires_at: datetime | None = instant_column(nullable=True)
    revoked_at: datetime | None = instant_column(nullable=True)
    last_used_at: datetime | None = instant_column(nullable=True)  # accurate to a minute, to save writes


class Person(SQLModel, table=True):
    """A person who signs in; a person may belong to several accounts."""

    __tablename__ = "people"

    id: str = Field(primary_key=True)
    email: str = Field(unique=True)  # in lower case
    name: str
    disabled_at: datetime | None = instant_column(nullable=True)
    created_at: datetime = timestamp_column()


class Credential(SQLModel, table=True):
    """How a person proves who they are. No account sees it. Without a row, only a one-time link helps."""

    __tablename__ = "credentials"
    __table_args__ = (UniqueConstraint("issuer", "subject"),)

    person_id: str = Field(primary_key=True, foreign_key="people.id")
    password_hash: str | None = None  # argon2id
    totp_secret: str | None = None  # encrypted
    totp_step: int = Field(default=0, sa_type=BigInteger)  # the time step of the last accepted code
    issuer: str | None = None  # of the OpenID provider
    subject: str | None = None  # the person's id there
    changed_at: datetime = timestamp_column()


class RecoveryCode(SQLModel, table=True):
    """A code that replaces one TOTP code once; only its hash is stored."""

    __tablename__ = "recovery_codes"

    person_id: str = Field(primary_key=True, foreign_key="people.id")
    code_hash: str = Field(primary_key=True)
    used_at: datetime | None = instant_column(nullable=True)


class Membership(SQLModel, table=True):
    """What a person may do on an account, from the instant at which the person joined."""

    __tablename__ = "memberships"
    __table_args__ = (
        Index("ix_memberships_account_id", "account_id", "invited_at", "person_id"),
        Index("ix_memberships_person_id", "person_id"),
    )

    account_id: str = Field(primary_key=True, foreign_key="accounts.id")
    person_id: str = Field(primary_key=True, foreign_key="people.id")
    mode: str  # live | test
    roles: list[str] = Field(sa_type=JSON_TYPE)
    invited_by: str
    invited_name: str | None = None  # as the account chose it: until the person joins, it sees no other name
    invited_at: datetime = timestamp_column()
    joined_at: datetime | None = instant_column(nullable=True)


class OneTimeLink(SQLModel, table=True):
    """A link by which a person joins an account or gets new credentials; only the hash of its token is stored."""

    __tablename__ = "one_time_links"
    __table_args__ = (Index("ix_one_time_links_person_id", "person_id"),)

    token_hash: str = Field(primary_key=True)
    account_id: str = Field(foreign_key="accounts.id")
    person_id: str = Field(foreign_key="people.id")
    purpose: str  # join | reset | enter
    expires_at: datetime = instant_column()
    used_at: datetime | None = instant_column(nullable=True)
    created_at: datetime = timestamp_column()


class SignedInSession(SQLModel, table=True):
    """A signed-in browser, on one account at a time; only the hash of its token is stored."""

    __tablename__ = "sessions"
    __table_args__ = (
        Index("ix_sessions_person_id", "person_id", "id"),
        partial_index("ix_sessions_account_id", "account_id", "id", where=text("ended_at IS NULL")),
        Index("ix_sessions_expires_at", "expires_at"),
    )

    id: str = Field(primary_key=True)
    token_hash: str = Field(unique=True)
    person_id: str = Field(foreign_key="people.id")
    account_id: str = Field(foreign_key="accounts.id")
    method: str  # password | provider | link
    address: str  # of the client, without its last part
    agent: str  # the browser and its system
    id_token: str | None = None  # of the OpenID provider, encrypted; tells it whose session ends there too
    created_at: datetime = timestamp_column()
    seen_at: datetime = timestamp_column()  # accurate to a minute, to save writes
    expires_at: datetime = instant_column()
    ended_at: datetime | None = instant_column(nullable=True)


class Guessing(SQLModel, table=True):
    """The failed sign-ins from one place or for one e-mail address, until they are an hour old."""

    __tablename__ = "guesses"
    __table_args__ = (Index("ix_guesses_last_at", "last_at"),)

    key: str = Field(primary_key=True)  # a hash: the address may be of somebody who is unknown
    failures: int
    last_at: datetime = instant_column()
    locked_until: datetime | None = instant_column(nullable=True)


class Partner(SQLModel, table=True):
    """A customs broker, warehouse, operator or upstream service of an account."""

    __tablename__ = "partners"
    __table_args__ = (UniqueConstraint("kind", "routing_name"),)

    account_id: str = Field(primary_key=True, foreign_key="accounts.id")
    id: str = Field(primary_key=True)
    kind: str  # customs_broker | warehouse | operator | upstream
    name: str
    routing_name: str | None = None  # the name in routing keys, unique over accounts; None for operators (by account)
    state: str
    test: bool = False
    path: str | None = None  # borderbuddy | byob, of a customs broker
    artifact_types: list[str] | None = Field(default=None, sa_type=JSON_TYPE)
    profile: dict[str, Any] | None = Field(default=None, sa_type=JSON_TYPE)  # the customs broker's import template
    says_summaries: bool | None = None  # a customs broker has said what became of an entry summary; else None
    reply_links_revoked: int = 0  # how often; links in older e-mails are not valid
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
        Index("ix_portal_links_account_id_partner_id", "account_id", "partner_id", "id"),
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
