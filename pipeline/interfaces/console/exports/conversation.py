"""The console's page of the conversation with the customs broker about a handoff, with a form to write to it."""

from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from pydantic import ValidationError
from starlette.responses import Response

from pipeline.accounts.api_keys import OPERATE
from pipeline.accounts.people import name_actors
from pipeline.core.errors import Refused, ValidationFailed
from pipeline.deliveries.schemas.answers import NewMessage
from pipeline.deliveries.submissions import conversation
from pipeline.deliveries.submissions.attachments import MAX_BYTES, attach_files, check_files
from pipeline.exports.models import Export
from pipeline.exports.queries import find_export
from pipeline.exports.states import ExportState
from pipeline.interfaces.pages.form_ids import name_content, new_form_id
from pipeline.interfaces.pages.input import Input, fill_form, read_errors
from pipeline.interfaces.pages.pages import PAGE_SIZE, ConsoleRoute, Form, Visit, Visitor, read_fields, redirect_to
from pipeline.interfaces.pages.upload import Upload, read_upload
from pipeline.workflow.conversation import write_message
from pipeline.workflow.interventions import find_for_change

router = APIRouter(prefix="/console/exports", include_in_schema=False, route_class=ConsoleRoute)

_MAX_TEXT: Final = 1000
_INPUTS: Final = (
    Input("text", "Message", "area", help="What the customs broker should know. It stays on record.", required=True),
    Input("package", "Customs package", help="Its number, if the message is about one of them, such as CP-000001."),
)


def may_write(visit: Visit, export: Export) -> bool:
    """Return whether the visitor may write to the customs broker; the export's state may refuse it all the same."""
    may_change = visit.caller.has_role(OPERATE) and visit.caller.may_change(test=export.test)
    return may_change and export.state == ExportState.EXECUTED.value and export.purged_at is None


async def _read_form(request: Request, visit: Visitor) -> Upload:
    visit.caller.require(OPERATE)
    return await read_upload(request, MAX_BYTES, visit.csrf_tokens, read_fields)


_MessageForm = Annotated[Upload, Depends(_read_form)]


@router.get("/{id}/conversation")
def show_conversation(id: str, visit: Visitor, after: Annotated[int, Query(ge=0, le=1_000_000)] = 0) -> Response:
    """Show the conversation, oldest first, without the first `after` items, and a form to write."""
    return _page(visit, id, Form({}), new_form_id(), after=after)


@router.post("/{id}/conversation")
def write_to_broker(id: str, visit: Visitor, upload: _MessageForm) -> Response:
    """Write to the customs broker; a form that is sent twice counts once, one that was changed meanwhile is another message."""
    fields = upload.form
    form_id = fields.get("form_id")
    try:
        export_id = find_for_change(visit.runtime, visit.caller, id)
        files = check_files(export_id, None, upload.named)
        new = _read_message(fields, form_id, [each.id for each in files])
        attach_files(visit.runtime, files, visit.caller.actor)
        _, tasks = write_message(visit.runtime, visit.account_id, export_id, new, visit.caller.actor)
        visit.publish(tasks)
    except Refused as refused:
        if refused.status in (403, 404):
            raise
        return _page(visit, id, fields, form_id, refused=refused)
    return redirect_to(f"/console/exports/{quote(export_id)}")


def _read_message(fields: Form, form_id: str, files: list[str]) -> NewMessage:
    text, package = fields.get("text"), fields.get("package").upper()
    if not 0 < len(text) <= _MAX_TEXT:
        raise ValidationFailed(f"must have 1 to {_MAX_TEXT:,} characters", field="/text")
    message_id = name_content("console", form_id, "\n".join([text, package, *files]))
    try:
        packages = [package] if package else []
        return NewMessage(id=message_id, text=text, customs_package_numbers=packages, attachments=files)
    except ValidationError as error:
        raise ValidationFailed("must be a number such as CP-000001, or empty", field="/package") from error


def _page(
    visit: Visit, id: str, fields: Form, form_id: str, *, after: int = 0, refused: Refused | None = None
) -> Response:
    with visit.runtime.db.read() as session:
        export = find_export(session, visit.account_id, id, test=visit.caller.test)
        found = conversation.read_conversation(session, export.id, after=after, limit=PAGE_SIZE)
        names = name_actors(session, {each.author for each in found.items if each.side == "exporter"})
    errors = read_errors(refused)
    if "/customsPackageNumbers/0" in errors:
        errors["/package"] = errors.pop("/customsPackageNumbers/0")
    link = f"/console/exports/{quote(export.id)}/conversation"
    return visit.page(
        "console/exports/conversation.html",
        refused=refused,
        export=export,
        page=found,
        names=names,
        after=after,
        next_link=None if found.next_after is None else f"{link}?after={found.next_after}",
        can_write=may_write(visit, export),
        form=fill_form(_INPUTS, fields, errors),
        form_id=form_id,
    )
