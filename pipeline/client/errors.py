"""The errors of a call; each says what the caller should do.

ClientError
├── ApiProblem       the API rejected the call: branch on `code`
├── ApiUnreachable   the API does not respond, or something else responds: try again later
├── Corrupted        a document's bytes do not have the export's hash: do not use them
├── StillRunning     the time is up, but the export continues by itself: look again later
├── InvalidArgument  an argument cannot be sent: correct it
└── InvalidWebhook   a request is not a webhook of the service: answer it with `status` and do nothing
"""

from pipeline.core.problems import Problem


class ClientError(Exception):
    """The base of all errors that this client raises on purpose."""


class ApiProblem(ClientError):
    """The API rejected the call; `problem` says why, and `retry_after_seconds` when to retry, if the API said so."""

    def __init__(self, problem: Problem, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.retry_after_seconds = retry_after_seconds

    @property
    def code(self) -> str:
        """The `errorCode`, such as PLAN_EXPIRED: what to branch on."""
        return self.problem.error_code

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status


class ApiUnreachable(ClientError):
    """The API does not respond at the address, or something else responds."""


class Corrupted(ClientError):
    """A document's bytes do not have the hash that the export names."""


class StillRunning(ClientError):
    """The time was up before the export was done."""


class InvalidArgument(ClientError, ValueError):
    """An argument cannot be sent, and nothing was sent: `argument` names it, `reason` continues the sentence.

    The value is not repeated: it may be a secret.
    """

    def __init__(self, argument: str, reason: str) -> None:
        super().__init__(f"{argument} {reason}")
        self.argument = argument
        self.reason = reason


class InvalidWebhook(ClientError):
    """A request is not a webhook of the service: answer it with `status`, and do nothing else."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
