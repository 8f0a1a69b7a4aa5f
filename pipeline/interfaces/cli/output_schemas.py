"""The JSON Schema of what each command prints with `--json`; `exports schema cli` prints them."""

from datetime import date, datetime
from typing import Any, Final

from pydantic import Field, TypeAdapter

from pipeline.accounts.schemas import (
    CreatedPartner,
    CreatedPortalLink,
    DeliveryPage,
    DeliveryView,
    PartnerTested,
    PartnerView,
    PortalLinkView,
    RotatedSecret,
)
from pipeline.core.errors import NotFound
from pipeline.core.findings import Finding
from pipeline.customs.reference.catalog import DatedRow
from pipeline.customs.reference.chapter99 import HeadingFamily, HeadingRow
from pipeline.customs.reference.diff import Change
from pipeline.customs.schemas import LineDecision, OriginCertificationView, TariffNumberView, WaiverView
from pipeline.customs.tariff.diff import TariffChange
from pipeline.customs.tariff.editions import EditionKind
from pipeline.deliveries.schemas.cloudevent import CloudEventEnvelope
from pipeline.deliveries.schemas.views import AcknowledgementReceipt, NotificationTrace
from pipeline.exports.schemas.account_clock import ClockView
from pipeline.exports.schemas.deadlines import CalendarLink, DeadlinePage
from pipeline.exports.schemas.export import ActPage, ArtifactView, EventView, ExportPage, ExportView
from pipeline.exports.schemas.feed import FeedEventView
from pipeline.exports.schemas.filed_entries import FiledEntriesReport
from pipeline.exports.schemas.inbox import InboxView
from pipeline.exports.schemas.plan import Plan
from pipeline.exports.schemas.registered_plans import RegisteredPlanSummary, RegisteredPlanView
from pipeline.exports.schemas.submissions import ConversationItem
from pipeline.interfaces.cli import output_models as models
from pipeline.interfaces.cli import report_models as reports
from pipeline.interfaces.cli.config import SettingView
from pipeline.interfaces.contracts.json_schemas import DIALECT, Json, allow_more_members
from pipeline.ops.audit import SignedCheckpoint
from pipeline.ops.doctor import CheckResult
from pipeline.ops.schemas import StatsView
from pipeline.orders.views import OrderView, PlanAnswer, SyncReceipt


class ShownHeading(HeadingRow):
    """A row of a heading, and whether it is in force on the day."""

    is_in_force: bool = Field(alias="in_force")


class HeadingOutput(models.NamedInSnakeCase):
    """All rows of a heading of chapter 99, and the family of headings that it belongs to."""

    heading: str
    on: date
    rows: list[ShownHeading]
    family: HeadingFamily | None


class RulesetSummary(models.NamedInSnakeCase):
    """A ruleset, and how many of its rows have each status."""

    id: str
    as_of: date
    content_hash: str
    confirmed: int
    probable: int
    check: int


class EditionOutput(models.NamedInSnakeCase):
    """An edition of the tariff, of agency flags or of duty cases."""

    name: str
    kind: EditionKind
    effective_from: date
    effective_to: date | None
    content_hash: str
    source: str
    rows: int
    numbers: int
    chapters: list[str]


class ImportedEditionOutput(EditionOutput):
    """An edition after its import; not `created` if the same file was imported before."""

    created: bool


class ListedEdition(EditionOutput):
    """An edition, and the last day on which it is in force."""

    last_day: date | None


class SigningKey(models.CommandOutput):
    """The public key of a private key for signing rules, and whether the private key was created."""

    public_key: str
    created: bool


class SignedRules(models.CommandOutput):
    """The file that holds the signature, and what is signed."""

    file: str
    content_hash: str


class CopiedRules(models.CommandOutput):
    """The folder that was written, and its rules."""

    folder: str
    content_hash: str


class StoredRules(models.CommandOutput):
    """A ruleset in the database."""

    ruleset_id: str
    as_of: date
    content_hash: str
    active: bool
    activated_at: datetime | None
    activated_by: str | None
    place: str
    signed_by: str | None


class NewlyStoredRules(models.CommandOutput):
    """A ruleset that is in the database now."""

    ruleset_id: str
    content_hash: str


class ActivatedRules(models.CommandOutput):
    """The active ruleset, and whether it was not active before."""

    content_hash: str
    activated: bool


class ChangedPlan(models.CommandOutput):
    """A plan in which the active rules find something else; `problem` says why it could not be checked."""

    plan_id: str
    account_id: str
    batch_id: str
    export_id: str | None
    ruleset: str
    editions: list[str]
    editions_before: list[str] | None
    appeared: list[Finding]
    gone: list[Finding]
    problem: str | None


class RecheckResult(models.CommandOutput):
    """What a recheck of the open plans found, with the first thousand plans that changed."""

    checked: int
    changed: int
    plans: list[ChangedPlan]


#: command -> the type of what it prints with `--json`; the commands of `LINES` print one such document a line
OUTPUTS: Final[dict[str, Any]] = {
    "demo": models.DemoOutput,
    "init": models.InitOutput,
    "login": models.ProfileOutput,
    "whoami": models.Whoami,
    "serve": models.ServiceAddress,
    "web": models.ReadyProcess,
    "worker": models.ReadyProcess,
    "intake": models.ReadyProcess,
    "deliveries": models.ReadyProcess,
    "migrate": models.Migration,
    "doctor": list[CheckResult],
    "execute": ExportView,
    "amend": ExportView,
    "cancel": ExportView,
    "hold": ExportView,
    "withdraw": ExportView,
    "release": ExportView,
    "retry": ExportView,
    "preflight": models.PreflightOutput,
    "inbox": InboxView,
    "deadlines": DeadlinePage,
    "calendar": CalendarLink,
    "test-clock": ClockView,
    "sandbox-answer": AcknowledgementReceipt,
    "reply": ConversationItem,
    "import-filed": FiledEntriesReport,
    "conversation": list[ConversationItem],
    "acknowledge": ExportView,
    "list": ExportPage,
    "open": models.AddressOutput,
    "inspect": ExportView | models.ExportTag,
    "events": FeedEventView | EventView,
    "stats": StatsView,
    "listen": models.ListenerStart | models.ForwardAttempt,
    "consume": CloudEventEnvelope | models.UnreadableMessage,
    "trace": NotificationTrace,
    "verify": reports.BundleResult,
    "rebuild": reports.RebuildOutput,
    "backup": reports.BackupOutput,
    "drill": reports.DrillOutput,
    "schema": list[str] | dict[str, Any] | str,
    "artifacts list": list[ArtifactView] | list[str],
    "artifacts check": reports.BadDocument | reports.StoreCounts,
    "artifacts restore": reports.BadDocument | reports.StoreCounts,
    "plans new": Plan,
    "plans example": Plan,
    "plan-templates sync": SyncReceipt,
    "products sync": SyncReceipt,
    "orders sync": SyncReceipt,
    "orders show": OrderView,
    "orders delete": OrderView,
    "orders plan": PlanAnswer,
    "plans list": list[RegisteredPlanSummary],
    "plans show": RegisteredPlanView,
    "plans proforma": list[str],
    "rules list": list[DatedRow],
    "rules show": HeadingOutput,
    "rules why": LineDecision,
    "rules diff": list[Change],
    "rules check": RulesetSummary,
    "tariff import": ImportedEditionOutput,
    "tariff list": list[ListedEdition],
    "tariff show": TariffNumberView,
    "tariff diff": list[TariffChange],
    "tariff remove": EditionOutput,
    "rules copy": CopiedRules,
    "rules key": SigningKey,
    "rules sign": SignedRules,
    "rules bundle": SignedRules,
    "rules stored": list[StoredRules],
    "rules store": NewlyStoredRules,
    "rules activate": ActivatedRules,
    "rules recheck": RecheckResult,
    "deliveries list": DeliveryPage,
    "deliveries show": DeliveryView,
    "deliveries resend": DeliveryView,
    "deliveries acknowledge": DeliveryView,
    "deliveries replay": models.ReplayTotal,
    "accounts create": models.AccountOutput,
    "accounts mail-domains": models.MailDomains,
    "accounts people-domains": models.PeopleDomains,
    "accounts languages": models.AccountLanguages,
    "accounts logo": models.AccountLogo,
    "accounts leads": models.AccountLeads,
    "accounts skip-numbers": models.SkippedNumbers,
    "accounts certifications": list[OriginCertificationView],
    "accounts list": list[models.ListedAccount],
    "people add": models.InvitedPerson,
    "people link": models.InvitedPerson,
    "people list": list[models.ListedPerson],
    "people disable": models.PersonAccess,
    "people enable": models.PersonAccess,
    "keys create": models.CreatedKeyOutput,
    "keys list": list[models.ListedKey],
    "keys rotate": models.RotatedKey,
    "keys revoke": models.RevokedKey,
    "partners add": CreatedPartner,
    "partners list": list[PartnerView],
    "partners test": PartnerTested,
    "partners activate": PartnerView,
    "partners pause": PartnerView,
    "partners resume": PartnerView,
    "partners rotate-secret": RotatedSecret,
    "partners link": CreatedPortalLink,
    "partners links": list[PortalLinkView],
    "partners unlink": list[PortalLinkView],
    "partners receiver": models.AddressOutput | models.ReceiverRequest,
    "partners file-receiver": models.FileReceiverOutput,
    "partners mail-receiver": models.MailReceiverOutput,
    "secrets rotate": reports.ResealedSecrets,
    "waivers add": WaiverView,
    "waivers list": list[WaiverView],
    "waivers revoke": WaiverView,
    "audit list": ActPage,
    "audit verify": reports.AuditResult,
    "audit checkpoint": SignedCheckpoint,
    "retention purge": models.PurgeOutput | list[models.ExpiredOutput],
    "retention hold": models.HoldOutput,
    "retention release": models.HoldOutput,
    "retention holds": list[models.HoldOutput],
    "profiles list": list[models.ProfileOutput],
    "profiles use": models.ProfileOutput,
    "profiles remove": models.ProfileOutput,
    "config show": list[SettingView],
    "error": models.CommandError,
}

LINES: Final = frozenset(
    {"acknowledge", "artifacts check", "artifacts restore", "consume", "events", "listen", "partners receiver"}
)


def build_output_schema(command: str) -> Json:
    """Return the JSON Schema 2020-12 of what the command prints with `--json`; raises NotFound if there is none."""
    if command not in OUTPUTS:
        raise NotFound(f"there is no schema for the command {command}; `exports schema cli` has all")
    schema = TypeAdapter(OUTPUTS[command]).json_schema(mode="serialization")
    return {"$schema": DIALECT, **allow_more_members(schema)}


def build_output_document() -> Json:
    """Return one JSON Schema 2020-12 with a property for each command, and `error` for a command that failed."""
    adapters = [(command, "serialization", TypeAdapter(kind)) for command, kind in OUTPUTS.items()]
    schemas, shared = TypeAdapter.json_schemas(adapters)  # type: ignore[arg-type]
    properties = {
        command: {"description": "One document a line"} | schemas[command, "serialization"]
        if command in LINES
        else schemas[command, "serialization"]
        for command in OUTPUTS
    }
    title = "What the commands of exports print with --json"
    return {"$schema": DIALECT, "title": title, **allow_more_members({"properties": properties, **shared})}
