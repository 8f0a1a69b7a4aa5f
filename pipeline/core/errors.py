"""Everything that can go wrong, as one tree, split by what the caller should do.

ExportsError
├── Retryable            try again later: nothing was done, or what was done is harmless to repeat
│   ├── DatabaseBusy         the database did not answer in time
│   ├── MessageBrokerDown    the message broker did not take a message
│   ├── StoreUnavailable     the artifact store did not answer
│   ├── RendererUnavailable  the document renderer does not start, or its machine lacks what it needs
│   ├── RendererCrashed      the document renderer died or ran out of time or memory
│   └── ChannelUnavailable   a partner's endpoint did not take a delivery
├── Terminal             stop: trying again cannot help, a person must look
│   ├── StepFailed           a step met facts that it cannot work with
│   ├── WorkerLost           a step, or a message, ended its worker as often as it may be begun
│   ├── ArtifactConflict     the same document came out with other bytes
│   ├── RulesInvalid         the rules of customs contradict their schema or one another
│   ├── ChannelRefused       a partner's endpoint said no for good
│   ├── SecretUnreadable     a secret was sealed under a key that this process was not given
│   └── UnsafeSettings       the settings are such that no process may serve by them
├── Fenced               stop at once: somebody else holds this step now
├── Stopped              stop at once: this process was told to end, and gives back what it holds
└── Refused              tell the caller: the request, not the service, is at fault
    (one class a code of the HTTP contract, below)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

if TYPE_CHECKING:
    from pipeline.core.findings import Finding, RuleCount


class ExportsError(Exception):
    """The root: everything this service raises on purpose."""


class Retryable(ExportsError):
    """Try again later; nothing is lost."""


class DatabaseBusy(Retryable):
    """The database did not answer in time."""


class MessageBrokerDown(Retryable):
    """The message broker did not take a message."""


class StoreUnavailable(Retryable):
    """The artifact store did not answer."""


class RendererUnavailable(Retryable):
    """The document renderer does not start, or its machine lacks what it needs; no document is to blame."""


class RendererCrashed(Retryable):
    """The document renderer died, or ran out of time or memory."""


#: What a step needs is away, which is no fault of the step: it is tried again for as long as that lasts.
OUTAGES: Final = (DatabaseBusy, MessageBrokerDown, StoreUnavailable, RendererUnavailable)


class ChannelUnavailable(Retryable):
    """A partner's endpoint did not take a delivery.

    `status` and `answer` are what it said, as far as it said anything; `retry_after_seconds` is its own wish.
    """

    def __init__(
        self,
        message: str,
        *,
        status: str | None = None,
        answer: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.answer = answer
        self.retry_after_seconds = retry_after_seconds


class Terminal(ExportsError):
    """Trying again cannot help; a person must look."""


class StepFailed(Terminal):
    """A step met facts that it cannot work with."""


class WorkerLost(Terminal):
    """Whoever began the step, or sent the message, never came back, as often as it may be begun: `attempts` times."""

    def __init__(self, message: str, attempts: int) -> None:
        super().__init__(message)
        self.attempts = attempts


class ArtifactConflict(Terminal):
    """The same document came out with other bytes than before."""


class RulesInvalid(Terminal):
    """The rules of customs cannot be right; `errors` says all that is wrong with them, a sentence and its remedy each."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("the rules of customs cannot be right:\n  " + "\n  ".join(errors))
        self.errors = errors


class ChannelRefused(Terminal):
    """A partner's endpoint said no for good; `status` and `answer` are what it said, `gone` that it wants nothing more."""

    def __init__(
        self, message: str, *, status: str | None = None, answer: str | None = None, gone: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.answer = answer
        self.gone = gone


class SecretUnreadable(Terminal):
    """A partner's secret or credential was sealed under a key that this process was not given."""


class UnsafeSettings(Terminal):
    """The settings are such that no process may serve by them."""


class Fenced(ExportsError):
    """Somebody else holds this step now: write nothing more."""


class Stopped(ExportsError):
    """This process was told to end: what it holds is given back as if it had not been begun."""


class Refused(ExportsError):
    """The request is at fault: `code` and `status` are the contract's, `field` names where, the message says the remedy."""

    code: ClassVar[str] = "INVALID_REQUEST"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The request cannot be read"

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.details = details
        self.headers = headers or {}


class InvalidRequest(Refused):
    """The body is not JSON, or not a JSON object."""


class ValidationFailed(Refused):
    """Fields are missing, unknown or out of range; `details.issues` lists all of them."""

    code, status, title = "VALIDATION_ERROR", 400, "The request has invalid fields"


class InvalidApiKey(Refused):
    """No key, an unknown key, an expired or a revoked one."""

    code, status, title = "INVALID_API_KEY", 401, "The API key is not valid"


class InvalidAccountScope(Refused):
    """The body names another account than the key's."""

    code, status, title = "INVALID_ACCOUNT_SCOPE", 403, "The key belongs to another account"


class InsufficientRole(Refused):
    """The key lacks the role that the call needs."""

    code, status, title = "INSUFFICIENT_ROLE", 403, "The key lacks a role"


class NotFound(Refused):
    """There is no such thing in the caller's account."""

    code, status, title = "NOT_FOUND", 404, "Not found"


class PlanHashMismatch(Refused):
    """The hash that was sent is not the plan's."""

    code, status, title = "PLAN_HASH_MISMATCH", 409, "The plan hash does not match"


class AlreadyExecuted(Refused):
    """The batch was executed with another plan."""

    code, status, title = "EXPORT_ALREADY_EXECUTED", 409, "The batch was already executed with another plan"


class IdempotencyInProgress(Refused):
    """The same key is being answered right now."""

    code, status, title = "IDEMPOTENCY_IN_PROGRESS", 409, "The same request is in progress"


class InvalidState(Refused):
    """The export or partner is not in a state that allows the call."""

    code, status, title = "INVALID_STATE", 409, "The state does not allow it"


class Purged(InvalidState):
    """The export's payload went when its retention ended; its hashes and its log are kept."""

    @classmethod
    def for_export(cls, export_id: str, consequence: str) -> Self:
        """Return the refusal that names the export; `consequence` is what follows from it."""
        return cls(f"export {export_id} was purged when its retention ended; {consequence}")


class BodyTooSlow(Refused):
    """The body did not arrive in time."""

    code, status, title = "REQUEST_TIMEOUT", 408, "The body did not arrive in time"


class PreconditionFailed(Refused):
    """`If-Match` names a version that is no longer the newest."""

    code, status, title = "PRECONDITION_FAILED", 412, "The resource has changed"


class PayloadTooLarge(Refused):
    """The body is larger, deeper or longer than the service takes."""

    code, status, title = "PAYLOAD_TOO_LARGE", 413, "The body is too large"


class HeadTooLarge(Refused):
    """The request line and headers are larger than the service takes."""

    code, status, title = "HEADERS_TOO_LARGE", 431, "The request line and headers are too large"


class IdempotencyKeyReused(Refused):
    """The key was used before with another body."""

    code, status, title = "IDEMPOTENCY_KEY_REUSED", 422, "The idempotency key was used with another body"


class PlanNotApproved(Refused):
    """The plan carries no approval."""

    code, status, title = "PLAN_NOT_APPROVED", 422, "The plan is not approved"


class PlanExpired(Refused):
    """The approval has run out."""

    code, status, title = "PLAN_EXPIRED", 422, "The approval has expired"


class PlanNotExecutable(Refused):
    """Blocking findings: all are listed, each with its pointer, rule and remedy."""

    code, status, title = "PLAN_NOT_EXECUTABLE", 422, "The plan has blocking findings"

    def __init__(self, findings: Sequence[Finding], rules: Sequence[RuleCount] = ()) -> None:
        """`findings` are those that are listed; `rules` counts all, where there are more."""
        blocking = [finding for finding in findings if finding.severity == "block"]
        number = sum(each.findings for each in rules if each.severity == "block") or len(blocking)
        first = blocking[0]
        more = f" (the first of {number} findings that block)" if number > 1 else ""
        super().__init__(
            f"{first.message}{more}",
            field=first.pointer,
            details={
                "findings": [finding.model_dump(mode="json", by_alias=True) for finding in findings],
                "rules": [each.model_dump(mode="json") for each in rules],
            },
        )


class UnknownPartner(Refused):
    """The plan names a broker or warehouse that is not registered, or that this key must not reach."""

    code, status, title = "UNKNOWN_PARTNER", 422, "A partner is not registered"


class PartnerNotLive(Refused):
    """The plan names a broker or warehouse that is registered, and is not live: a draft, in testing, verified or paused."""

    code, status, title = "PARTNER_NOT_LIVE", 422, "A partner is not live"


class RateLimited(Refused):
    """Too many requests: `Retry-After` says when to come back."""

    code, status, title = "RATE_LIMITED", 429, "Too many requests"


class NotReady(Refused):
    """The service cannot answer now: `Retry-After` says when to come back."""

    code, status, title = "NOT_READY", 503, "The service is not ready"
