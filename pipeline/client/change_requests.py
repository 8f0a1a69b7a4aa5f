"""The calls of the API by which a person changes an export or writes to its customs broker."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

from pipeline.client.errors import InvalidArgument
from pipeline.client.export_requests import export_path, if_match_headers, parse_export
from pipeline.client.request import Call, ResultPage, RetryWhen, encode_segment, get, parse_as, to_request_body
from pipeline.deliveries.schemas.answers import NewMessage
from pipeline.exports.schemas.export import AcknowledgeRequest, ExportView, ReasonRequest
from pipeline.exports.schemas.filed_entries import FiledColumns, FiledEntriesReport, FiledEntriesRequest
from pipeline.exports.schemas.submissions import AttachmentView, ConversationItem, ConversationPage

_MEDIA_TYPES: Final = {
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".csv": "text/csv",
    ".xml": "application/xml",
}


def cancel(export: str, *, if_match: str | None = None) -> Call[ExportView]:
    """Cancel an export that was not handed off yet."""
    return Call("POST", f"{export_path(export)}/cancel", parse_export, headers=if_match_headers(if_match))


def hold(export: str, reason: str, *, if_match: str | None = None) -> Call[ExportView]:
    """Hold the handoff of an export until it is released; a repeat changes nothing."""
    return _call_with_reason(f"{export_path(export)}/hold", reason, if_match)


def release(export: str, *, if_match: str | None = None) -> Call[ExportView]:
    """Release the hold of an export's handoff; a repeat changes nothing."""
    return Call("POST", f"{export_path(export)}/release", parse_export, headers=if_match_headers(if_match))


def withdraw(export: str, reason: str, *, if_match: str | None = None) -> Call[ExportView]:
    """Withdraw an export after its handoff, until an entry is filed; a repeat changes nothing."""
    return _call_with_reason(f"{export_path(export)}/withdraw", reason, if_match)


def _call_with_reason(path: str, reason: str, if_match: str | None) -> Call[ExportView]:
    return Call(
        "POST",
        path,
        parse_export,
        json=to_request_body(ReasonRequest(reason=reason)),
        headers=if_match_headers(if_match),
    )


def retry(export: str, *, if_match: str | None = None) -> Call[ExportView]:
    """Continue a failed export from the step that failed."""
    return Call("POST", f"{export_path(export)}/retry", parse_export, headers=if_match_headers(if_match))


def attach(export: str, filename: str, content: bytes) -> Call[AttachmentView]:
    """Send a file for the customs broker; `reply` then names its id. A repeat returns the same id.

    Raises InvalidArgument if the end of its name is not that of a PDF, PNG, JPEG, CSV or XML file.
    """
    return _send_file(export_path(export), filename, content)


def attach_to_handoff(submission: str, filename: str, content: bytes) -> Call[AttachmentView]:
    """Send a file of the customs broker about its handoff; `acknowledge` then names its id. See `attach`."""
    return _send_file(f"api/broker-submissions/{encode_segment(submission)}", filename, content)


def _send_file(path: str, filename: str, content: bytes) -> Call[AttachmentView]:
    media_type = _MEDIA_TYPES.get(PurePath(filename).suffix.lower())
    if media_type is None:
        raise InvalidArgument("filename", f"must end with one of {', '.join(_MEDIA_TYPES)}")
    return Call(
        "POST",
        f"{path}/attachments",
        parse_as(AttachmentView),
        params={"filename": filename},
        headers={"Content-Type": media_type},
        content=content,
        retry_when=RetryWhen.ALWAYS,
    )


def reply(
    export: str,
    text: str,
    *,
    message_id: str,
    in_reply_to: str | None = None,
    packages: Sequence[str] = (),
    attachments: Sequence[str] = (),
) -> Call[ConversationItem]:
    """Write to the customs broker about its handoff; a repeat with the same id and content sends nothing.

    `attachments` are the ids of files that `attach` sent.
    """
    body = {"id": message_id, "text": text, "inReplyTo": in_reply_to, "customsPackageNumbers": [*packages]}
    body |= {"attachments": [*attachments]} if attachments else {}
    return Call(
        "POST",
        f"{export_path(export)}/messages",
        parse_as(ConversationItem),
        json=to_request_body(NewMessage.model_validate(body)),
        retry_when=RetryWhen.ALWAYS,
    )


def import_filed_entries(
    text: str, *, columns: FiledColumns | None = None, dry_run: bool = False
) -> Call[FiledEntriesReport]:
    """Compare the amounts of filed entries with their estimates, from a report as CSV; a repeat changes nothing."""
    request = FiledEntriesRequest(text=text, columns=columns or FiledColumns(), dry_run=dry_run)
    return Call(
        "POST",
        "api/filed-entries",
        parse_as(FiledEntriesReport),
        json=to_request_body(request),
        retry_when=RetryWhen.ALWAYS,
        extra_seconds=60,
    )


def conversation(export: str, *, page_size: int = 200) -> ResultPage[ConversationItem]:
    """Yield what the customs broker and the exporter wrote about the handoff, oldest first."""

    def page_call(after: int) -> Call[ResultPage[ConversationItem]]:
        call = get(f"{export_path(export)}/conversation", parse_as(ConversationPage), after=after, limit=page_size)
        return call.map(
            lambda found: ResultPage(found.items, page_call(found.next_after) if found.next_after else None)
        )

    return ResultPage(next_call=page_call(0))


def acknowledge_export(export: str, note: str | None = None, *, if_match: str | None = None) -> Call[ExportView]:
    """Take an export from the inbox until a new fact arrives, with a note; a repeat changes nothing."""
    return Call(
        "POST",
        f"{export_path(export)}/acknowledge",
        parse_export,
        json=to_request_body(AcknowledgeRequest(note=note)),
        headers=if_match_headers(if_match),
        retry_when=RetryWhen.ALWAYS,
    )


def reopen_export(export: str, *, if_match: str | None = None) -> Call[ExportView]:
    """Undo the acknowledgement of an export."""
    return Call("POST", f"{export_path(export)}/reopen", parse_export, headers=if_match_headers(if_match))
