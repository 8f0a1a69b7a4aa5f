"""What a call may end in besides its answer; each error says what its caller should do.

ClientError
├── ApiProblem       the API refused: branch on `code`
├── ApiUnreachable   nobody answers, or something that is not our API: try again later
├── Corrupted        a document's bytes are not those that the export promises: do not use them
├── StillRunning     the time was up before what was waited for came: it goes on by itself
├── InvalidArgument  something was given that cannot be sent: correct it
└── InvalidWebhook   a webhook that is not from the service: answer it with `status` and do nothing
"""

from __future__ import annotations

from pipeline.core.problems import Problem


class ClientError(Exception):
    """The root: everything that this client raises on purpose."""


class ApiProblem(ClientError):
    """The API refused, and `problem` says why; `retry_after_seconds` is when it may be asked again, where it said so."""

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
    """Nobody answers at the address, or something answers that is not our API."""


class Corrupted(ClientError):
    """A document's bytes are not those that the export promises."""


class StillRunning(ClientError):
    """The time was up before what was waited for came."""


class InvalidArgument(ClientError, ValueError):
    """Something was given that cannot be sent, and nothing was: `argument` names it, `why` goes on from its name.

    What was given is not repeated: it may be a secret.
    """

    def __init__(self, argument: str, reason: str) -> None:
        super().__init__(f"{argument} {reason}")
        self.argument = argument
        self.reason = reason


class InvalidWebhook(ClientError):
    """A request that is no webhook of the service: answer it with `status`, and do nothing of what it says."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
