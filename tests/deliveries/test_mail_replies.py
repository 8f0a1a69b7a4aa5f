"""Answers by e-mail: each becomes one remark with its files, or is left in the mailbox for a person."""

from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any

import pytest
from pydantic import SecretStr
from sqlmodel import select

from config.settings import Settings
from pipeline.core.errors import ChannelUnavailable, InvalidRequest
from pipeline.core.runtime import Runtime
from pipeline.deliveries import mail_replies
from pipeline.deliveries.channels import imap_mailbox
from pipeline.deliveries.email.replies import parse_reply
from pipeline.deliveries.models import Acknowledgement, Notification
from pipeline.deliveries.schemas.answers import NewMessage
from pipeline.deliveries.streams import sender
from pipeline.exports.file_models import ConversationFile
from pipeline.workflow.conversation import write_message
from tests.deliveries.conftest import OpenRuntime
from tests.deliveries.streams.test_messages_by_email import hand_off_by_email
from tests.deliveries.support import exports
from tests.support import factories, stored
from tests.support.imap_server import KeptMail, MailboxServer
from tests.support.mail_server import CLERK, DESK, MailServer

PDF = b"%PDF-1.7\n"
TAKEN, LEFT, WAITING = {rb"\Seen"}, {rb"\Flagged"}, set[bytes]()


def compose(answers: str = "", text: str = "It is steel.\n", sender: str = DESK, **headers: str) -> EmailMessage:
    """Return an e-mail of the customs broker."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Message-ID"] = f"Desk <{sender}>", "exports@maple.example", "<1@broker.example>"
    if answers:
        mail["In-Reply-To"] = answers
    for name, value in headers.items():
        mail[name.replace("_", "-")] = value
    mail.set_content(text)
    return mail


@dataclass
class Room:
    """A handoff that was sent by e-mail, and the mailbox of the answers."""

    runtime: Runtime
    export_id: str
    handoff: str
    mailbox: MailboxServer

    def read(self, *mails: EmailMessage | bytes) -> list[set[bytes]]:
        """Put the e-mails into the mailbox, read it, and return their flags."""
        self.mailbox.mails[:] = [KeptMail(each if isinstance(each, bytes) else each.as_bytes()) for each in mails]
        mail_replies.read_mailbox(self.runtime)
        return self.mailbox.flags()

    def answers(self) -> list[Acknowledgement]:
        """Return the recorded answers."""
        return list(stored.rows(self.runtime, select(Acknowledgement)))


@pytest.fixture
def room(make_runtime: OpenRuntime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """A handoff by e-mail, and an empty mailbox."""
    with MailServer() as smtp, MailboxServer() as mailbox:
        monkeypatch.setattr(imap_mailbox, "trusted_certificates", lambda: mailbox.certificate.trusted)

        def open_runtime(**changes: Any) -> Runtime:
            return make_runtime(imap_url=mailbox.url(), **changes)

        runtime, export = hand_off_by_email(open_runtime, smtp, artifactTypes=["cci_ubl"])
        sender.deliver_stream(runtime, export.export_id, factories.BROKER, "email")
        sent = smtp.mails[0].parsed
        assert "Or reply to this e-mail" in str(sent.get_body(("plain",)))
        yield Room(runtime, export.export_id, str(sent["Message-ID"]), mailbox)


def test_answer_is_a_remark_with_its_files_once(room: Room) -> None:
    write_message(room.runtime, factories.ACCOUNT, room.export_id, NewMessage(id="m-1", text="Steel?"), "key_1")
    ids = stored.rows(
        room.runtime, select(Notification.id).where(Notification.event_type == "exports.handoff.replied.v1")
    )
    text = "Steel.\n\nOn Mon, 1 Dec 2026 at 10:00 Export desk\n<exports@maple.example> wrote:\n> Steel?\nCoils.\n-- \nDesk\n"
    mail = compose(f"<{ids[0]}@maple.example>", text, sender=CLERK.upper(), References=room.handoff)
    mail.add_attachment(PDF, maintype="application", subtype="pdf", filename="../Entry 7501.pdf")
    mail.add_attachment(b"MZ", maintype="application", subtype="octet-stream", filename="réponse.exe")
    mail.add_attachment(
        b"GIF89a", maintype="image", subtype="gif", filename="logo.gif", disposition="inline", cid="<a>"
    )
    for _ in range(2):
        assert room.read(mail) == [TAKEN]
    (answer,), (file,) = room.answers(), stored.rows(room.runtime, select(ConversationFile))
    assert (answer.status, answer.in_reply_to, answer.attachments) == ("remark", "m-1", [file.id])
    assert answer.message == "Steel.\n\nCoils.\n(Files that were not taken: réponse.exe.)"
    assert (file.filename, file.author) == ("Entry-7501.pdf", f"partner:{factories.BROKER}")
    assert exports.read_event_types(room.runtime, room.export_id).count("BROKER_ACKNOWLEDGED") == 1


def test_other_mails_are_left_once_and_counted(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imap_mailbox, "MAX_BYTES", 20_000)
    nested = b"".join(b"Content-Type: multipart/mixed; boundary=a%d\n\n--a%d\n" % (n, n) for n in range(300))
    reply = room.handoff
    other = f"<{'0' * 8}-0000-4000-8000-{'0' * 12}@maple.example>"
    mails: list[EmailMessage | bytes] = [
        compose(),
        compose(other),
        compose(reply.replace("maple", "pine")),
        compose(reply, sender="other@broker.example"),
        compose(reply, Auto_Submitted="auto-replied"),
        compose(reply, Precedence="bulk"),
        compose(reply, text="x" * 20_000),
        nested,
        b"Content-Type: a/b" + b";a=b" * 4000 + b"\n\n",
        b"\xff\x00From: \r\n",
        compose(reply, text="z" * 3000),
    ]
    assert room.read(*mails) == [LEFT] * (len(mails) - 1) + [TAKEN]
    assert len(room.mailbox.reads) == len(mails) - 1, "one that is too large is not read"
    (answer,) = room.answers()
    assert (len(answer.message or ""), (answer.message or "")[-20:]) == (1000, "mailbox has all of it.)"[-20:])
    room.mailbox.reads.clear()
    mail_replies.read_mailbox(room.runtime)
    assert room.mailbox.reads == []
    assert mail_replies.check_mailbox(room.runtime.settings).endswith(f"left to a person: {len(mails) - 1}")


def test_mailbox_that_fails_is_read_later(room: Room) -> None:
    room.mailbox.failing = b"STORE"
    assert room.read(compose(room.handoff)) == [WAITING]
    room.mailbox.failing = None
    mail_replies.read_mailbox(room.runtime)
    assert (room.mailbox.flags(), len(room.answers())) == ([TAKEN], 1)


def test_one_process_at_a_time_takes_the_turn(room: Room, make_runtime: OpenRuntime) -> None:
    assert [mail_replies.take_turn(room.runtime) for _ in range(2)] == [True, False]
    assert not mail_replies.take_turn(make_runtime())


@pytest.mark.parametrize(
    ("password", "folder", "words"), [("wrong", "INBOX", "as expected"), ("imap", "Other", "no folder Other")]
)
def test_wrong_setting_is_named(room: Room, password: str, folder: str, words: str) -> None:
    url = SecretStr(room.mailbox.url(password, folder))
    with pytest.raises(ChannelUnavailable, match=words) as caught:
        mail_replies.check_mailbox(room.runtime.settings.model_copy(update={"imap_url": url}))
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"imap_url": "imap://a:b@mail.example"}, "must be a mailbox's URL"),
        ({"imap_url": "imaps://mail.example"}, "must be a mailbox's URL"),
        ({"imap_url": "imaps://a:b@mail.example"}, "set EXPORTS_MAIL_FROM too"),
    ],
)
def test_settings_of_the_mailbox_are_checked(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Settings.model_validate({"database_url": "sqlite://"} | changes)


@pytest.mark.parametrize(
    ("results", "taken"),
    [
        (["mx.maple.example; spf=pass; dmarc=pass (p=reject) header.from=broker.example"], True),
        (["mx.maple.example; dmarc=fail", "mx.maple.example; dmarc=pass"], False),
        (["mx.other.example; dmarc=pass"], False),
        (["mx.maple.example; spf=pass (dmarc=pass; dmarc=pass)"], False),
        ([], False),
    ],
)
def test_trusted_server_must_confirm_the_sender(results: list[str], *, taken: bool) -> None:
    raw = b"".join(b"Authentication-Results: %s\n" % each.encode() for each in results) + compose().as_bytes()
    if taken:
        assert parse_reply(raw, "maple.example", "mx.maple.example").sender == DESK
        return
    with pytest.raises(InvalidRequest, match="passed DMARC"):
        parse_reply(raw, "maple.example", "mx.maple.example")


def test_page_is_read_without_its_quotation() -> None:
    mail = compose()
    page = "<style>a</style><p>It is</p><div>steel &amp; zinc</div><blockquote>Which?</blockquote>"
    mail.set_content(page, subtype="html")
    assert parse_reply(mail.as_bytes(), "maple.example").text == "It is\nsteel & zinc"
