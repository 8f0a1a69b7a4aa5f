"""E-mail over a real mail server: what arrives, what is refused, and how hostile servers are handled."""

import hashlib
import json
import time
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from config.settings import Settings
from pipeline.accounts.recipients import Target
from pipeline.core.errors import ChannelRefused, ChannelUnavailable, StoreUnavailable
from pipeline.deliveries.channels.email import EmailChannel, split_attachments
from pipeline.deliveries.channels.protocol import Attachment, EmailBody
from tests.support.mail_server import CLERK, DESK, LETTER, MESSAGE, Mail, MailServer, Script, channel, send, to
from tests.system.faults.matrix import mark_own_stack


def document(name: str, body: bytes, media_type: str = "application/pdf") -> Attachment:
    digest = hashlib.sha256(body).hexdigest()
    return Attachment(name, media_type, len(body), digest, f"https://exports.example/{name}", lambda: body)


def test_mail_has_body_message_and_documents() -> None:
    documents = (document("CP-1/invoice.pdf", b"%PDF"), document("CP-1/invoice.csv", b"a,b\r\n", "text/csv"))
    with MailServer() as room:
        (receipt,) = send(room, replace(MESSAGE, attachments=documents), addresses=(DESK, CLERK))
        (mail,) = room.mails
    assert (receipt.status, receipt.answer) == ("250", "2.0.0 queued as 1")
    assert (mail.sender, mail.recipients) == ("exports@maple.example", [DESK, CLERK])
    read = mail.parsed
    assert read["Subject"] == LETTER.subject
    assert read["From"] == '"Export desk, Montréal" <exports@maple.example>'
    assert read["To"] == f"{DESK}, {CLERK}"
    assert read["Message-ID"] == f"<{MESSAGE.id}@maple.example>"
    assert read["Auto-Submitted"] == "auto-generated"
    assert abs(parsedate_to_datetime(read["Date"]).timestamp() - time.time()) < 60
    assert (mail.read_text("plain"), mail.read_text("html")) == (LETTER.text, LETTER.html)
    parts = [
        (part.get_filename(), part.get_content_type(), part.get_payload(decode=True)) for part in read_attachments(mail)
    ]
    assert parts == [
        ("handoff.json", "application/cloudevents+json", MESSAGE.body),
        ("CP-1_invoice.pdf", "application/pdf", b"%PDF"),
        ("CP-1_invoice.csv", "text/csv", b"a,b\r\n"),
    ]


def read_attachments(mail: Any) -> list[Any]:
    return list(mail.parsed.iter_attachments())


def test_mail_is_seven_bit_with_crlf_and_a_single_dot_does_not_end_it() -> None:
    letter = EmailBody("Grüße", "first\n.\nlast\r.\rü\n", "<p>.</p>\n.\n")
    with MailServer() as room:
        send(room, replace(MESSAGE, email_body=letter))
        (mail,) = room.mails
    assert mail.raw.isascii()
    assert mail.raw.replace(b"\r\n", b"").count(b"\n") == mail.raw.replace(b"\r\n", b"").count(b"\r") == 0
    assert max(len(line) for line in mail.raw.split(b"\r\n")) <= 998
    assert mail.read_text("plain") == "first\n.\nlast\n.\nü\n"


def test_each_message_is_a_separate_mail_in_order() -> None:
    with MailServer() as room:
        receipts = send(room, *(replace(MESSAGE, id=f"m-{n}") for n in range(3)))
        ids = [mail.parsed["Message-ID"] for mail in room.mails]
    assert [receipt.status for receipt in receipts] == ["250"] * 3
    assert ids == [f"<m-{n}@maple.example>" for n in range(3)]


def test_thirty_documents_arrive_unchanged_with_their_names() -> None:
    documents = [document(f"CP-{n}/Rechnung für 您.pdf", bytes([n]) * 1000) for n in range(30)]
    with MailServer() as room:
        send(room, replace(MESSAGE, attachments=documents))
        parts = [(part.get_filename(), part.get_payload(decode=True)) for part in read_attachments(room.mails[0])[1:]]
    assert parts == [(f"CP-{n}_Rechnung für 您.pdf", each.read()) for n, each in enumerate(documents)]


def test_documents_over_the_limit_are_not_attached_and_not_read() -> None:
    def unread() -> bytes:
        raise AssertionError

    small, last = document("small.pdf", b"x" * 60), document("last.pdf", b"z" * 40)
    large = replace(document("large.pdf", b"y" * 50), read=unread)
    parted = split_attachments((small, large, last), 100)
    assert (list(parted.attached), list(parted.linked)) == ([small, last], [large])
    with MailServer() as room:
        send(room, replace(MESSAGE, attachments=(small, large, last)), mail_attach_max_bytes=100)
        names = [part.get_filename() for part in read_attachments(room.mails[0])]
    assert names == ["handoff.json", "small.pdf", "last.pdf"]


def test_unreadable_document_is_retried() -> None:
    def lost() -> bytes:
        raise StoreUnavailable("the store does not answer")

    with MailServer() as room, pytest.raises(ChannelUnavailable, match=r"invoice\.pdf cannot be attached"):
        send(room, replace(MESSAGE, attachments=(replace(document("invoice.pdf", b"x"), read=lost),)))
    assert room.mails == []


# Replies of the server


@mark_own_stack("F24")
@pytest.mark.parametrize(
    "script",
    [
        Script(sender="451 4.3.0 later"),
        Script(recipients={DESK: "451 4.3.0 later"}),
        Script(data=["451 4.3.0 later"]),
        Script(data=["421 4.3.0 later"]),
    ],
)
def test_reply_4xx_is_retried(script: Script) -> None:
    with MailServer(script) as room, pytest.raises(ChannelUnavailable) as caught:
        send(room)
    assert (caught.value.status, caught.value.answer) in {("451", "4.3.0 later"), ("421", "4.3.0 later")}
    assert room.mails == []


@mark_own_stack("F24")
@pytest.mark.parametrize(
    "script",
    [
        Script(sender="550 5.7.1 not from you"),
        Script(recipients={DESK: "550 5.7.1 not from you"}),
        Script(data=["550 5.7.1 not from you"]),
    ],
)
def test_reply_5xx_is_refused_permanently(script: Script) -> None:
    with MailServer(script) as room, pytest.raises(ChannelRefused) as caught:
        send(room)
    assert (caught.value.status, caught.value.answer, caught.value.gone) == ("550", "5.7.1 not from you", False)


def test_mail_over_the_server_size_limit_is_refused_before_sending() -> None:
    with MailServer(data_size_limit=1000) as room, pytest.raises(ChannelRefused) as caught:
        send(room)
    assert caught.value.status == "552"


@mark_own_stack("F24")
def test_connection_lost_after_data_is_retried_with_same_message_id() -> None:
    with MailServer(Script(drops=1)) as room:
        with pytest.raises(ChannelUnavailable):
            send(room)
        send(room)
        ids = [mail.parsed["Message-ID"] for mail in (*room.dropped, *room.mails)]
    assert ids == [f"<{MESSAGE.id}@maple.example>"] * 2


def test_permanently_refused_recipient_does_not_block_others_and_is_numbered() -> None:
    with MailServer(Script(recipients={CLERK: f"550 5.1.1 <{CLERK}>: no such user"})) as room:
        (receipt,) = send(room, addresses=(CLERK, DESK))
        (mail,) = room.mails
    assert mail.recipients == [DESK]
    assert receipt.answer == "2.0.0 queued as 1; recipient 1 of 2 refused: 550 5.1.1 (address): no such user"


def test_temporarily_refused_recipient_makes_all_wait() -> None:
    with MailServer(Script(recipients={CLERK: "450 4.2.0 greylisted"})) as room:
        with pytest.raises(ChannelUnavailable, match="did not take recipient 2 of 2: 450"):
            send(room, addresses=(DESK, CLERK))
        assert room.mails == []
        room.script = Script()
        send(room, addresses=(DESK, CLERK))
        assert [mail.recipients for mail in room.mails] == [[DESK, CLERK]]


@pytest.mark.parametrize(
    ("expected_text", "kept"),
    [
        (f"<{CLERK}>: Recipient address rejected: User unknown", "(address): Recipient address rejected: User unknown"),
        (f"5.1.1 {CLERK}... User unknown", "5.1.1 (address) User unknown"),
        (f"No such user '{CLERK.upper()}'; see mailto:{DESK}.", "No such user '(address)'; see mailto:(address)"),
        ("x" * 497 + f" {CLERK}", "x" * 497 + " (a"),
        ("5.7.1 spam at 10:00", "5.7.1 spam at 10:00"),
    ],
)
def test_stored_server_reply_has_no_mail_address(expected_text: str, kept: str) -> None:
    for script in (
        Script(recipients={CLERK: f"550 {expected_text}"}),
        Script(sender=f"550 {expected_text}"),
        Script(data=[f"550 {expected_text}"]),
    ):
        with MailServer(script) as room, pytest.raises(ChannelRefused) as caught:
            send(room, addresses=(CLERK,))
        assert caught.value.answer == kept
        assert str(caught.value).endswith(f": 550 {kept}")


def test_mail_without_body_or_address_is_refused() -> None:
    with MailServer() as room:
        with pytest.raises(ChannelRefused, match="not sent by e-mail"):
            send(room, replace(MESSAGE, email_body=None))
        with pytest.raises(ChannelRefused, match="no e-mail address"):
            list(channel(room.port).send([MESSAGE], Target("acc_demo", "sandbox", test=True)))
    assert room.connections == 0


def test_mail_without_configured_server_waits() -> None:
    with pytest.raises(ChannelUnavailable, match="EXPORTS_SMTP_URL"):
        list(EmailChannel(Settings.model_validate({})).send([MESSAGE], to(DESK)))


# Contents of headers

WORDS = st.text(st.characters(codec="utf-8"), max_size=300)


@settings(max_examples=150)
@example(subject="", text="", name="\x1e")  # a line break only to Python, not to mail servers
@given(subject=WORDS, text=WORDS, name=st.text(st.characters(codec="utf-8", exclude_characters="/"), max_size=60))
def test_hostile_text_adds_no_header_recipient_or_part(subject: str, text: str, name: str) -> None:
    message = replace(
        MESSAGE,
        email_body=EmailBody(subject, text, text),
        attachments=(document(name or "x", b"x"),),
        body=json.dumps(text).encode(),
    )
    try:
        raw = channel(1)._compose(message, [DESK])
    except ChannelRefused:
        assert not subject.isprintable()
        return
    read = Mail("", [], raw).parsed
    expected = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"]
    assert sorted(read.keys()) == sorted(expected)
    assert read["To"] == DESK
    assert " ".join(read["Subject"].split()) == " ".join(subject.split())
    assert [part.get_content_type() for part in read.iter_attachments()] == [
        "application/cloudevents+json",
        "application/pdf",
    ]


@pytest.mark.parametrize(
    "subject", ["a\r\nBcc: x@evil.example", "a\nb", "a\rb", "a\x00b", "a\u2028b", "a\x0bb", "a\x85b"]
)
def test_subject_with_line_break_is_refused(subject: str) -> None:
    with MailServer() as room, pytest.raises(ChannelRefused, match="control character"):
        send(room, replace(MESSAGE, email_body=replace(LETTER, subject=subject)))
    assert room.connections == 0


@pytest.mark.parametrize(
    ("changes", "expected_text"),
    [
        ({"smtp_url": "mail.example"}, "EXPORTS_SMTP_URL must be a mail server's URL"),
        ({"smtp_url": "http://mail.example"}, "EXPORTS_SMTP_URL must be a mail server's URL"),
        ({"smtp_url": "smtp://a:b@mail.example"}, "unencrypted"),
        ({"smtp_url": "smtp://mail.example"}, "needs a sender"),
        ({"mail_from": "a@x.example\r\nBcc: b@x.example"}, "must be an address"),
        ({"mail_from": "nobody"}, "must be an address"),
    ],
)
def test_unusable_mail_settings_are_refused_at_start(changes: dict[str, str], expected_text: str) -> None:
    with pytest.raises(ValueError, match=expected_text):
        Settings.model_validate(changes)
