"""Tables of submissions, answers, notifications, deliveries and attempts."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, column, text
from sqlmodel import Field, SQLModel

from pipeline.core.columns import JSON_TYPE, instant_column, partial_index, text_column, timestamp_column
from pipeline.exports.states import InboxState, Milestone


class BrokerSubmission(SQLModel, table=True):
    """A handoff to a customs broker, and its status."""

    __tablename__ = "broker_submissions"
    __table_args__ = (
        UniqueConstraint("export_id", "partner_id"),
        partial_index("ix_broker_submissions_deadline_at", "deadline_at", where=text("overdue_at IS NULL")),
        partial_index("ix_broker_submissions_polled_at", "polled_at", where=text("handoff_id IS NOT NULL")),
        Index("ix_broker_submissions_account_id_partner_id", "account_id", "partner_id", "updated_at", "id"),
        # Overdue since before the arrival: the arrival is an alarm of its own.
        partial_index(
            "ix_broker_submissions_arrives_at",
            "arrives_at",
            where=text("overdue_at < arrives_at AND deadline_at IS NOT NULL"),
        ),
        # What is due next in an account.
        partial_index(
            "ix_broker_submissions_account_id_deadline_at",
            "account_id",
            "deadline_at",
            "id",
            where=text("deadline_at IS NOT NULL"),
        ),
        # The portal's list of handoffs whose next answer is due.
        partial_index(
            "ix_broker_submissions_due",
            "account_id",
            "partner_id",
            "deadline_at",
            "id",
            where=text("deadline_at IS NOT NULL"),
        ),
        # The same two alarms of test exports, by the clock of their account, and the next arrival.
        partial_index(
            "ix_broker_submissions_test_deadline_at",
            "test_account_id",
            "deadline_at",
            where=text("test_account_id IS NOT NULL AND overdue_at IS NULL AND deadline_at IS NOT NULL"),
        ),
        partial_index(
            "ix_broker_submissions_test_arrives_at",
            "test_account_id",
            "arrives_at",
            where=text("test_account_id IS NOT NULL AND arrives_at IS NOT NULL AND deadline_at IS NOT NULL"),
        ),
        # The same three for the entry summary after a release.
        partial_index(
            "ix_broker_submissions_summary_due_at",
            "summary_due_at",
            where=text("summary_due_at IS NOT NULL AND summary_overdue_at IS NULL"),
        ),
        partial_index(
            "ix_broker_submissions_account_id_summary_due_at",
            "account_id",
            "summary_due_at",
            "id",
            where=text("summary_due_at IS NOT NULL"),
        ),
        partial_index(
            "ix_broker_submissions_test_summary_due_at",
            "test_account_id",
            "summary_due_at",
            where=text("test_account_id IS NOT NULL AND summary_due_at IS NOT NULL AND summary_overdue_at IS NULL"),
        ),
        partial_index(
            "ix_broker_submissions_overdue",
            "account_id",
            "export_id",
            where=text("overdue_at IS NOT NULL AND deadline_at IS NOT NULL"),
        ),
        # The list filters by each milestone, in the order of its instants.
        *(
            partial_index(
                f"ix_broker_submissions_{name}first_{each}",
                "account_id",
                *columns,
                f"first_{each}_at",
                "export_id",
                where=column(f"first_{each}_at").is_not(None),
            )
            for each in Milestone
            for name, columns in (("", ()), ("partner_", ("partner_id",)))
        ),
    )

    id: str = Field(primary_key=True)
    export_id: str = Field(foreign_key="exports.id")
    account_id: str
    #: The account whose test clock counts for the deadline; None for a live export.
    test_account_id: str | None = None
    partner_id: str
    submission_type: str  # always `handoff`; readers get one that names path and channel
    path: str
    channel: str
    state: str
    recipient: str | None = None
    subject: str
    sent_at: datetime | None = instant_column(nullable=True)
    arrives_at: datetime | None = instant_column(nullable=True)  # when the first goods arrive, by the plan
    #: Their mode of transport; None without an arrival, or if an older version wrote the row.
    arrives_by: str | None = None
    deadline_at: datetime | None = instant_column(nullable=True)  # when the next status must be reached
    overdue_at: datetime | None = instant_column(nullable=True)  # when operators were notified that it is overdue
    #: When the first summary of its released entries must be filed; None once it is, or if the day passed without alarm.
    summary_due_at: datetime | None = instant_column(nullable=True)
    summary_overdue_at: datetime | None = instant_column(nullable=True)  # when operators were notified that it is not
    first_accepted_at: datetime | None = instant_column(nullable=True)
    first_sent_back_at: datetime | None = instant_column(nullable=True)
    first_overdue_at: datetime | None = instant_column(nullable=True)
    handoff_id: str | None = None  # the customs broker's id, if it is polled for answers
    polled_at: datetime | None = instant_column(nullable=True)  # in the future if the next poll can wait
    error_message: str | None = None
    created_at: datetime = timestamp_column()
    updated_at: datetime = timestamp_column()


class Acknowledgement(SQLModel, table=True):
    """One answer of the broker. A repeated answer is the same row."""

    __tablename__ = "acknowledgements"
    __table_args__ = (
        partial_index("ix_acknowledgements_entry_number", "entry_number", where=text("entry_number IS NOT NULL")),
    )

    submission_id: str = Field(primary_key=True, foreign_key="broker_submissions.id")
    id: str = Field(primary_key=True)
    status: str
    reference: str | None = None
    entry_number: str | None = None
    message: str | None = None
    fields: list[dict[str, Any]] = Field(sa_type=JSON_TYPE)
    packages: list[str] | None = Field(default=None, sa_type=JSON_TYPE)  # numbers of customs packages; None means all
    hold: str | None = None  # such as `cbp:exam`
    at: datetime | None = instant_column(nullable=True)  # when the customs broker decided, if it says so
    effective_at: datetime | None = instant_column(nullable=True)
    corrects: str | None = None  # the id of an earlier answer, which counts for nothing
    in_reply_to: str | None = None  # the id of the message to the customs broker that it answers
    attachments: list[str] | None = Field(default=None, sa_type=JSON_TYPE)  # ids
    raw: dict[str, Any] | None = Field(default=None, sa_type=JSON_TYPE)  # what the other system said
    assessed: dict[str, Any] | None = Field(default=None, sa_type=JSON_TYPE)  # the amounts of one entry
    comparison: dict[str, Any] | None = Field(default=None, sa_type=JSON_TYPE)  # an `Assessment`, made as it arrived
    received_at: datetime = timestamp_column()


class ConversationMessage(SQLModel, table=True):
    """One message to the customs broker about a handoff. A repeated message is the same row."""

    __tablename__ = "conversation_messages"

    submission_id: str = Field(primary_key=True, foreign_key="broker_submissions.id")
    id: str = Field(primary_key=True)
    author: str  # the id of a person or a key
    text: str | None = None  # None after the purge
    packages: list[str] | None = Field(default=None, sa_type=JSON_TYPE)  # as those of an answer
    in_reply_to: str | None = None  # the id of an answer, or of an earlier message
    attachments: list[str] | None = Field(default=None, sa_type=JSON_TYPE)  # ids
    written_at: datetime = timestamp_column()


class CustomsEntry(SQLModel, table=True):
    """One customs package of an answered handoff: the fold of the answers about it; see entries/facets.py."""

    __tablename__ = "entries"

    submission_id: str = Field(primary_key=True, foreign_key="broker_submissions.id")
    package_number: str = Field(primary_key=True)
    headline: str
    broker: str | None = None
    release: str | None = None
    holds: list[str] = Field(sa_type=JSON_TYPE)
    bill: str | None = None
    summary: str | None = None
    entry_number: str | None = None
    updated_at: datetime = timestamp_column()


class Notification(SQLModel, table=True):
    """One message about an export or a registered plan. It has the same id on every attempt and channel."""

    __tablename__ = "notifications"
    __table_args__ = (
        Index("ix_notifications_export_id_position", "export_id", "position"),
        partial_index("ix_notifications_plan_id_position", "plan_id", "position", where=text("plan_id IS NOT NULL")),
        CheckConstraint("(export_id IS NULL) <> (plan_id IS NULL)", name="subject"),
    )

    id: str = Field(primary_key=True)
    export_id: str | None = Field(default=None, foreign_key="exports.id")
    plan_id: str | None = Field(default=None, foreign_key="plans.id")  # of a message about a plan without an export
    account_id: str
    audience: str  # customs_broker | warehouse | operator
    event_type: str
    position: int
    data: str = text_column()
    created_at: datetime = timestamp_column()

    @property
    def subject_id(self) -> str:
        """The id of the export or the plan."""
        return self.export_id or self.plan_id or ""


class Delivery(SQLModel, table=True):
    """One notification to one recipient over one channel."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("notification_id", "partner_id", "channel"),
        Index("ix_deliveries_stream", "subject_id", "partner_id", "channel", "position"),
        partial_index("ix_deliveries_due_at", "due_at", where=text("state = 'pending'")),
        partial_index(
            "ix_deliveries_stalled", "stalled_since", where=text("state = 'pending' AND stalled_since IS NOT NULL")
        ),
        Index("ix_deliveries_account_id_id", "account_id", "id"),
        partial_index(
            "ix_deliveries_idle", "account_id", "state", "id", where=text("state <> 'pending' AND state <> 'delivered'")
        ),
        Index("ix_deliveries_partner", "account_id", "partner_id", "subject_id", "id"),
        partial_index(
            "ix_deliveries_partner_state",
            "account_id",
            "partner_id",
            "state",
            "subject_id",
            "id",
            # Written so that PostgreSQL does not take it for other queries of one state, such as the sweeper's.
            where=text("(state <> 'delivered') IS TRUE"),
        ),
        partial_index(
            "ix_deliveries_inbox", "account_id", "inbox", "id", where=text("(state = 'dead') IS TRUE")
        ),  # for the inbox, too
    )

    id: str = Field(primary_key=True)
    notification_id: str = Field(foreign_key="notifications.id")
    subject_id: str  # of the notification: its export, or its plan
    account_id: str
    audience: str
    partner_id: str
    channel: str
    position: int
    state: str
    fence: int = 0
    attempts: int = 0
    # Attempts before the last resend, which restarts the schedule, minus attempts whose worker was lost.
    attempts_not_counted: int = 0
    lease_until: datetime | None = instant_column(nullable=True)
    due_at: datetime | None = instant_column(nullable=True)
    stalled_since: datetime | None = instant_column(nullable=True)  # when a sweep first found it due; unclaimed since
    delivered_at: datetime | None = instant_column(nullable=True)
    # Of a dead letter. A trigger on `exports` keeps it; about a plan, a person and the purge do.
    inbox: str = InboxState.OPEN.value
    acknowledged_seq: int | None = None  # the act by which a person acknowledged a dead letter about a plan
    error: str | None = None
    created_at: datetime = timestamp_column()


class Attempt(SQLModel, table=True):
    """One attempt of a delivery. Rows are only added, never changed."""

    __tablename__ = "attempts"
    __table_args__ = (Index("ix_attempts_at", "at"),)

    delivery_id: str = Field(primary_key=True, foreign_key="deliveries.id")
    number: int = Field(primary_key=True)
    outcome: str  # delivered | failed | refused
    status: str | None = None
    duration_ms: int
    answer: str | None = None
    error_class: str | None = None
    exchange: dict[str, Any] | None = Field(default=None, sa_type=JSON_TYPE)  # see channels/protocol.py
    at: datetime = timestamp_column()


class SandboxHandoff(SQLModel, table=True):
    """A handoff that the built-in sandbox broker received, and its answer."""

    __tablename__ = "sandbox_handoffs"

    id: str = Field(primary_key=True)  # the notification's id: a repeated handoff is the same row
    submission_id: str
    path: str
    invoice_numbers: list[str] = Field(sa_type=JSON_TYPE)
    outcome: str
    answer: dict[str, Any] = Field(sa_type=JSON_TYPE)
    received_at: datetime = timestamp_column()
