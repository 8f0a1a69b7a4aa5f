"""An example export that is never executed: the documents and messages that a partner would get for an example plan."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any, Final, cast

from sqlalchemy import Row

from config.settings import Settings
from pipeline.accounts.channels import CHANNEL_KINDS
from pipeline.accounts.recipients import Recipient
from pipeline.accounts.schemas import PartnerView
from pipeline.core.cache import BuildCache
from pipeline.core.errors import (
    InvalidState,
    NotFound,
    NotReady,
    Purged,
    RendererCrashed,
    RendererUnavailable,
    StepFailed,
)
from pipeline.core.runtime import Runtime
from pipeline.customs import treatment
from pipeline.deliveries.channels.protocol import Attachment, EmailBody
from pipeline.deliveries.email import content
from pipeline.deliveries.models import Notification
from pipeline.deliveries.outbox.entry_facts import add_estimate, recorded_invoice
from pipeline.deliveries.outbox.handoff_messages import ExportContents, build_notifications
from pipeline.deliveries.outbox.outbox import NewNotification
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.streams import messages
from pipeline.documents import broker_profile as profiles
from pipeline.documents.registry import Document, is_wanted
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports import examples
from pipeline.exports.models import Artifact, Export
from pipeline.exports.plans import HashedPlan, hash_plan
from pipeline.exports.schemas.plan import Plan, Unit
from pipeline.exports.step_context import StepContext, build_context
from pipeline.workflow.preflight import check_plan_alone
from pipeline.workflow.render_documents import build_plan_invoice, render_invoice
from pipeline.workflow.steps import HAND_OFF, RENDER_DOCUMENTS

_EXPORT_ID: Final = "exp_example"
_SUBMISSION_ID: Final = "sub_example"
_UNIT_NO: Final = 1

#: The first message that each kind of partner gets for an export.
_FIRST_MESSAGE: Final = {
    "customs_broker": MessageType.HANDOFF_READY,
    "warehouse": MessageType.PACKAGE_RECORDED,
    "operator": MessageType.EXPORT_EXECUTED,
    "upstream": MessageType.EXPORT_EXECUTED,
}


@dataclass(frozen=True)
class ExampleUnit:
    """The first unit of the example plan with its invoice."""

    hashed: HashedPlan
    unit: Unit
    invoice: Invoice


@dataclass(frozen=True)
class ExampleMessage:
    """A message as the partner gets it: the CloudEvent as JSON, and the e-mail if one of its channels is e-mail."""

    type: str
    event: bytes
    email: EmailBody | None


@lru_cache(maxsize=8)
def build_example_unit(account_id: str, today: date) -> ExampleUnit:
    """Return the first unit of the smallest example plan, as a test export of the account, with its invoice."""
    name = examples.list_names()[0]
    raw: dict[str, Any] = json.loads(examples.read_text(examples.PLANS / f"{name}.json", today))
    raw |= {"accountId": account_id, "batchId": "example"}
    raw.pop("planHash", None)
    plan = Plan.model_validate(raw)
    hashed = hash_plan(plan, raw)
    unit = plan.units[0]
    findings = check_plan_alone(plan, on=today)
    invoice = build_plan_invoice(hashed, _UNIT_NO, package_number="CP-000001", revision=1, test=True, findings=findings)
    return ExampleUnit(hashed, unit, add_estimate(invoice, unit))


def render_example(account_id: str, today: date) -> Sequence[Document]:
    """Return the documents of the account's example unit; the process of the PDF engine sets the PDFs.

    Raises NotReady if the renderer does not work now, or if too many requests wait for it.
    """
    return _rendered.get((account_id, today), partial(_render_example, account_id, today))


def _render_example(account_id: str, today: date) -> Sequence[Document]:
    example = build_example_unit(account_id, today)
    try:
        return list(render_invoice(example.invoice, example.unit))
    except (RendererCrashed, RendererUnavailable, StepFailed) as error:
        raise NotReady(
            f"the example documents cannot be rendered now: {error}; try again in a moment",
            headers={"Retry-After": "5"},
        ) from error


#: The documents of an account have 300 kB.
_rendered: Final[BuildCache[tuple[str, date], Sequence[Document]]] = BuildCache("the example documents", most_kept=16)


def load_invoice(runtime: Runtime, account_id: str, export_id: str) -> Invoice:
    """Return the invoice of the first unit of one of the account's exports.

    Raises NotFound, Purged, and InvalidState if its packages are not recorded yet.
    """
    with runtime.db.read() as session:
        export = session.get(Export, export_id)
        if export is None or export.account_id != account_id:
            raise NotFound(f"there is no export {export_id} in this account; choose one of the list")
        if export.purged_at is not None:
            raise Purged.for_export(export_id, "choose another export")
        context = build_context(export, unit_no=_UNIT_NO, step=RENDER_DOCUMENTS.name, fence=0, attempt=0)
    try:
        return recorded_invoice(runtime, context)
    except StepFailed as error:
        raise InvalidState(f"export {export_id} has no invoice yet: {error}; choose another export") from error


def list_documents(account_id: str, partner: PartnerView, today: date) -> list[Document]:
    """Return the example documents that the partner gets: those that it wants, and the file of its profile.

    Raises NotReady if the renderer does not work now, and ValidationFailed if its profile names an unknown field.
    """
    if partner.kind != "customs_broker":
        return []
    rendered = render_example(account_id, today)
    found = [each for each in rendered if is_wanted(each.artifact_type, partner.artifact_types)]
    if partner.own_file is not None:
        found.append(profiles.profile_document(partner.own_file, build_example_unit(account_id, today).invoice))
    return found


def build_example_message(settings: Settings, account_id: str, partner: PartnerView, today: date) -> ExampleMessage:
    """Return the first message that the partner would get for the example export.

    Raises what `list_documents` raises.
    """
    documents = list_documents(account_id, partner, today)
    example = build_example_unit(account_id, today)
    wanted = _FIRST_MESSAGE[partner.kind]
    new = next(
        each
        for each in _build_notifications(settings, account_id, partner, example, documents)
        if (each.type, each.audience) == (wanted, partner.kind)
    )
    written_at = datetime.combine(today, time(), UTC)
    row = Notification(
        id="00000000-0000-0000-0000-000000000000",
        export_id=_EXPORT_ID,
        account_id=account_id,
        audience=new.audience,
        event_type=new.type.value,
        position=1,
        data=new.message.model_dump_json(by_alias=True),
        created_at=written_at,
    )
    email = None
    if any(CHANNEL_KINDS[each.channel].read_by_people for each in partner.channels):
        email = content.build_email_body(settings, row, _attach(documents, settings), sent_at=written_at)
    return ExampleMessage(new.type.value, messages.build_cloud_event(settings, row, None), email)


def _build_notifications(
    settings: Settings, account_id: str, partner: PartnerView, example: ExampleUnit, documents: Sequence[Document]
) -> Sequence[NewNotification]:
    plan, provenance = example.hashed.plan, example.invoice.provenance
    named = {"customs_broker": plan.broker.id, "warehouse": plan.warehouse.id} | {partner.kind: partner.id}
    context = StepContext(
        export_id=_EXPORT_ID,
        account_id=account_id,
        batch_id=plan.batch_id,
        plan_hash=example.hashed.plan_hash,
        revision=1,
        test=True,
        broker_id=named["customs_broker"],
        warehouse_id=named["warehouse"],
        upstream_id=named.get("upstream"),
        ruleset_id=plan.ruleset.id,
        ruleset_as_of=plan.ruleset.as_of,
        treatment_digest=provenance.treatment_digest,
        units=1,
        unit_no=0,
        step=HAND_OFF.name,
        fence=0,
        attempt=0,
    )
    row = SimpleNamespace(
        unit_no=_UNIT_NO,
        unit_ref=example.unit.unit_ref,
        customs_package_id="cpk_example",
        package_number=provenance.package_number,
        treatment_digest=provenance.unit_digest,
    )
    contents = ExportContents(
        units=[(cast("Row[Any]", row), example.unit)],
        artifacts={_UNIT_NO: [_to_artifact(each) for each in documents]},
        packages=[(_UNIT_NO, each.package_ref, each.sscc) for each in example.unit.packages],
        digests={(_UNIT_NO, line_ref): digest for line_ref, digest in treatment.line_digests(example.unit).items()},
        inline=True,
        supersedes=None,
        corrects=(),
        kept={},
        first_position=1,
        read_at=datetime.combine(plan.ruleset.as_of, time(), UTC),
    )
    recipient = Recipient(
        partner_id=partner.id,
        kind=partner.kind,
        test=True,
        path=partner.path,
        artifact_types=None,  # the documents are chosen already
        channels=tuple(each.channel for each in partner.channels),
    )
    return list(build_notifications(context, contents, recipient, _SUBMISSION_ID, settings.public_url))


def _to_artifact(document: Document) -> Artifact:
    return Artifact(
        id=f"art_example_{document.artifact_type}",
        export_id=_EXPORT_ID,
        account_id="",
        unit_no=_UNIT_NO,
        artifact_type=document.artifact_type,
        filename=document.filename,
        media_type=document.media_type,
        size=len(document.body),
        sha256=document.digest.removeprefix("sha256:"),
        template_version=document.template_version,
    )


def _attach(documents: Sequence[Document], settings: Settings) -> list[Attachment]:
    return [
        Attachment(
            name=f"CP-000001/{each.filename}",
            media_type=each.media_type,
            size=len(each.body),
            sha256=each.digest.removeprefix("sha256:"),
            download_url=f"{settings.public_url}/api/artifacts/art_example_{each.artifact_type}",
            read=partial(bytes, each.body),
        )
        for each in documents
    ]
