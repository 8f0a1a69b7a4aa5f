"""The tables of synced products, orders and plan templates, and of the batches that were planned from them."""

from datetime import datetime

from sqlalchemy import UniqueConstraint, text
from sqlmodel import Field, SQLModel

from pipeline.core.columns import instant_column, partial_index, text_column, timestamp_column


class Product(SQLModel, table=True):
    """The customs data of a product, as the account synced it last; `version` counts its contents."""

    __tablename__ = "products"
    __table_args__ = (UniqueConstraint("id"),)

    account_id: str = Field(foreign_key="accounts.id", primary_key=True)
    test: bool = Field(primary_key=True)  # the data of test keys and live keys are separate
    external_id: str = Field(primary_key=True)
    id: str
    version: int = 1
    content_hash: str
    document: str = text_column()
    synced_at: datetime = timestamp_column()


class Order(SQLModel, table=True):
    """An order, as the account synced it last, and the batch that it is planned in or was exported with."""

    __tablename__ = "orders"
    __table_args__ = (
        UniqueConstraint("id"),
        partial_index("ix_orders_batch", "account_id", "batch_id", where=text("batch_id IS NOT NULL")),
        partial_index("ix_orders_export", "export_id", where=text("export_id IS NOT NULL")),
        partial_index("ix_orders_unexported", "synced_at", where=text("export_id IS NULL")),
    )

    account_id: str = Field(foreign_key="accounts.id", primary_key=True)
    test: bool = Field(primary_key=True)
    external_id: str = Field(primary_key=True)
    id: str
    version: int = 1
    content_hash: str
    document: str = text_column()  # {} since its export was purged
    synced_at: datetime = timestamp_column()
    batch_id: str | None = None  # the batch whose plan has it; no other batch may have it until `held_until`
    plan_hash: str | None = None
    held_until: datetime | None = instant_column(nullable=True)
    export_id: str | None = Field(default=None, foreign_key="exports.id")  # the export that it left with


class PlanTemplate(SQLModel, table=True):
    """The facts that all plans of an account to one country share: parties, terms and entry data."""

    __tablename__ = "plan_templates"

    account_id: str = Field(foreign_key="accounts.id", primary_key=True)
    test: bool = Field(primary_key=True)
    destination_country: str = Field(primary_key=True)
    version: int = 1
    content_hash: str
    document: str = text_column()
    synced_at: datetime = timestamp_column()


class PlannedBatch(SQLModel, table=True):
    """A batch that was planned from orders, and its newest plan; its row is locked while the batch is planned."""

    __tablename__ = "planned_batches"

    account_id: str = Field(foreign_key="accounts.id", primary_key=True)
    test: bool = Field(primary_key=True)
    batch_id: str = Field(primary_key=True)
    plan_hash: str
    orders: int
    #: JSON: the versions of the products and of the plan template that its plan is made from.
    versions: str = text_column()
    created_at: datetime = timestamp_column()
    planned_at: datetime = timestamp_column()


class SyncRecord(SQLModel, table=True):
    """The first response to a sync or plan request with an idempotency key; kept for thirty days."""

    __tablename__ = "sync_records"

    account_id: str = Field(foreign_key="accounts.id", primary_key=True)
    key: str = Field(primary_key=True)
    fingerprint: str
    body: str = text_column()
    created_at: datetime = timestamp_column()
