"""The calls about what partners are told and what they answer: deliveries, replays, acknowledgements, the sandbox broker."""

from __future__ import annotations

from pipeline.accounts.schemas import DeliveryPage, DeliveryView
from pipeline.client.request import Call, Repeat, Stretch, as_model, body_of, get, segment
from pipeline.deliveries.schemas.links import DocumentLinks
from pipeline.deliveries.schemas.messages import AcknowledgementBody, AcknowledgementReceipt
from pipeline.deliveries.schemas.sandbox import SandboxHandoffView, SandboxPage
from pipeline.deliveries.schemas.tracing import NotificationTrace
from pipeline.deliveries.schemas.views import ReplayReport, ReplayRequest


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
