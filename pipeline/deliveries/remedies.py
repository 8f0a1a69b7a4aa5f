"""What to do about a message that a partner did not take, by channel and status of the last attempt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_BY_STATUS: Final[Mapping[str, Mapping[str, str]]] = {
    "webhook": {
        "401": "give the endpoint the partner's newest signing secret, and check its clock",
        "403": "give the endpoint the partner's newest signing secret, and check its clock",
        "404": "correct the address of the webhook",
        "405": "make the address accept POST, or correct it",
        "410": "the endpoint is gone and the partner was paused: set another address, then resume the partner",
        "413": "make the endpoint accept bodies of up to 32 MB",
        "415": "make the endpoint accept the content type application/cloudevents+json",
    },
    "borderbuddy": {
        "401": "check EXPORTS_BORDERBUDDY_TOKEN with the endpoint's operator",
        "403": "check EXPORTS_BORDERBUDDY_TOKEN with the endpoint's operator",
        "404": "correct EXPORTS_BORDERBUDDY_URL",
        "410": "the endpoint is gone and the partner was paused: correct EXPORTS_BORDERBUDDY_URL, then resume the partner",
    },
    "queue": {
        "MessageNacked": "a queue of the message broker is full: let its consumer take messages, then resend the message",
    },
    "sftp": {
        "HostKeyNotVerifiable": "ask the partner for its host key; if the new key is theirs, pin it in the partner's channel",
        "PermissionDenied": "ask the partner for user and credential, and set the partner's channel again",
        "NoSftpSession": "ask the partner to check its server's log: chroot folder, subsystem sftp",
        "SFTPNoSpaceOnFilesystem": "ask the partner to free disk space on its server",
        "SFTPQuotaExceeded": "ask the partner to free disk space on its server",
        "SFTPPermissionDenied": "ask the partner for all rights in out/",
        "FileCorrupt": "the server stores other bytes than were sent: inform the partner",
    },
}
#: Failures before the message reached the partner.
_BY_LOCAL_FAILURE: Final[Mapping[str, str]] = {
    "SecretUnreadable": "give every process the key that encrypted the partner's secret, with"
    " EXPORTS_SECRET_KEYS_PREVIOUS; if the key is lost, give the partner a new secret or set its channel again",
    "MessageNotBuilt": "see message_not_built in the log of the sending process; upgrade or report it, then resend the message",
    "WorkerLost": "see in the logs of the sending process why it ended; fix that, then resend the message",
}
_BY_CHANNEL: Final[Mapping[str, str]] = {
    "email": "read the mail server's reply; correct the partner's addresses, or EXPORTS_SMTP_URL",
}
#: What the partner itself can do, by channel and status of the last attempt.
_FOR_PARTNER: Final[Mapping[str, Mapping[str, str]]] = {
    "webhook": {
        "401": "verify the exact bytes of the body with your newest secret, and set your clock",
        "403": "verify the exact bytes of the body with your newest secret, and set your clock",
        "404": "serve this address, or ask the exporter to register another",
        "405": "accept POST at this address",
        "410": "your endpoint answered that it is gone, so you were paused: ask the exporter to resume you",
        "413": "accept bodies of up to 32 MB",
        "415": "accept the content type application/cloudevents+json",
    },
    "sftp": {
        "HostKeyNotVerifiable": "compare your server's host key with the exporter's copy; give the exporter the new one",
        "PermissionDenied": "check user and credential with the exporter",
        "NoSftpSession": "look into your server's log: chroot folder, subsystem sftp",
        "SFTPNoSpaceOnFilesystem": "free disk space on your server",
        "SFTPQuotaExceeded": "free disk space on your server",
        "SFTPPermissionDenied": "give the exporter's user all rights in out/",
        "FileCorrupt": "your server stores other bytes than were sent: check its disk",
    },
}
#: The remedy of a failure that the status does not explain; its command follows.
_TEST: Final = "run the connection test to find out what to correct"
_AT_EXPORTER: Final = "ask the exporter for the cause, then resend the message"


def find_partner_remedy(channel: str, status: str | None) -> str:
    """Return, in one sentence, what the partner can do before it resends the message."""
    if status in _BY_LOCAL_FAILURE or channel not in ("webhook", "sftp"):
        return _AT_EXPORTER
    return (
        _FOR_PARTNER[channel].get(status or "")
        or _find_http_remedy(channel, status, yours="your")
        or "test your endpoint to find out what to correct"
    )


def find_remedy(account_id: str, partner_id: str, channel: str, status: str | None) -> str:
    """Return, in one sentence, what to do before resending the message."""
    known = (
        _BY_LOCAL_FAILURE.get(status or "")
        or _BY_STATUS.get(channel, {}).get(status or "")
        or _BY_CHANNEL.get(channel)
        or _find_http_remedy(channel, status)
    )
    return known or f"{_TEST}: `exports partners test {partner_id} --account {account_id}`"


def omit_command(remedy: str) -> str:
    """Return a remedy for a page, which has a button in the place of the command of the connection test."""
    before, found, _ = remedy.partition(_TEST)
    return before + found


def _find_http_remedy(channel: str, status: str | None, *, yours: str = "the") -> str | None:
    if channel not in ("webhook", "borderbuddy") or status is None or not status.isdigit():
        return None
    if status in ("429", "503"):
        return f"{yours} endpoint is too busy: ask its operator, and resend when it has capacity"
    return {
        "3": f"register the address that {yours} endpoint redirects to: redirects are not followed",
        "4": f"{yours} endpoint refuses the message: see its log",
        "5": f"{yours} endpoint fails: see its log; resend when it is fixed",
    }.get(status[0])
