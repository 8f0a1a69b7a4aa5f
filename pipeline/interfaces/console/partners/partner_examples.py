"""The console's pages of a partner's example dossier: the messages and documents that it will get, without an export."""

import json
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Query
from starlette.responses import Response

from pipeline.accounts import partners
from pipeline.accounts.channels import CHANNEL_KINDS
from pipeline.accounts.schemas import PartnerView
from pipeline.core.errors import NotFound
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.interfaces.api.headers import download_headers
from pipeline.interfaces.contracts.examples.catalog import read_example
from pipeline.interfaces.pages.pages import ConsoleRoute, Visitor
from pipeline.workflow.examples import ExampleMessage, build_example_message, list_documents

router = APIRouter(prefix="/console/partners", include_in_schema=False, route_class=ConsoleRoute)

#: A document that is opened runs no script and loads nothing.
_SANDBOX: Final = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"

#: The media types that a browser shows as they are, and those that it cannot show. It shows others as text.
_SHOWN: Final = ("text/html", "application/pdf")
_DOWNLOADED: Final = ("application/vnd.", "application/zip")


@dataclass(frozen=True)
class ExampleText:
    """A message of the dossier. `purpose` is its first sentence; `email` is its subject and text, empty without e-mail."""

    type: str
    purpose: str
    event: str
    subject: str = ""
    email: str = ""


@router.get("/{id}/example")
def show_example(id: str, visit: Visitor) -> Response:
    """Show the messages and documents that the partner gets, for an example plan."""
    partner = partners.get_partner(visit.runtime, visit.account_id, id)
    today = visit.runtime.clock().date()
    first = build_example_message(visit.runtime.settings, visit.account_id, partner, today)
    documents = list_documents(visit.account_id, partner, today)
    return visit.page(
        "console/partners/partner_example.html",
        partner_id=partner.id,
        name=partner.name,
        link=f"/console/partners/{quote(partner.id)}",
        messages=[
            _show_first(first),
            *(_show_later(each) for each in MessageType if partner.kind in each.receivers and each != first.type),
        ],
        documents=[(each, not each.media_type.startswith(_DOWNLOADED)) for each in documents],
        carries=_describe_documents(partner),
    )


@router.get("/{id}/example/{artifact_type}")
def read_document(
    id: str,
    artifact_type: str,
    visit: Visitor,
    open: Annotated[bool, Query()] = False,  # noqa: FBT002 - the word of the link
) -> Response:
    """Return a document of the dossier, to keep, or with `open` to look at."""
    partner = partners.get_partner(visit.runtime, visit.account_id, id)
    found = [
        each
        for each in list_documents(visit.account_id, partner, visit.runtime.clock().date())
        if each.artifact_type == artifact_type
    ]
    if not found:
        raise NotFound(f"{id} gets no document {artifact_type}; open its example again")
    document = found[0]
    shown = open and not document.media_type.startswith(_DOWNLOADED)
    media_type = document.media_type
    if shown and not media_type.startswith(_SHOWN):
        media_type = "text/plain; charset=utf-8"
    headers = download_headers(document.filename) | {"Content-Security-Policy": _SANDBOX, "Cache-Control": "no-store"}
    if shown:
        headers["Content-Disposition"] = "inline"
    return Response(document.body, headers=headers, media_type=media_type)


def _show_first(message: ExampleMessage) -> ExampleText:
    return ExampleText(
        message.type,
        MessageType(message.type).purpose,
        _format_json(json.loads(message.event)),
        "" if message.email is None else message.email.subject,
        "" if message.email is None else message.email.text,
    )


def _show_later(kind: MessageType) -> ExampleText:
    return ExampleText(kind.value, kind.purpose, _format_json(read_example(kind.value)))


def _format_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _describe_documents(partner: PartnerView) -> str:
    """Return how the documents reach the partner, empty if it gets none."""
    if partner.kind != "customs_broker":
        return ""
    by_file = [each.channel for each in partner.channels if CHANNEL_KINDS[each.channel].carries_documents]
    if by_file:
        return f"They come with the message by {' and '.join(by_file)}; large ones are linked in an e-mail."
    return "The message has a link to each of them."
