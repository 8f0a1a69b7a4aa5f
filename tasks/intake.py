"""The consumer of the command queue: upstream services enqueue executions with the body of the HTTP call."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import structlog
from celery import bootsteps
from kombu import Connection, Consumer, Message, Producer
from kombu.mixins import ConsumerProducerMixin

from config import queues
from config.celery import app
from config.logs import configure_logs
from pipeline import dispatch
from pipeline.acceptance import Acceptance, accept
from pipeline.accounts import EXECUTE, Caller
from pipeline.errors import InvalidRequest, Refused, Retryable, ValidationFailed
from pipeline.ids import new_id
from pipeline.runtime import Runtime, process_runtime
from pipeline.schemas.execution import ExecuteRequest
from pipeline.schemas.problems import problem_of
from pipeline.schemas.reading import parse

log = structlog.get_logger(__name__)

#: How long the queue is left alone when the database does not answer.
PAUSE_SECONDS = 1.0


class Intake(ConsumerProducerMixin):
    """Takes one command after another: accepted and then acknowledged, or answered with a refusal, or left in the queue.

    Whoever may write to the queue may execute for any account, so the message broker's own users guard it: there is no
    key in a message. A command runs live and needs an `idempotencyKey`, because a queue may deliver it twice.
    """

    def __init__(self, runtime: Runtime) -> None:
        settings = runtime.settings
        self._runtime = runtime
        self._ended = threading.Event()
        self._queues = queues.contract_queues(settings)
        self.connection = Connection(
            settings.broker_url.get_secret_value(), transport_options=queues.transport_options(settings)
        )

    def get_consumers(
        self, consumer: Callable[..., Consumer], channel: Any
    ) -> list[Consumer]:  # kombu's channels have no type
        """Consume the command queue; messages come as they are, whatever they claim to be."""
        for queue in self._queues:
            queue.bind(channel).declare()
        commands = [queue for queue in self._queues if queue.name == queues.EXECUTE]
        return [consumer(queues=commands, on_message=self.receive, prefetch_count=10)]

    def receive(self, message: Message) -> None:
        """Deal with one command."""
        request_id = str(message.properties.get("message_id") or message.headers.get("id") or new_id("cmd"))
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                accepted = self._accept(message)
            except Retryable as later:
                log.warning("command_put_off", reason=str(later))
                self._ended.wait(PAUSE_SECONDS)
                message.requeue()
                return
            except Refused as refused:
                self._refuse(message, refused, request_id)
            except Exception:
                # A command that breaks us would break us again: it is answered like any other that cannot be done.
                log.exception("command_raised")
                self._refuse(message, InvalidRequest("the command cannot be processed; see the log"), request_id)
            else:
                log.info("command_accepted", export_id=accepted.export_id, created=accepted.created)
                if accepted.created:
                    dispatch.launch(accepted.export_id, accepted.units)
            message.ack()

    def end(self) -> None:
        """Stop after the command at hand."""
        self._ended.set()
        self.should_stop = True

    def _accept(self, message: Message) -> Acceptance:
        body = message.body.encode() if isinstance(message.body, str) else bytes(message.body)
        settings = self._runtime.settings
        if len(body) > settings.max_body_bytes:
            raise InvalidRequest(f"the command has more than {settings.max_body_bytes} bytes")
        parsed = parse(body, ExecuteRequest, max_depth=settings.max_json_depth)
        request = parsed.model
        if request.idempotency_key is None:
            raise ValidationFailed(
                "/idempotencyKey is required of a command; give each its own", field="/idempotencyKey"
            )
        caller = Caller(request.account_id, "queue", "live", frozenset({EXECUTE}))
        return accept(
            self._runtime,
            caller,
            request,
            raw_plan=parsed.raw.get("plan"),
            idempotency_key=request.idempotency_key,
            trace_parent=message.headers.get("traceparent"),
        )

    def _refuse(self, message: Message, refused: Refused, request_id: str) -> None:
        log.info("command_refused", code=refused.code)
        producer: Producer = self.producer
        for queue in self._queues:
            if queue.name == queues.REFUSED:
                # Each time: a Redis that was flushed has forgotten the binding, and would drop the answer without a word.
                queue.bind(producer.channel).declare()
        producer.publish(
            problem_of(refused, request_id).model_dump_json(by_alias=True, exclude_none=True).encode(),
            exchange=queues.exchange,
            routing_key=queues.BINDINGS[queues.REFUSED][0],
            content_type="application/problem+json",
            content_encoding="utf-8",
            delivery_mode="persistent",
            correlation_id=message.properties.get("correlation_id") or request_id,
            retry=True,
            retry_policy={"max_retries": 1},
        )


class IntakeBeside(bootsteps.StartStopStep):  # type: ignore[misc]
    """The intake as a thread beside an embedded worker; other workers leave it to a process of its own."""

    def __init__(self, parent: Any, *, intake: bool = False, **options: Any) -> None:
        self.enabled = intake
        self._intake: Intake | None = None
        super().__init__(parent, **options)

    def start(self, parent: Any) -> None:
        """Begin."""
        self._intake = Intake(process_runtime())
        threading.Thread(target=self._intake.run, name="intake", daemon=True).start()

    def stop(self, parent: Any) -> None:
        """End."""
        if self._intake is not None:
            self._intake.end()

    terminate = stop


def main() -> None:
    """Consume until the process is told to end; what was taken and not dealt with goes back into the queue."""
    runtime = process_runtime()
    configure_logs(runtime.settings)
    intake = Intake(runtime)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: intake.end())
    intake.run()  # type: ignore[no-untyped-call]


app.steps["worker"].add(IntakeBeside)

if __name__ == "__main__":
    main()
