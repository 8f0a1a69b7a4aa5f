"""What to do about a message that a partner did not take, by its channel and what was said at the last try."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_BY_STATUS: Final[Mapping[str, Mapping[str, str]]] = {
    "webhook": {
        "401": "give the endpoint the partner's newest signing secret, and have it check its clock",
        "403": "give the endpoint the partner's newest signing secret, and have it check its clock",
        "404": "correct the address of the webhook",
        "405": "have the address take POST, or correct it",
        "410": "the endpoint is gone and the partner was paused: set another address, then resume the partner",
        "413": "have the endpoint take bodies of up to 32 MB",
        "415": "have the endpoint take the content type application/cloudevents+json",
    },
    "borderbuddy": {
        "401": "check EXPORTS_BORDERBUDDY_TOKEN with whoever runs the endpoint",
        "403": "check EXPORTS_BORDERBUDDY_TOKEN with whoever runs the endpoint",
        "404": "correct EXPORTS_BORDERBUDDY_URL",
        "410": "the endpoint is gone and the partner was paused: set EXPORTS_BORDERBUDDY_URL anew, then resume the partner",
    },
    "sftp": {
        "HostKeyNotVerifiable": "ask the partner for its host key; if the new one is theirs, pin it in the partner's channel",
        "PermissionDenied": "ask the partner for user and credential, and set the partner's channel again",
        "NoSftpSession": "ask the partner to look into the log of its server: chroot folder, subsystem sftp",
        "SFTPNoSpaceOnFilesystem": "ask the partner to make room on its server",
        "SFTPQuotaExceeded": "ask the partner to make room on its server",
        "SFTPPermissionDenied": "ask the partner for all rights in out/",
        "FileCorrupt": "the server keeps other bytes than it is sent: tell the partner",
    },
}
#: Where it came to no partner at all.
_BY_LOCAL_FAILURE: Final[Mapping[str, str]] = {
    "SecretUnreadable": "give every process the key that the partner's secret was sealed under, by"
    " EXPORTS_SECRET_KEYS_PREVIOUS; where it is lost, give the partner a new secret or set its channel again",
    "MessageNotBuilt": "the log of the process that sends says why, at message_not_built; upgrade or report it, then send again",
    "WorkerLost": "the logs of the process that sends say why it came to an end; mend that, then send the message again",
}
_BY_CHANNEL: Final[Mapping[str, str]] = {
    "queue": "see that the message broker runs (`exports doctor`), and that a queue is bound to what is meant for the partner",
    "email": "read what the mail server says; correct the partner's addresses, or EXPORTS_SMTP_URL",
}


def find_remedy(account_id: str, partner_id: str, channel: str, status: str | None) -> str:
    """Return what to do before the message is sent again, as one sentence."""
    known = (
        _BY_LOCAL_FAILURE.get(status or "")
        or _BY_STATUS.get(channel, {}).get(status or "")
        or _BY_CHANNEL.get(channel)
        or _find_http_remedy(channel, status)
    )
    test = f"`exports partners test {partner_id} --account {account_id}`"
    return known or f"run the connection test, which says what to correct: {test}"


def _find_http_remedy(channel: str, status: str | None) -> str | None:
    if channel not in ("webhook", "borderbuddy") or status is None or not status.isdigit():
        return None
    if status in ("429", "503"):
        return "the endpoint is too busy: ask whoever runs it, and send again when it has the capacity"
    return {
        "3": "register the address that it redirects to: no redirect is followed",
        "4": "the endpoint refuses the message: its own log says why",
        "5": "the endpoint fails: its own log says why; send again once it is mended",
    }.get(status[0])
