"""The settings of deliveries: attempts, deadlines, retention, partners, e-mail, SFTP and links."""

import re
from decimal import Decimal
from typing import Annotated, Self

from pydantic import BaseModel, Field, SecretStr, model_validator

from config.execution import Count, Seconds

#: The length of a time before an arrival.
Lead = Annotated[float, Field(ge=0)]

_SMTP_URL = re.compile(
    r"(?P<scheme>smtp|smtp\+starttls|smtps)://(?P<user>[^\s:@/]+:[^\s@/]+@)?([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?"
)
_IMAP_URL = re.compile(
    r"(?:imaps|imap\+starttls)://[^\s:@/]+:[^\s@/]+@(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[!-~]{0,200})?"
)
_MAILBOX = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9.-]+"
_MAIL_FROM = re.compile(rf'[^\x00-\x1f\x7f<>"]+ <{_MAILBOX}>|{_MAILBOX}')


class DeliverySettings(BaseModel):
    """Deliveries to partners, and how long records are kept."""

    delivery_timeout_seconds: Seconds = Field(20, description="Total time of one delivery attempt")
    delivery_senders: Count = Field(
        3, description="Threads of a process that send to one destination at a time; always fewer than all"
    )
    delivery_unhealthy_max: Count = Field(
        4, description="Threads of a process that send to unhealthy destinations, together; at most half of all"
    )
    delivery_batch: Count = Field(500, description="Maximum messages to one recipient in one attempt")
    delivery_schedule_seconds: tuple[Seconds, ...] = Field(
        (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400),
        description="Pauses after failed attempts (the example of Standard Webhooks); after the last, the delivery is dead",
    )
    breaker_failures: Count = Field(10, description="Consecutive failures that open an endpoint's circuit breaker")
    breaker_failure_rate: float = Field(
        0.7,
        gt=0,
        le=1,
        description="Failure rate that also opens it, after at least as many attempts within the window",
    )
    breaker_window_seconds: Seconds = Field(300, description="Length of that window")
    breaker_open_seconds: Seconds = Field(30, description="How long the breaker stays open before the next attempt")

    # Deadlines of submission statuses; the operators are notified of an overdue one once
    deadline_delivered_seconds: Seconds = Field(900, description="From the handoff until its delivery to the broker")
    deadline_received_seconds: Seconds = Field(3600, description="From then until the broker can read it")
    deadline_answered_seconds: Seconds = Field(86_400, description="From then until the broker answers it")
    deadline_filed_seconds: Seconds = Field(172_800, description="From acceptance until the entry is filed")
    deadline_released_seconds: Seconds = Field(432_000, description="From then until customs releases or holds")
    lead_received_seconds: Lead = Field(21_600, description="How long before the arrival the broker can read it")
    lead_answered_seconds: Lead = Field(14_400, description="How long before the arrival the broker answers it")
    lead_filed_seconds: Lead = Field(7200, description="How long before the arrival the entry is filed")
    lead_released_seconds: Lead = Field(0, description="How long before the arrival customs releases or holds")

    # What customs assessed, beside the estimate
    assessed_tolerance_usd: Decimal = Field(
        Decimal(1), ge=0, max_digits=12, decimal_places=2, description="How far an assessed amount may differ, in USD"
    )
    assessed_tolerance_percent: Decimal = Field(
        Decimal(1),
        ge=0,
        le=100,
        decimal_places=4,
        description="The same as a percentage of the estimate; the larger applies",
    )

    # Retention
    retention_years: tuple[tuple[Annotated[str, Field(pattern="^[A-Z]{2}$")], Count], ...] = Field(
        (("US", 5), ("CA", 6)),
        description="Years from the day of entry that records are kept, by country; the longest applies",
    )

    order_days: Count = Field(
        90, description="Days that synced orders without an export are kept; the purge deletes them"
    )

    # Where partners may be reached
    allow_private_destinations: bool = Field(
        False, description="Whether partners may have loopback or private addresses"
    )
    destination_ports: tuple[Count, ...] = Field(
        (22, 443, 2022, 2222, 8022, 8443), description="Ports of partners; any if private destinations are allowed"
    )
    borderbuddy_url: str | None = Field(None, description="Endpoint for handoffs on the borderbuddy path")
    borderbuddy_token: SecretStr | None = Field(None, description="Bearer token for that endpoint")
    borderbuddy_sandbox_url: str | None = Field(
        None, description="The same for test exports; default: the sandbox broker at EXPORTS_INTERNAL_URL"
    )

    # E-mail
    smtp_url: SecretStr | None = Field(
        None,
        description="Mail server: smtp+starttls://, smtps:// or smtp://, as in smtp+starttls://user:password@host:587",
    )
    mail_from: str | None = Field(
        None, description="Sender of every e-mail, as in `Export desk <exports@maple.example>`; people may reply"
    )
    mail_attach_max_bytes: Count = Field(
        10_000_000, description="Maximum size of an e-mail's attachments, before encoding; other documents become links"
    )
    mail_link_days: Count = Field(7, description="Days that document links in an e-mail work")

    imap_url: SecretStr | None = Field(
        None,
        description="Mailbox of answers to the e-mails: imaps:// or imap+starttls://, as in"
        " imaps://user%40maple.example:password@host/INBOX; the service marks what it reads",
    )
    imap_trusted_server: str | None = Field(
        None,
        description="Name of the mail server in its `Authentication-Results`; if set, an answer needs `dmarc=pass`",
    )

    connection_test_seconds: Seconds = Field(30, description="Total time of the connection test of one endpoint")

    # SFTP, and polling for answers
    sftp_timeout_seconds: Seconds = Field(
        120, description="Total time to write one message with its documents to an SFTP server"
    )
    partner_poll_seconds: Seconds = Field(
        60, description="Interval at which a customs broker's SFTP folder or endpoint is polled for answers"
    )
    partner_poll_days: Count = Field(30, description="Days of polling after the last change of a handoff's status")

    # Links to documents
    document_link_seconds: Seconds = Field(
        900, description="How long a document link works that is requested or in a message to a program"
    )

    @property
    def delivery_retries(self) -> int:
        """The attempts that a delivery has after its first one."""
        return len(self.delivery_schedule_seconds)

    @model_validator(mode="after")
    def _check_mail(self) -> Self:
        if self.mail_from and not _MAIL_FROM.fullmatch(self.mail_from):
            raise ValueError("EXPORTS_MAIL_FROM must be an address, as in `Export desk <exports@maple.example>`")
        if self.imap_url is not None and not _IMAP_URL.fullmatch(self.imap_url.get_secret_value()):
            raise ValueError("EXPORTS_IMAP_URL must be a mailbox's URL, as in imaps://user:password@host/INBOX")
        if self.imap_url is not None and not self.mail_from:
            raise ValueError("EXPORTS_IMAP_URL needs the sender that is answered; set EXPORTS_MAIL_FROM too")
        if self.smtp_url is None:
            return self
        server = _SMTP_URL.fullmatch(self.smtp_url.get_secret_value())
        if server is None:
            raise ValueError(
                "EXPORTS_SMTP_URL must be a mail server's URL, as in smtp+starttls://user:password@host:587"
            )
        if server["user"] and server["scheme"] == "smtp":
            raise ValueError("EXPORTS_SMTP_URL would send its password unencrypted; use smtp+starttls:// or smtps://")
        if not self.mail_from:
            raise ValueError("EXPORTS_SMTP_URL needs a sender; set EXPORTS_MAIL_FROM too")
        return self
