"""Commands by queue: how one is read, accepted, or waits for room in its account."""

import structlog
from kombu import Message

from pipeline.accounts.api_keys import EXECUTE, Caller
from pipeline.core import tracing
from pipeline.core.errors import RateLimited, ValidationFailed
from pipeline.core.json_input import parse_json
from pipeline.core.runtime import Runtime
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.workflow import dispatch, waiting_commands
from pipeline.workflow.acceptance import accept_plan
from tasks import celery_messages
from tasks.messages import MessageProperties

log = structlog.get_logger(__name__)


class Commands:
    """Accepts commands. Those of an account without room wait in the database, and are tried in their order."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        #: Accounts that have waiting commands: a newer command waits behind them.
        self._full: set[str] = set()

    def accept(self, message: Message, body: bytes, properties: MessageProperties) -> bytes | None:
        """Accept a new command and return the answer; None if it waits for room in its account.

        Raises the errors of the contract.
        """
        if properties.task is not None:
            max_depth = self._runtime.settings.max_json_depth
            body = celery_messages.read_command(properties.task, message, max_depth=max_depth)
        return self._accept(body, properties, is_new=True)

    def retry(self, command: waiting_commands.ClaimedCommand, properties: MessageProperties) -> bytes | None:
        """Accept a waiting command and return the answer; None if its account still has no room."""
        return self._accept(command.body, properties, is_new=False)

    def find_due(self) -> waiting_commands.ClaimedCommand | None:
        """Return a waiting command to try now, None if there is none. Raises DatabaseBusy."""
        first = waiting_commands.list_first(self._runtime)
        self._full = {account_id for account_id, _, _ in first}
        for _, command_id, due in first:
            if due and (command := waiting_commands.claim(self._runtime, command_id)) is not None:
                return command
        return None

    def _accept(self, body: bytes, properties: MessageProperties, *, is_new: bool) -> bytes | None:
        parsed = parse_json(body, ExecuteRequest, max_depth=self._runtime.settings.max_json_depth)
        request = parsed.model
        account_id = request.account_id
        if request.idempotency_key is None:
            raise ValidationFailed(
                "/idempotencyKey is required in a command; give each command its own", field="/idempotencyKey"
            )
        caller = Caller(account_id, "queue", "live", frozenset({EXECUTE}))
        try:
            if is_new and account_id in self._full:
                raise RateLimited(f"older commands of account {account_id} wait")
            accepted = accept_plan(
                self._runtime,
                caller,
                request,
                raw_plan=parsed.raw.get("plan"),
                idempotency_key=request.idempotency_key,
                trace=tracing.current_trace(properties.trace),
            )
        except RateLimited as full:
            if is_new:
                waiting_commands.keep(self._runtime, account_id, body, properties.to_json())
                self._full.add(account_id)
                log.info("command_waits", account_id=account_id, reason=str(full))
            return None
        outcome = "accepted" if accepted.created else "repeated"
        tracing.annotate(export_id=accepted.export_id, account_id=account_id, outcome=outcome)
        log.info("command_accepted", export_id=accepted.export_id, created=accepted.created)
        if accepted.created:
            dispatch.publish_export(accepted.export_id, accepted.queues)
        return accepted.body.encode()
