"""The files of a conversation: their bytes in the document store by hash, a row and an event for each."""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, func, select
from sqlmodel import Session, col

from pipeline.core.errors import InvalidState, NotFound, NotInHandoff, PayloadTooLarge, Purged, ValidationFailed
from pipeline.core.failpoints import failpoint
from pipeline.core.file_types import FILE_TYPES, FileType, detect_type, find_by_name
from pipeline.core.problems import Issue
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import BrokerSubmission, ConversationMessage
from pipeline.deliveries.schemas.answers import MAX_ATTACHMENTS
from pipeline.deliveries.schemas.to_broker import ArtifactLink
from pipeline.documents.repository import lock_to_attach
from pipeline.exports import events
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.file_models import ConversationFile
from pipeline.exports.models import Export
from pipeline.exports.schemas.submissions import AttachmentView

#: The largest file, and the bounds of all files that one side sends about an export.
MAX_BYTES: Final = 20 * 1024 * 1024
TOO_LARGE: Final = f"a file must have at most {MAX_BYTES} bytes; send a smaller one"
MAX_FILES: Final = 100
MAX_TOTAL_BYTES: Final = 200 * 1024 * 1024

_ANY: Final = "application/octet-stream"

PREFIX: Final = "att_"
#: What links call a file, beside the kinds of documents.
ARTIFACT_TYPE: Final = "attachment"


@dataclass(frozen=True)
class NewFile:
    """A checked file about an export; without a `partner_id`, the exporter sends it."""

    export_id: str
    partner_id: str | None
    filename: str
    media_type: str
    body: bytes

    @property
    def sha256(self) -> str:
        """The hash of its bytes, in hex."""
        return hashlib.sha256(self.body).hexdigest()

    @property
    def id(self) -> str:
        """Its id, the same for the same sender, name and content."""
        facts = self.export_id, self.partner_id or "", self.filename, self.sha256
        return PREFIX + hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class FilePlaces:
    """The places of a file in a request, as JSON Pointers, which a refusal names."""

    name: str = "/query/filename"
    content: str = "/file"


def check_file(
    export_id: str,
    partner_id: str | None,
    name: str,
    body: bytes,
    *,
    declared: str | None = None,
    places: FilePlaces = FilePlaces(),
) -> NewFile:
    """Return the file with a safe name. Its media type is `declared`; without it, the end of its name declares the type.

    `application/octet-stream` declares none.

    Raises PayloadTooLarge, and ValidationFailed if the content is of no type that is taken, or of another than declared.
    """
    if len(body) > MAX_BYTES:
        raise PayloadTooLarge(TOO_LARGE, field=places.content)
    if declared is not None and declared.partition(";")[0].strip().lower() == _ANY:
        declared = None
    said = _run_at(places.name, lambda: find_by_name(name)) if declared is None else None
    kind = _run_at(places.content, lambda: detect_type(body))
    if said not in (None, kind):
        raise ValidationFailed(
            f"the file is named as {said.label}, but its content is {kind.label}; correct its name", field=places.name
        )
    if declared is not None and not kind.declares(declared):
        known = ", ".join(each.media_type for each in FILE_TYPES)
        raise ValidationFailed(
            f"the content is {kind.media_type}, not {declared[:80]!r}; declare its own type, one of {known}",
            field="/header/Content-Type",
        )
    return NewFile(export_id, partner_id, kind.build_name(name), kind.media_type, body)


def _run_at(place: str, check: Callable[[], FileType]) -> FileType:
    try:
        return check()
    except ValidationFailed as refused:
        raise ValidationFailed(refused.message, field=place) from refused


def check_files(export_id: str, partner_id: str | None, named: Sequence[tuple[str, bytes]]) -> list[NewFile]:
    """Return the files of a form, each with the name that it had. Raises ValidationFailed about the input `files`."""
    try:
        if len(named) > MAX_ATTACHMENTS:
            raise ValidationFailed(f"{len(named)} files were chosen; choose at most {MAX_ATTACHMENTS}")
        files = [check_file(export_id, partner_id, name, body) for name, body in named]
    except (ValidationFailed, PayloadTooLarge) as refused:
        issue = Issue(path="/files", message=refused.message, code="value_error")
        raise ValidationFailed(refused.message, field="/files", details={"issues": [issue.model_dump()]}) from refused
    return list({each.id: each for each in files}.values())


def attach_files(runtime: Runtime, files: Sequence[NewFile], actor: str) -> list[AttachmentView]:
    """Store files about one export and record those that are new; return all of them. A repeat has no further effect.

    Raises StoreUnavailable, Purged, ValidationFailed if the sender has too many files, and InvalidState before the handoff.
    """
    if not files:
        return []
    export_id, partner_id = files[0].export_id, files[0].partner_id
    runtime.store.put_all([each.body for each in files])
    with runtime.db.write() as session:
        events.lock_export(session, export_id)
        export = session.get_one(Export, export_id, populate_existing=True)
        if export.purged_at is not None:
            raise Purged.for_export(export_id, "no file was recorded")
        if session.scalar(select(col(BrokerSubmission.id)).where(col(BrokerSubmission.export_id) == export_id)) is None:
            raise InvalidState(
                f"export {export_id} is not handed off yet; send the file when the customs broker has it"
            )
        lock_to_attach(session, runtime.store, [each.sha256 for each in files])
        known = read_attachments(session, export_id, [each.id for each in files])
        new = list({each.id: each for each in files if each.id not in known}.values())
        _check_room(session, export_id, partner_id, new)
        sender = {} if partner_id is None else {"partnerId": partner_id}
        facts = [
            sender
            | {"attachmentId": each.id, "filename": each.filename, "mediaType": each.media_type}
            | {"size": len(each.body), "sha256": each.sha256}
            for each in new
        ]
        written = events.append(session, export_id, actor, [NewEvent(EventType.FILE_ATTACHED, fact) for fact in facts])
        for each in new:
            session.add(
                ConversationFile(
                    id=each.id,
                    export_id=export_id,
                    account_id=export.account_id,
                    partner_id=partner_id,
                    author=actor,
                    filename=each.filename,
                    media_type=each.media_type,
                    size=len(each.body),
                    sha256=each.sha256,
                    attached_at=written.at,
                )
            )
        session.flush()
        found = read_attachments(session, export_id, [each.id for each in files])
        failpoint("attach.mid")
    failpoint("attach.after")
    return [found[each.id] for each in files]


def _check_room(session: Session, export_id: str, partner_id: str | None, new: Sequence[NewFile]) -> None:
    count, size = session.execute(
        select(func.count(), func.coalesce(func.sum(col(ConversationFile.size)), 0)).where(
            *_is_of_sender(export_id, partner_id)
        )
    ).one()
    if count + len(new) > MAX_FILES or size + sum(len(each.body) for each in new) > MAX_TOTAL_BYTES:
        raise ValidationFailed(
            f"about export {export_id}, {count} files of {size} bytes were sent, and at most {MAX_FILES} of"
            f" {MAX_TOTAL_BYTES} bytes are taken; send the others by another way"
        )


def read_attachments(session: Session, export_id: str, ids: Collection[str]) -> dict[str, AttachmentView]:
    """Return the files of the export with these ids, by id; unknown ids are left out."""
    if not ids:
        return {}
    of_export = col(ConversationFile.export_id) == export_id, col(ConversationFile.id).in_(sorted(ids))
    return {row.id: to_view(row) for row in session.scalars(select(ConversationFile).where(*of_export))}


def to_view(row: ConversationFile) -> AttachmentView:
    """Return the view of a file."""
    return AttachmentView(
        id=row.id,
        filename=row.filename,
        media_type=row.media_type,
        size=row.size,
        sha256=row.sha256,
        download_url=f"/api/artifacts/{row.id}",
    )


def to_link(view: AttachmentView, address: str) -> ArtifactLink:
    """Return the link to a file in a message to the customs broker, at an address of this service."""
    return ArtifactLink(
        id=view.id,
        artifact_type=ARTIFACT_TYPE,
        filename=view.filename or "",
        media_type=view.media_type,
        size=view.size,
        sha256=view.sha256,
        download_url=f"{address}{view.download_url}",
    )


def check_named(session: Session, export_id: str, partner_id: str | None, ids: Sequence[str]) -> None:
    """Raise NotInHandoff if the sender of an answer or message did not send one of the files that it names."""
    sent = select(col(ConversationFile.id)).where(*_is_of_sender(export_id, partner_id))
    known = set(session.scalars(sent)) if ids else set()
    for place, each in enumerate(ids):
        if each not in known:
            raise NotInHandoff(
                f"you sent no file {each} about this handoff; send the file first, and name the id of the answer",
                field=f"/attachments/{place}",
            )


def _is_of_sender(export_id: str, partner_id: str | None) -> tuple[ColumnElement[bool], ...]:
    return (
        col(ConversationFile.export_id) == export_id,
        col(ConversationFile.partner_id).is_not_distinct_from(partner_id),
    )


def read_for_broker(
    runtime: Runtime, export_id: str, partner_id: str, attachment_id: str
) -> tuple[ArtifactLink, bytes]:
    """Return a file that this customs broker may read, with its bytes. Raises NotFound and StoreUnavailable."""
    with runtime.db.read() as session:
        rows = {each.id: each for each in list_readable(session, export_id, partner_id)}
        if attachment_id not in rows:
            raise NotFound(f"the handoff has no file {attachment_id}")
        link = to_link(to_view(rows[attachment_id]), runtime.settings.public_url)
    return link, runtime.store.get(link.sha256)


def list_readable(session: Session, export_id: str, partner_id: str) -> Sequence[ConversationFile]:
    """Return the files that a customs broker may read: its own, and those that messages to it name."""
    named = (
        select(col(ConversationMessage.attachments))
        .join(BrokerSubmission, col(BrokerSubmission.id) == col(ConversationMessage.submission_id))
        .where(col(BrokerSubmission.export_id) == export_id, col(BrokerSubmission.partner_id) == partner_id)
        .where(col(ConversationMessage.attachments).is_not(None))
    )
    sent = {each for ids in session.scalars(named) for each in ids or ()}
    rows = session.scalars(select(ConversationFile).where(col(ConversationFile.export_id) == export_id)).all()
    return [row for row in rows if row.partner_id == partner_id or row.id in sent]
