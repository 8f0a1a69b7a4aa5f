"""The calls about what partners are told and what they answer: deliveries, replays, acknowledgements, the sandbox broker."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.accounts.schemas import (
    CreatedPartner,
    DeliveryPage,
    DeliveryView,
    NewPartner,
    PartnerChanges,
    PartnerList,
    PartnerTested,
    PartnerView,
    RotatedSecret,
    SecretRotation,
)
from pipeline.client.request import Call, Repeat, Stretch, as_model, body_of, get, segment
from pipeline.customs.schemas import NewWaiver, WaiverList, WaiverView
from pipeline.deliveries.schemas.messages import AcknowledgementBody, AcknowledgementReceipt
from pipeline.deliveries.schemas.views import (
    DocumentLinks,
    NotificationTrace,
    ReplayReport,
    ReplayRequest,
    SandboxHandoffView,
    SandboxPage,
)
from pipeline.ops.schemas import Health


def delivery_page(
    *,
    export: str | None = None,
    partner: str | None = None,
    state: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Call[DeliveryPage]:
    """Return one page of the delivery log, newest first, from behind `cursor` on."""
    return get(
        "api/deliveries",
        as_model(DeliveryPage),
        exportId=export,
        partnerId=partner,
        state=state,
        cursor=cursor,
        limit=limit,
    )


def deliveries(
    *, export: str | None = None, partner: str | None = None, state: str | None = None, page_size: int = 200
) -> Stretch[DeliveryView]:
    """Yield the messages to partners, newest first, each with its latest tries, page after page."""

    def page(cursor: str | None) -> Call[Stretch[DeliveryView]]:
        call = delivery_page(export=export, partner=partner, state=state, cursor=cursor, limit=page_size)
        return call.then(lambda found: Stretch(found.items, page(found.next_cursor) if found.next_cursor else None))

    return Stretch(more=page(None))


def delivery(delivery: str) -> Call[DeliveryView]:
    """Return one delivery with its latest tries."""
    return get(_path(delivery), as_model(DeliveryView))


def trace(message: str) -> Call[NotificationTrace]:
    """Return what became of one message, by its CloudEvent id: each delivery, each try, and what came back."""
    return get(f"api/notifications/{segment(message)}", as_model(NotificationTrace))


def document_links(submission: str) -> Call[DocumentLinks]:
    """Return new links to all documents of a handoff, each good without a key for some minutes."""
    path = f"api/broker-submissions/{segment(submission)}/links"
    return Call("POST", path, as_model(DocumentLinks), repeat=Repeat.ALWAYS)


def resend(delivery: str) -> Call[DeliveryView]:
    """Owe a delivered or dead message once more, under the same id, and return its delivery."""
    return Call("POST", f"{_path(delivery)}/resend", as_model(DeliveryView))


def replay(partner: str, wanted: ReplayRequest) -> Stretch[ReplayReport]:
    """Owe a partner's messages of a span of time again, page after page; yield what became of each page."""

    def page(asked: ReplayRequest) -> Call[Stretch[ReplayReport]]:
        call = Call("POST", f"api/partners/{segment(partner)}/replay", as_model(ReplayReport), json=body_of(asked))
        return call.then(
            lambda report: Stretch(
                [report],
                page(asked.model_copy(update={"until": report.until, "after": report.next})) if report.next else None,
            )
        )

    return Stretch(more=page(wanted))


def acknowledge(submission: str, answer: AcknowledgementBody) -> Call[AcknowledgementReceipt]:
    """Record the customs broker's answer to a handoff; it counts once by its `id`, however often it is sent."""
    path = f"api/broker-submissions/{segment(submission)}/acknowledgements"
    return Call("POST", path, as_model(AcknowledgementReceipt), json=body_of(answer), repeat=Repeat.ALWAYS)


def sandbox_handoffs(*, page_size: int = 200) -> Stretch[SandboxHandoffView]:
    """Yield what the built-in sandbox broker received, newest first, page after page."""

    def page(cursor: str | None) -> Call[Stretch[SandboxHandoffView]]:
        call = get("sandbox/handoffs", as_model(SandboxPage), cursor=cursor, limit=page_size)
        return call.then(lambda found: Stretch(found.items, page(found.next_cursor) if found.next_cursor else None))

    return Stretch(more=page(None))


def _path(delivery: str) -> str:
    return f"api/deliveries/{segment(delivery)}"


#: A connection test tries every endpoint of a partner, each with a time limit of its own.
_TEST_SECONDS = 120

_partner = as_model(PartnerView)


def partners() -> Call[Sequence[PartnerView]]:
    """Return the account's partners, by id."""
    return get("api/partners", as_model(PartnerList)).then(lambda found: found.items)


def partner(partner: str) -> Call[PartnerView]:
    """Return one partner."""
    return get(_partner_path(partner), _partner)


def create_partner(new: NewPartner) -> Call[CreatedPartner]:
    """Register a partner; its signing secret is in this answer and in no other."""
    return Call("POST", "api/partners", as_model(CreatedPartner), json=body_of(new))


def change_partner(partner: str, changes: PartnerChanges) -> Call[PartnerView]:
    """Change what `changes` names; the rest, and the signing secret, stay."""
    return Call("PATCH", _partner_path(partner), _partner, json=body_of(changes), repeat=Repeat.ALWAYS)


def test_partner(partner: str) -> Call[PartnerTested]:
    """Try every endpoint of a partner stage by stage; `passed` says whether all went well, and each stage what to do."""
    return Call("POST", f"{_partner_path(partner)}/test", as_model(PartnerTested), extra_seconds=_TEST_SECONDS)


def activate_partner(partner: str) -> Call[PartnerView]:
    """Have live exports reach a partner whose test has passed."""
    return Call("POST", f"{_partner_path(partner)}/activate", _partner)


def rotate_secret(partner: str, *, overlap_hours: int | None = None) -> Call[RotatedSecret]:
    """Give a partner a new signing secret, in this answer and in no other; the older ones still count for the overlap."""
    rotation = SecretRotation() if overlap_hours is None else SecretRotation(overlap_hours=overlap_hours)
    return Call("POST", f"{_partner_path(partner)}/rotate-secret", as_model(RotatedSecret), json=body_of(rotation))


def pause_partner(partner: str) -> Call[PartnerView]:
    """Send a partner nothing until it is resumed; what it is owed stays owed."""
    return Call("POST", f"{_partner_path(partner)}/pause", _partner)


def resume_partner(partner: str) -> Call[PartnerView]:
    """Send a partner what it is owed, from now on."""
    return Call("POST", f"{_partner_path(partner)}/resume", _partner)


def _partner_path(partner: str) -> str:
    return f"api/partners/{segment(partner)}"


def waivers() -> Call[Sequence[WaiverView]]:
    """Return the account's waivers, oldest first, the revoked ones among them."""
    return get("api/waivers", as_model(WaiverList)).then(lambda found: found.items)


def waive(new: NewWaiver) -> Call[WaiverView]:
    """Take a warning upon the account from now on; findings that block cannot be waived."""
    return Call("POST", "api/waivers", as_model(WaiverView), json=body_of(new))


def revoke_waiver(waiver: str) -> Call[WaiverView]:
    """End a waiver now; what was accepted under it stays accepted."""
    return Call("DELETE", f"api/waivers/{segment(waiver)}", as_model(WaiverView))


def health() -> Call[Health]:
    """Return how every part of the service is."""
    return get("api/system/health", as_model(Health))


def readiness() -> Call[None]:
    """Return where the service is ready; asked once, without patience."""
    return Call("GET", "readyz", lambda _: None, repeat=Repeat.NEVER)
