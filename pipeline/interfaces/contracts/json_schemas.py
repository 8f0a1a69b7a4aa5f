"""Every published JSON Schema by its name, inbound and outbound."""

from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from pipeline.accounts import schemas as account_schemas
from pipeline.core import problems
from pipeline.customs import schemas
from pipeline.deliveries.schemas import answers, cloudevent, messages, views
from pipeline.documents.schemas import invoice, profile
from pipeline.exports.schemas import (
    account_clock,
    deadlines,
    export,
    feed,
    filed_entries,
    inbox,
    plan,
    registered_plans,
    submissions,
)
from pipeline.ops import schemas as ops_schemas
from pipeline.orders import schemas as order_schemas
from pipeline.orders import views as order_views

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Json = dict[str, Any]


@dataclass(frozen=True)
class PublishedSchema:
    """A published model: the service writes `outbound` ones and reads the others.

    Outbound documents may gain members and members of unions in the same version: their schema is open, and readers
    ignore what they do not know.
    Inbound documents are closed: a member that we would ignore is a mistake, and we report it.
    """

    model: type[BaseModel]
    outbound: bool


def _inbound(**models: type[BaseModel]) -> dict[str, PublishedSchema]:
    return {name.replace("_", "-"): PublishedSchema(model, outbound=False) for name, model in models.items()}


def _outbound(**models: type[BaseModel]) -> dict[str, PublishedSchema]:
    return {name.replace("_", "-"): PublishedSchema(model, outbound=True) for name, model in models.items()}


PUBLISHED: Final[dict[str, PublishedSchema]] = {
    **_inbound(
        plan=plan.Plan,
        execute_request=export.ExecuteRequest,
        acknowledge_request=export.AcknowledgeRequest,
        new_message=answers.NewMessage,
        reason_request=export.ReasonRequest,
        acknowledgement=answers.AcknowledgementBody,
        sent_acknowledgement=views.SentAcknowledgement,
        handoff_answer=answers.HandoffAnswer,
        handoff_status=answers.HandoffStatus,
        new_partner=account_schemas.NewPartner,
        partner_changes=account_schemas.PartnerChanges,
        broker_profile=profile.BrokerProfile,
        message_profile=profile.MessageProfile,
        secret_rotation=account_schemas.SecretRotation,
        new_portal_link=account_schemas.NewPortalLink,
        new_waiver=schemas.NewWaiver,
        product_sync=order_schemas.ProductSync,
        order_sync=order_schemas.OrderSync,
        plan_template_sync=order_schemas.TemplateSync,
        plan_request=order_schemas.PlanRequest,
        print_settings_changes=account_schemas.PrintSettingsChanges,
        replay_request=views.ReplayRequest,
        deadline_leads_changes=account_schemas.LeadChanges,
        test_clock_move=account_clock.ClockMove,
        filed_entries_request=filed_entries.FiledEntriesRequest,
    ),
    **_outbound(
        export=export.ExportView,
        export_page=export.ExportPage,
        event_page=export.EventPage,
        attachment=submissions.AttachmentView,
        conversation_item=submissions.ConversationItem,
        conversation_page=submissions.ConversationPage,
        feed_page=feed.FeedPage,
        inbox=inbox.InboxView,
        deadline_page=deadlines.DeadlinePage,
        calendar_link=deadlines.CalendarLink,
        deadline_leads=account_schemas.LeadsView,
        test_clock=account_clock.ClockView,
        filed_entries_report=filed_entries.FiledEntriesReport,
        customs_package=export.CustomsPackageView,
        act_page=export.ActPage,
        plan_receipt=export.PlanReceipt,
        registered_plan=registered_plans.RegisteredPlanView,
        registered_plan_page=registered_plans.RegisteredPlanPage,
        preflight_report=export.PreflightReport,
        sync_receipt=order_views.SyncReceipt,
        order=order_views.OrderView,
        plan_answer=order_views.PlanAnswer,
        acknowledgement_receipt=views.AcknowledgementReceipt,
        partner=account_schemas.PartnerView,
        created_partner=account_schemas.CreatedPartner,
        partner_list=account_schemas.PartnerList,
        partner_tested=account_schemas.PartnerTested,
        rotated_secret=account_schemas.RotatedSecret,
        portal_link=account_schemas.PortalLinkView,
        created_portal_link=account_schemas.CreatedPortalLink,
        portal_link_list=account_schemas.PortalLinkList,
        delivery=account_schemas.DeliveryView,
        delivery_page=account_schemas.DeliveryPage,
        replay_report=views.ReplayReport,
        notification_trace=views.NotificationTrace,
        sandbox_page=views.SandboxPage,
        document_link=views.DocumentLink,
        document_links=views.DocumentLinks,
        line_decision=schemas.LineDecision,
        waiver=schemas.WaiverView,
        waiver_list=schemas.WaiverList,
        own_key=account_schemas.OwnKey,
        print_settings=account_schemas.PrintSettingsView,
        tariff_number=schemas.TariffNumberView,
        health=ops_schemas.Health,
        stats=ops_schemas.StatsView,
        problem=problems.Problem,
        commercial_customs_invoice=invoice.Invoice,
        file_manifest=views.FileManifest,
        cloud_event=cloudevent.CloudEventEnvelope,
    ),
    # The `dataschema` of each CloudEvent, by its type.
    **{kind.value: PublishedSchema(kind.model, outbound=True) for kind in messages.MessageType},
    messages.CONNECTION_TEST: PublishedSchema(messages.ConnectionTested, outbound=True),
}


def build_json_schema(name: str) -> Json:
    """Return the published schema `name` as JSON Schema 2020-12; raises KeyError if there is none."""
    published = PUBLISHED[name]
    schema = published.model.model_json_schema(
        by_alias=True, mode="serialization" if published.outbound else "validation"
    )
    return {"$schema": DIALECT, **(allow_more_members(schema) if published.outbound else schema)}


def allow_more_members(schema: Any) -> Any:
    """Return an outbound schema that allows members of later versions, also in unions with a discriminator."""
    if isinstance(schema, dict):
        opened = {
            key: allow_more_members(value)
            for key, value in schema.items()
            if not (key == "additionalProperties" and value is False and "properties" in schema)
        }
        return _open_union(opened) if "oneOf" in schema and "discriminator" in schema else opened
    return [allow_more_members(each) for each in schema] if isinstance(schema, list) else schema


def _open_union(union: Json) -> Json:
    """Return the union with one more alternative: an object whose discriminator has none of the known values."""
    name, known = union["discriminator"]["propertyName"], sorted(union["discriminator"]["mapping"])
    unknown = {
        "description": "A later version may add others: ignore them",
        "type": "object",
        "properties": {name: {"type": "string", "not": {"enum": known}}},
    }
    return union | {"oneOf": [*union["oneOf"], unknown]}
