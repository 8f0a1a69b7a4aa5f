"""Refusals for want of authority: each is counted, and leaves a line in the log that says who was refused what."""

from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter
from starlette.types import Scope

from pipeline.accounts.sessions import find_network
from pipeline.core.errors import (
    ForeignForm,
    InsufficientRole,
    InvalidAccountScope,
    InvalidApiKey,
    Refused,
    SignInFailed,
)
from pipeline.interfaces.api.dependencies import ApiKeyCache
from pipeline.interfaces.api.errors import REFUSED, ForeignObject

log = structlog.get_logger(__name__)

#: Why a caller lacked authority, as the metric and the log say it; the nearest class counts.
_REASONS: Final[dict[type[Refused], str]] = {
    InvalidApiKey: "key_or_signature",
    SignInFailed: "sign_in",
    InvalidAccountScope: "other_account",
    ForeignObject: "other_account",
    ForeignForm: "foreign_form",
    InsufficientRole: "role",
}
_UNKNOWN_LINK: Final = "unknown_link"
#: Routes at which nothing else is missing than the link itself.
_OF_LINKS: Final = ("/documents/", "/answers/", "/calendar/", "/console/links/", "/portal/open")
#: Routes whose forms need no session, so they check only which site sent them.
_OPEN_FORMS: Final = ("/console/sign-in", "/console/links/", "/portal/open")

#: Lines a minute for each reason: a flood must not fill the disk, nor hide what else is refused.
_LINES_PER_MINUTE: Final = 60


class Denials:
    """Counts and logs the requests of a process that were refused for want of authority."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counted = Counter(
            "exports_access_denied", "Requests refused for want of authority", ["reason"], registry=registry
        )
        for reason in {*_REASONS.values(), _UNKNOWN_LINK}:
            self._counted.labels(reason)
        self._lines = ApiKeyCache(_LINES_PER_MINUTE)

    def record(self, scope: Scope, method: str, route: str, status: int) -> None:
        """Count the answer if it is such a refusal, and write its line. The context of the log names the caller."""
        reason = _find_reason(scope, route, status)
        if reason is None:
            return
        self._counted.labels(reason).inc()
        _, wait = self._lines.take_token(reason)
        if not wait:
            network = find_network((scope.get("client") or ("",))[0])
            log.info("access_denied", reason=reason, method=method, route=route, status=status, network=network)


def _find_reason(scope: Scope, route: str, status: int) -> str | None:
    if status == 404 and route.startswith(_OF_LINKS):
        return _UNKNOWN_LINK
    if REFUSED in scope:
        refused = scope[REFUSED]
        return next((_REASONS[kind] for kind in type(refused).__mro__ if kind in _REASONS), None)
    # A page that shows its own refusal.
    if status == 403:
        return _REASONS[ForeignForm if route.startswith(_OPEN_FORMS) else InsufficientRole]
    return _REASONS[SignInFailed] if status == 401 else None
