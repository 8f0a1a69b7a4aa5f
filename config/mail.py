"""Checks the settings of outgoing mail."""

from __future__ import annotations

import re

_SMTP_URL = re.compile(
    r"(?P<scheme>smtp|smtp\+starttls|smtps)://(?P<user>[^\s:@/]+:[^\s@/]+@)?([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?"
)
_MAILBOX = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9.-]+"
_MAIL_FROM = re.compile(rf'[^\x00-\x1f\x7f<>"]+ <{_MAILBOX}>|{_MAILBOX}')


def check_mail(mail_from: str | None, smtp_url: str | None) -> None:
    """Raise ValueError if the sender or the mail server's URL is invalid, or if the server has no sender."""
    sender = "" if mail_from is None else mail_from
    if sender and not _MAIL_FROM.fullmatch(sender):
        raise ValueError("EXPORTS_MAIL_FROM must be an address, as in `Export desk <exports@maple.example>`")
    if smtp_url is None:
        return
    server = _SMTP_URL.fullmatch(smtp_url)
    if server is None:
        raise ValueError("EXPORTS_SMTP_URL must be a mail server's URL, as in smtp+starttls://user:password@host:587")
    if server["user"] and server["scheme"] == "smtp":
        raise ValueError("EXPORTS_SMTP_URL would send its password unencrypted; use smtp+starttls:// or smtps://")
    if not sender:
        raise ValueError("EXPORTS_SMTP_URL needs a sender; set EXPORTS_MAIL_FROM too")
