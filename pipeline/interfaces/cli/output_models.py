"""The objects that commands print with `--json` and that the API does not have."""

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from pipeline.accounts.api_keys import Mode
from pipeline.accounts.schemas import LeadsView, OwnKey
from pipeline.exports.schemas.export import PreflightReport


class CommandOutput(BaseModel):
    """An object that a command prints, with names in camelCase."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True, from_attributes=True)


class NamedInSnakeCase(BaseModel):
    """An object that a command prints, with names as in the rules files."""

    model_config = ConfigDict(extra="forbid")


class CommandError(BaseModel):
    """What any command prints if it fails; an error of the API has all members of its `problem`."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    error_code: str
    message: str
    remedy: str | None = None
    field: str | None = None
    details: dict[str, Any] | None = None
    request_id: str | None = None


class AccountOutput(CommandOutput):
    """An account."""

    id: str
    name: str
    gs1_prefix: str | None


class ListedAccount(AccountOutput):
    """An account in the list."""

    mail_domains: list[str] | None = Field(description="To which the account may send mail; null for any")
    people_domains: list[str] | None = Field(description="Of the people whom it may invite; null for any")
    languages: list[str] = Field(description="Of the documents that new exports print")


class AccountLanguages(CommandOutput):
    """The languages of the documents that new exports print."""

    id: str
    languages: list[str]


class AccountLeads(CommandOutput):
    """The account's own leads of deadlines."""

    id: str
    leads: LeadsView


class LogoSize(CommandOutput):
    """A logo as it is stored."""

    width: int = Field(description="In pixels")
    height: int = Field(description="In pixels")


class AccountLogo(CommandOutput):
    """The logo that new exports print; null for none."""

    id: str
    logo: LogoSize | None


class MailDomains(CommandOutput):
    """The domains to which an account may send mail; null for any."""

    id: str
    mail_domains: list[str] | None


class PeopleDomains(CommandOutput):
    """The domains of the people whom an account may invite; null for any."""

    id: str
    people_domains: list[str] | None


class SkippedNumbers(CommandOutput):
    """The numbers that were skipped, and the next ones."""

    id: str
    packages_skipped: int
    ssccs_skipped: int
    next_package_number: str
    next_sscc: str | None


class CreatedKeyOutput(CommandOutput):
    """A new key; `key` is shown only now."""

    id: str
    key: str
    account_id: str
    mode: Mode
    roles: list[str]


class RotatedKey(CommandOutput):
    """A new key with the rights of the one that it replaces; `key` is shown only now."""

    id: str
    key: str
    account_id: str
    replaces: str
    expires_at: datetime | None


class ListedKey(CommandOutput):
    """A key, without its secret."""

    id: str
    name: str
    mode: Mode
    roles: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class RevokedKey(CommandOutput):
    """A revoked key."""

    id: str
    revoked: Literal[True]


class InvitedPerson(CommandOutput):
    """A one-time link, shown only now."""

    person_id: str
    email: str
    link: str


class ListedPerson(CommandOutput):
    """A person of an account."""

    person_id: str
    email: str
    name: str
    mode: Mode
    roles: list[str]
    invited_at: datetime
    joined_at: datetime | None
    disabled_at: datetime | None


class HoldOutput(CommandOutput):
    """A legal hold; `exportId` is null if it holds all records of the account."""

    id: str
    account_id: str
    export_id: str | None
    reason: str
    placed_by: str
    placed_at: datetime
    released_by: str | None
    released_at: datetime | None


class ExpiredOutput(CommandOutput):
    """A record whose retention period is over; `exportId` is null for a plan without a kept export."""

    export_id: str | None
    plan_id: str
    account_id: str
    batch_id: str
    entry_on: date
    jurisdiction: str
    years: int
    kept_until: date
    held_by: str | None = Field(description="The legal hold that keeps it")


class PurgeOutput(CommandOutput):
    """What a purge removed; `plans` are those without a kept export."""

    exports: int
    plans: int
    documents: int
    orders: int = Field(description="Synced orders without an export")
    unreadable: list[str] = Field(description="Plans that are kept because their day of entry cannot be read")


class PersonAccess(CommandOutput):
    """Whether a person is disabled."""

    email: str
    disabled: bool


class ProfileOutput(CommandOutput):
    """A profile, without its key."""

    profile: str
    api_url: str
    account: str | None
    current: bool


class Whoami(CommandOutput):
    """The connection that commands use, and its key as the service knows it."""

    api_url: str
    profile: str | None = Field(description="Null if the connection is not that of a profile")
    default_account: str | None = Field(description="The account of commands without --account")
    key: OwnKey


class InitOutput(CommandOutput):
    """What `init` made; `key` is shown only now."""

    account: str
    made: list[str]
    key: str | None
    env_file: str | None


class DemoExport(CommandOutput):
    """An export of the demo."""

    plan: str
    export_id: str
    batch_id: str
    state: str
    status: str
    submission_statuses: list[str]
    invoices: list[str]
    bundle: str


class MessageCount(CommandOutput):
    """How many messages of one type a queue received."""

    queue: str
    type: str
    count: int


class DemoOutput(CommandOutput):
    """The result of the demo."""

    address: str
    seconds: float
    exports: list[DemoExport]
    messages: list[MessageCount]


class ServiceAddress(CommandOutput):
    """Where the service listens; printed once it does."""

    address: str
    embedded: bool = Field(description="Whether the worker runs in the same process")


class ReadyProcess(CommandOutput):
    """A process of the service; printed as one line once it takes requests or messages. Its log is on standard error."""

    process: Literal["web", "worker", "deliveries", "intake"]
    pid: int
    address: str | None = Field(None, description="Where the API listens; null for the other processes")
    metrics_port: int | None = Field(
        None, description="The port that serves the metrics; null if there is none of its own"
    )


class Migration(CommandOutput):
    """Whether the database was changed."""

    migrated: bool


class AgencyRow(CommandOutput):
    """What a line has for an agency, and what it lacks."""

    unit_ref: str
    line_ref: str
    agency: str
    present: list[str]
    missing: list[str]
    person: list[str] = Field(description="What needs a person")
    waived: list[str]


class PreflightOutput(PreflightReport):
    """The report of the API, with the table of lines and agencies."""

    standings: list[AgencyRow]


class ExportTag(CommandOutput):
    """The tag of an export for `amend --if-match`."""

    etag: str


class AddressOutput(CommandOutput):
    """An address."""

    address: str


class FileReceiverOutput(AddressOutput):
    """How to reach the test SFTP server."""

    host_key: str
    password: str


class MailReceiverOutput(CommandOutput):
    """How to reach the test mail server."""

    url: str
    certificate: str


class ReceiverRequest(CommandOutput):
    """A request to the test endpoint, and the status of its answer; null if it hung up."""

    status: int | None
    id: str
    type: str


class UnreadableMessage(CommandOutput):
    """A message in a queue that is not JSON."""

    unreadable: str


class ReplayTotal(CommandOutput):
    """How many messages are sent again."""

    partner_id: str
    messages: int
    exports: int


class ListenerStart(CommandOutput):
    """The first line of `listen`."""

    forward_to: str
    secret: str


class ForwardAttempt(CommandOutput):
    """An attempt to forward a message."""

    id: str
    type: str
    partner_id: str
    delivery_id: str
    export_id: str
    status: int | None
    error: str | None
    duration_ms: int
    retry_in_seconds: int | None
