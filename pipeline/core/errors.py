"""The errors that this service raises on purpose, as one tree, split by what the caller should do.

ExportsError
├── Retryable            retry later: nothing was done, or it is harmless to repeat
│   ├── DatabaseBusy         the database did not answer in time
│   ├── MessageBrokerDown    the message broker did not accept a message
│   ├── StoreUnavailable     the artifact store did not answer; DocumentMissing: it answers, but lacks a document
│   ├── RendererUnavailable  the document renderer does not start, or its machine lacks what it needs
│   ├── RulesUnreadable      the active customs rules need a newer version of the service
│   ├── RendererCrashed      the document renderer died or ran out of time or memory
│   └── ChannelUnavailable   a partner's endpoint did not accept a delivery
├── Terminal             stop: a retry cannot help, a person must look
│   ├── StepFailed           a step cannot work with the facts that it was given
│   ├── WorkerLost           a step, or a message, killed its worker on each of its attempts
│   ├── ArtifactConflict     the same document was rendered with other bytes
│   ├── RulesInvalid         the rules of customs contradict their schema or one another
│   ├── ChannelRefused       a partner's endpoint refused a delivery for good
│   ├── SecretUnreadable     a secret was sealed under a key that this process does not have
│   ├── SchemaMismatch       the database's tables are not those of its revision
│   └── UnsafeSettings       the settings are unsafe: no process may serve with them
├── Fenced               stop at once: another worker holds this step now
├── Stopped              stop at once: this process must end, and releases what it holds
└── Refused              answer the caller, by one class for each code of the HTTP contract
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

if TYPE_CHECKING:
    from pipeline.core.findings import Finding, RuleCount


class ExportsError(Exception):
    """The root of all errors that this service raises on purpose."""


class Retryable(ExportsError):
    """Retry later; nothing is lost."""


class DatabaseBusy(Retryable):
    """The database did not answer in time."""


class MessageBrokerDown(Retryable):
    """The message broker did not accept a message."""


class StoreUnavailable(Retryable):
    """The artifact store did not answer."""


class DocumentMissing(StoreUnavailable):
    """The artifact store answers, but does not have a document that was recorded."""


class RendererUnavailable(Retryable):
    """The document renderer does not start, or its machine lacks what it needs; the document is not the cause."""


class RulesUnreadable(Retryable):
    """The active customs rules are missing, or need a newer version of the service than this process has."""


class RendererCrashed(Retryable):
    """The document renderer died, or ran out of time or memory."""


#: Outages of what a step needs. The step is not at fault: it is retried for as long as the outage lasts.
OUTAGES: Final = (DatabaseBusy, MessageBrokerDown, StoreUnavailable, RendererUnavailable, RulesUnreadable)


class ChannelUnavailable(Retryable):
    """A partner's endpoint did not accept a delivery.

    `status` and `answer` are the endpoint's response, `retry_after_seconds` is what it asked for, `exchange` has no bodies.
    """

    def __init__(
        self,
        message: str,
        *,
        status: str | None = None,
        answer: str | None = None,
        retry_after_seconds: float | None = None,
        exchange: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.answer = answer
        self.exchange = exchange
        self.retry_after_seconds = retry_after_seconds


class Terminal(ExportsError):
    """A retry cannot help; a person must look."""


class StepFailed(Terminal):
    """A step cannot work with the facts that it was given."""


class WorkerLost(Terminal):
    """The worker died on each of the `attempts` allowed attempts at a step or a message."""

    def __init__(self, message: str, attempts: int) -> None:
        super().__init__(message)
        self.attempts = attempts


class ArtifactConflict(Terminal):
    """The same document was rendered with other bytes than before."""


class RulesInvalid(Terminal):
    """The rules of customs are invalid; `errors` lists every mistake, each with its remedy."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("the rules of customs are invalid:\n  " + "\n  ".join(errors))
        self.errors = errors

    @property
    def summary(self) -> str:
        """The first mistake, after the number of mistakes if there are more."""
        return self.errors[0] if len(self.errors) == 1 else f"{len(self.errors)} errors, the first: {self.errors[0]}"


class ChannelRefused(Terminal):
    """A partner's endpoint refused a delivery for good.

    `status`, `answer` and `exchange` as in ChannelUnavailable; `gone` says that it accepts no more deliveries at all.
    """

    def __init__(
        self,
        message: str,
        *,
        status: str | None = None,
        answer: str | None = None,
        gone: bool = False,
        exchange: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.answer = answer
        self.exchange = exchange
        self.gone = gone


class SecretUnreadable(Terminal):
    """A partner's secret or credential was sealed under a key that this process does not have."""


class SchemaMismatch(Terminal):
    """The database's tables are not those of its revision, so no migration leads to those of this version."""

    remedy: ClassVar = "A version that was not released made them. Keep a copy; then migrate an empty database."


class UnsafeSettings(Terminal):
    """The settings are unsafe: no process may serve with them."""


class MetricsNotServed(Terminal):
    """This process cannot serve its metrics; the message says why, and what to do."""


class Fenced(ExportsError):
    """Another worker holds this step now: write nothing more."""


class Stopped(ExportsError):
    """This process must end: it releases what it holds, and the attempt does not count."""


class Refused(ExportsError):
    """The request is at fault.

    `code` and `status` are those of the contract, `field` points to the mistake, and the message gives the remedy.
    """

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
    """The API key is missing, unknown, expired or revoked."""

    code, status, title = "INVALID_API_KEY", 401, "The API key is not valid"


class SignInFailed(Refused):
    """The person did not prove who they are, or the session has ended."""

    code, status, title = "SIGN_IN_FAILED", 401, "You are not signed in"


class CredentialsInDoubt(SignInFailed):
    """Another account may have set the password of the person whom an OpenID provider names; the person decides."""


class InvalidAccountScope(Refused):
    """The body names an account that is not the key's."""

    code, status, title = "INVALID_ACCOUNT_SCOPE", 403, "The key belongs to another account"


class InsufficientRole(Refused):
    """The caller lacks the role or the mode that the call needs."""

    code, status, title = "INSUFFICIENT_ROLE", 403, "Not allowed"


#: The remedy if a caller in test mode asks for what concerns live exports.
ASK_FOR_LIVE: Final = "use a live key, or ask a person who may act on live exports"
#: The same for every cause, so that callers cannot probe links.
NO_LINK: Final = "there is no such link"


class ForeignForm(InsufficientRole):
    """The form does not come from a page of this session."""

    title = "This form cannot be used"


class NotFound(Refused):
    """The caller's account does not have what the request names."""

    code, status, title = "NOT_FOUND", 404, "Not found"


class PlanHashMismatch(Refused):
    """The hash in the request does not fit the plan."""

    code, status, title = "PLAN_HASH_MISMATCH", 409, "The plan hash does not match"


class ArtifactLost(Refused):
    """The artifact store lacks the document, or has other bytes than were recorded."""

    code, status, title = "ARTIFACT_LOST", 410, "The document is missing or damaged"


class AlreadyExecuted(Refused):
    """The batch was executed with another plan."""

    code, status, title = "EXPORT_ALREADY_EXECUTED", 409, "The batch was already executed with another plan"


class IdempotencyInProgress(Refused):
    """A request with the same idempotency key is in progress."""

    code, status, title = "IDEMPOTENCY_IN_PROGRESS", 409, "The same request is in progress"


class InvalidState(Refused):
    """The export or partner is not in a state that allows the call."""

    code, status, title = "INVALID_STATE", 409, "The state does not allow it"


class EntryFiled(InvalidState):
    """An entry of the export is filed already."""

    code, title = "ENTRY_FILED", "An entry is filed already"


class Purged(InvalidState):
    """The payload of an export or plan was purged when its retention period ended; hashes and log are kept."""

    @classmethod
    def for_export(cls, export_id: str, consequence: str) -> Self:
        """Return the error for `export_id`; `consequence` ends its message."""
        return cls.for_subject(f"export {export_id}", consequence)

    @classmethod
    def for_subject(cls, subject: str, consequence: str) -> Self:
        """Return the same for an export or a plan, as `subject` names it."""
        return cls(f"{subject} was purged when its retention ended; {consequence}")


class BodyTooSlow(Refused):
    """The body did not arrive in time."""

    code, status, title = "REQUEST_TIMEOUT", 408, "The body did not arrive in time"


class PreconditionFailed(Refused):
    """`If-Match` names a version that is no longer the newest."""

    code, status, title = "PRECONDITION_FAILED", 412, "The resource has changed"


class PayloadTooLarge(Refused):
    """The body is larger, deeper or longer than the service accepts."""

    code, status, title = "PAYLOAD_TOO_LARGE", 413, "The body is too large"


class HeadTooLarge(Refused):
    """The request line and headers are larger than the service accepts."""

    code, status, title = "HEADERS_TOO_LARGE", 431, "The request line and headers are too large"


class IdempotencyKeyReused(Refused):
    """The idempotency key was used before with another body."""

    code, status, title = "IDEMPOTENCY_KEY_REUSED", 422, "The idempotency key was used with another body"


class PlanNotApproved(Refused):
    """The plan carries no approval."""

    code, status, title = "PLAN_NOT_APPROVED", 422, "The plan is not approved"


class PlanExpired(Refused):
    """The plan's approval has expired."""

    code, status, title = "PLAN_EXPIRED", 422, "The approval has expired"


class PlanNotExecutable(Refused):
    """The plan has blocking findings; the details list them with pointer, rule and remedy."""

    code, status, title = "PLAN_NOT_EXECUTABLE", 422, "The plan has blocking findings"

    def __init__(self, findings: Sequence[Finding], rules: Sequence[RuleCount] = ()) -> None:
        """`findings` are those to list; `rules` counts all findings if there are more."""
        blocking = [finding for finding in findings if finding.severity == "block"]
        number = sum(each.findings for each in rules if each.severity == "block") or len(blocking)
        first = blocking[0]
        more = f" (the first of {number} findings that block)" if number > 1 else ""
        listed = [finding.model_dump(mode="json", by_alias=True) for finding in findings]
        details = {"findings": listed, "rules": [each.model_dump(mode="json") for each in rules]}
        super().__init__(f"{first.message}{more}", field=first.pointer, details=details)


class NotInHandoff(Refused):
    """An answer names a place that its handoff does not have."""

    code, status, title = "NOT_IN_HANDOFF", 422, "The handoff does not have this"


class UnknownPartner(Refused):
    """The plan names a broker or warehouse that is not registered, or that this key must not reach."""

    code, status, title = "UNKNOWN_PARTNER", 422, "A partner is not registered"


class PartnerNotLive(Refused):
    """The plan names a broker or warehouse that is registered but not live: a draft, in testing, verified or paused."""

    code, status, title = "PARTNER_NOT_LIVE", 422, "A partner is not live"


class RateLimited(Refused):
    """The caller sent too many requests; `Retry-After` says when to retry."""

    code, status, title = "RATE_LIMITED", 429, "Too many requests"


class NotReady(Refused):
    """The service cannot answer now; `Retry-After` says when to retry."""

    code, status, title = "NOT_READY", 503, "The service is not ready"


class Busy(Refused):
    """The service is busy with other requests; `Retry-After` says when to retry."""

    code, status, title = "BUSY", 503, "The service is busy"
