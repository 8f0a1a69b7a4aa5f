"""What to do about a message that a partner did not take, by channel and status of the last attempt."""

from collections.abc import Mapping
from typing import Final

from pipeline.accounts.channels import ChannelKind, find_channel

#: Failures before the message reached the partner.
_BY_LOCAL_FAILURE: Final[Mapping[str, str]] = {
    "SecretUnreadable": "give every process the key that encrypted the partner's secret, with"
    " EXPORTS_SECRET_KEYS_PREVIOUS; if the key is lost, give the partner a new secret or set its channel again",
    "MessageNotBuilt": "see message_not_built in the log of the sending process; upgrade or report it, then resend the message",
    "WorkerLost": "see in the logs of the sending process why it ended; fix that, then resend the message",
}
#: The remedy of a failure that the status does not explain; its command follows.
_TEST: Final = "run the connection test to find out what to correct"
_AT_EXPORTER: Final = "ask the exporter for the cause, then resend the message"


def find_partner_remedy(channel: str, status: str | None) -> str:
    """Return, in one sentence, what the partner can do before it resends the message."""
    kind = find_channel(channel)
    if status in _BY_LOCAL_FAILURE or not kind.own_server:
        return _AT_EXPORTER
    return (
        kind.partner_remedies.get(status or "")
        or _find_http_remedy(kind, status, yours="your")
        or "test your endpoint to find out what to correct"
    )


def find_remedy(account_id: str, partner_id: str, channel: str, status: str | None) -> str:
    """Return, in one sentence, what to do before resending the message."""
    kind = find_channel(channel)
    known = (
        _BY_LOCAL_FAILURE.get(status or "")
        or kind.remedies.get(status or "")
        or kind.other_remedy
        or _find_http_remedy(kind, status)
    )
    return known or f"{_TEST}: `exports partners test {partner_id} --account {account_id}`"


def omit_command(remedy: str) -> str:
    """Return a remedy for a page, which has a button in the place of the command of the connection test."""
    before, found, _ = remedy.partition(_TEST)
    return before + found


def _find_http_remedy(kind: ChannelKind, status: str | None, *, yours: str = "the") -> str | None:
    if not kind.over_http or status is None or not status.isdigit():
        return None
    if status in ("429", "503"):
        return f"{yours} endpoint is too busy: ask its operator, and resend when it has capacity"
    return {
        "3": f"register the address that {yours} endpoint redirects to: redirects are not followed",
        "4": f"{yours} endpoint refuses the message: see its log",
        "5": f"{yours} endpoint fails: see its log; resend when it is fixed",
    }.get(status[0])
