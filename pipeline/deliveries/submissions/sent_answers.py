"""Records answers that customs brokers send by queue or as a file, with the files that they carry."""

import binascii
import hashlib
from base64 import b64decode
from collections.abc import Callable

from pipeline.core.errors import PayloadTooLarge, ValidationFailed
from pipeline.core.runtime import Runtime
from pipeline.deliveries.schemas.answers import MAX_ATTACHMENTS
from pipeline.deliveries.schemas.views import AcknowledgementReceipt, SentAcknowledgement, SentFile
from pipeline.deliveries.submissions import broker_answers
from pipeline.deliveries.submissions.attachments import MAX_BYTES, FilePlaces, NewFile, attach_files, check_file
from pipeline.deliveries.submissions.submissions import SubmissionOwner

#: Returns the bytes of a file beside the answer. Raises Refused if they cannot be read.
ReadAttachment = Callable[[str], bytes]


def receive_sent_answer(
    runtime: Runtime,
    owner: SubmissionOwner,
    sent: SentAcknowledgement,
    actor: str,
    *,
    read_attachment: ReadAttachment | None = None,
) -> AcknowledgementReceipt:
    """Keep the files of an answer, and record the answer with them. Repeating it is harmless.

    Without `read_attachment`, each file must have its content. Raises what `receive_answer` and `attach_files` raise.
    """
    if len(sent.attachments) + len(sent.files) > MAX_ATTACHMENTS:
        raise ValidationFailed(
            f"the answer has {len(sent.attachments) + len(sent.files)} files; send at most {MAX_ATTACHMENTS} with one",
            field="/files",
        )
    ids: list[str] = []
    for row, each in enumerate(sent.files):
        # One at a time: together they may be too large for the memory.
        file = _check_sent(owner, each, row, read_attachment)
        ids += [view.id for view in attach_files(runtime, [file], actor)]
    answer = sent.answer
    answer = answer.model_copy(update={"attachments": [*dict.fromkeys([*answer.attachments, *ids])]})
    return broker_answers.receive_answer(runtime, owner.id, answer, actor)


def _check_sent(owner: SubmissionOwner, file: SentFile, row: int, read_attachment: ReadAttachment | None) -> NewFile:
    places = FilePlaces(f"/files/{row}/filename", f"/files/{row}/content")
    if file.content is not None:
        body = _decode(file.content, places.content)
    elif read_attachment is not None:
        body = read_attachment(file.filename)
    else:
        raise ValidationFailed(
            f"the file {file.filename!r} has no `content`; send its bytes as base64", field=places.content
        )
    if file.sha256 is not None and file.sha256 != hashlib.sha256(body).hexdigest():
        raise ValidationFailed(
            f"the file {file.filename!r} has another SHA-256 than the answer says; send the file and its hash again",
            field=f"/files/{row}/sha256",
        )
    return check_file(owner.export_id, owner.partner_id, file.filename, body, places=places)


def _decode(content: str, place: str) -> bytes:
    if len(content) > MAX_BYTES * 4 // 3 + 4:
        raise PayloadTooLarge(f"a file must have at most {MAX_BYTES} bytes; send a smaller one", field=place)
    try:
        return b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise ValidationFailed("the content is not base64; encode the bytes again", field=place) from None
