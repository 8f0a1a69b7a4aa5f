"""The consumer of what others send by queue: commands of upstream services, acknowledgements of customs brokers."""

from __future__ import annotations

import faulthandler
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import structlog
from amqp.exceptions import MessageNacked
from celery import bootsteps
from kombu import Connection, Consumer, Message, Queue
from kombu.exceptions import KombuError
from kombu.mixins import ConsumerProducerMixin

from config import queues
from config.celery import app
from config.logs import configure_logs
from pipeline.accounts.api_keys import EXECUTE, Caller
from pipeline.accounts.recipients import Target
from pipeline.core import heartbeats, ids
from pipeline.core.errors import (
    ChannelUnavailable,
    DatabaseBusy,
    IdempotencyInProgress,
    InvalidRequest,
    Purged,
    Refused,
    Retryable,
    ValidationFailed,
)
from pipeline.core.failpoints import failpoint
from pipeline.core.json_input import parse_json
from pipeline.core.message_broker import make_connection
from pipeline.core.problems import problem_document
from pipeline.core.runtime import Runtime, process_runtime
from pipeline.deliveries import submissions
from pipeline.deliveries.channels.protocol import OutgoingMessage
from pipeline.deliveries.channels.queue import QueueChannel
from pipeline.deliveries.schemas.messages import SentAcknowledgement
from pipeline.exports import events
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.workflow import dispatch
from pipeline.workflow.acceptance import accept_plan
from tasks.messages import MessageProperties, Reply, raw_body

log = structlog.get_logger(__name__)

#: How long a message is left alone when the database does not answer, or answers another one with the same key.
PAUSE_SECONDS = 1.0

#: How often the queues are declared again and a heartbeat is sent. What is sent to a Redis that lost a binding is lost for as
#: long.
HEARTBEAT_SECONDS: Final = 2.0

#: How long no heartbeat is sent after one that the message broker did not take: each such try keeps a command waiting.
HEARTBEAT_BACKOFF_SECONDS: Final = 15.0


Handler = Callable[[Message, MessageProperties], bytes]
RefusalHandler = Callable[[Message, Refused, Reply, MessageProperties], None]


class _Stopping(Exception):
    """The intake is to end while it waits for a connection."""


class Intake(ConsumerProducerMixin):
    """Takes one message after another: done and then acknowledged, or answered with a refusal, or kept until it can be done.

    Whoever may write to the command queue may execute for any account, so the message broker's own users guard it: there
    is no key in a command. A command runs live and needs an `idempotencyKey`, because a queue may deliver it twice. An
    acknowledgement carries the three Standard Webhooks headers, made with the partner's secret.
    """

    def __init__(self, runtime: Runtime) -> None:
        settings = runtime.settings
        self._runtime = runtime
        self._ended = threading.Event()
        self._queues = queues.contract_queues(settings)
        self._heartbeats = queues.heartbeat_queue(settings)
        self._sender = QueueChannel(settings)
        self._own_queues = {*queues.TASK_QUEUES, queues.HEARTBEAT, *(queue.name for queue in self._queues)}
        self._heartbeat_at = 0.0
        self._channel: Any = None
        self.connection = make_connection(settings)
        # What it says no by: of a queue that is full, or that is not to be written to; on Redis, of a memory that is full.
        self._rejections = (MessageNacked, *self.connection.channel_errors)
        self._broker_errors = (*self._rejections, *self.connection.connection_errors, KombuError, OSError)

    def run(self, *_: Any, **__: Any) -> None:
        """Take messages until `end`; then nobody waits for this one's heartbeats."""
        self._record_heartbeat(heartbeats.expect)
        with suppress(_Stopping):
            super().run()  # type: ignore[no-untyped-call]
        self._record_heartbeat(heartbeats.forget)

    @contextmanager
    def establish_connection(self) -> Iterator[Connection]:
        """Connect, however long it takes; until then heartbeats are missed, and `end` is heard every second."""
        with self.connection.clone() as opened:
            opened.ensure_connection(self.on_connection_error, callback=self._on_connection_retry)
            yield opened

    def get_consumers(
        self, consumer: Callable[..., Consumer], channel: Any
    ) -> list[Consumer]:  # kombu's channels have no type
        """Consume commands and acknowledgements; messages come as they are, whatever they claim to be."""
        self._channel = channel
        self._declare()
        duties = [(queues.EXECUTE, self.receive_command), (queues.ACKNOWLEDGEMENTS, self.receive_acknowledgement)]
        if not self._runtime.settings.embedded:
            duties.append((queues.HEARTBEAT, self.receive_heartbeat))
        return [
            consumer(
                queues=[queue for queue in (*self._queues, self._heartbeats) if queue.name == name],
                on_message=duty,
                prefetch_count=10,
            )
            for name, duty in duties
        ]

    def on_iteration(self) -> None:
        """Declare the queues again every few seconds, and send a heartbeat through the exchange to the queue beside them.

        A Redis that lost the bindings while connections live takes what is published and drops it without an error.
        """
        if self._runtime.settings.embedded or time.monotonic() < self._heartbeat_at:
            return
        # Another intake that ended has noted that nobody waits.
        self._record_heartbeat(heartbeats.expect)
        taken = self._declare_again() and self._send_heartbeat()
        self._heartbeat_at = time.monotonic() + (HEARTBEAT_SECONDS if taken else HEARTBEAT_BACKOFF_SECONDS)

    def receive_command(self, message: Message) -> None:
        """Accept one command, or answer why not on the queue of refusals."""
        self._receive(message, self._accept, self._refuse_command)

    def receive_acknowledgement(self, message: Message) -> None:
        """Record one answer of a customs broker, or put it among the dead letters, or drop it where its export was purged."""
        self._receive(message, self._acknowledge, self._dead_letter)

    def receive_heartbeat(self, message: Message) -> None:
        """Record that a heartbeat went all the way, as a command would."""
        self._record_heartbeat(heartbeats.record)
        message.ack()

    def end(self) -> None:
        """Stop after the message at hand."""
        self._ended.set()
        self.should_stop = True

    def _on_connection_retry(self) -> None:
        if self._ended.is_set():
            raise _Stopping
        self._record_heartbeat(heartbeats.expect)

    def _record_heartbeat(self, action: Callable[[Runtime, str], None]) -> None:
        """Write down how it is with heartbeats; where the database does not answer, the work comes first."""
        if self._runtime.settings.embedded:
            return
        try:
            action(self._runtime, heartbeats.INTAKE)
        except DatabaseBusy as busy:
            log.warning("heartbeat_not_recorded", action=action.__name__, reason=str(busy))

    def _declare(self) -> None:
        for queue in (*self._queues, self._heartbeats):
            queue.bind(self._channel).declare()

    def _declare_again(self) -> bool:
        try:
            self._declare()
        except self._rejections as error:
            if self._runtime.settings.message_broker == "amqp":
                raise  # RabbitMQ has closed the channel with it
            log.warning("queues_not_declared", error=type(error).__name__)
            return False
        return True

    def _send_heartbeat(self) -> bool:
        """Send one where none lies unread, so that they do not pile up, and return whether the message broker took it."""
        if self._heartbeats.bind(self._channel).queue_declare().message_count:
            return True
        heartbeat = OutgoingMessage(ids.new_id("hrt"), queues.HEARTBEAT, queues.HEARTBEAT_KEY, b"{}")
        try:
            deque(self._sender.send([heartbeat], Target("", heartbeats.INTAKE, test=False)), maxlen=0)
        except ChannelUnavailable as error:
            log.warning("heartbeat_not_sent", error=error.status)
            return False
        return True

    def _receive(self, message: Message, act: Handler, refuse: RefusalHandler) -> None:
        properties = MessageProperties.from_message(message)
        request_id = properties.request_id
        with structlog.contextvars.bound_contextvars(request_id=request_id), events.request_id_bound(request_id):
            failpoint("intake.before")
            while True:
                try:
                    reply = Reply("application/json", act(message, properties))
                except (Retryable, IdempotencyInProgress) as later:
                    # It stays with us: given back, RabbitMQ would count it as refused and bury it in the end.
                    log.warning("message_postponed", reason=str(later))
                    if self._ended.wait(PAUSE_SECONDS):
                        message.requeue()
                        return
                    continue
                except Refused as refused:
                    reply = self._handle_refusal(message, refused, refuse, properties)
                except Exception:
                    # A message that breaks us would break us again: it is answered like any other that cannot be done.
                    log.exception("message_raised")
                    broken = InvalidRequest("the message cannot be processed; see the log")
                    reply = self._handle_refusal(message, broken, refuse, properties)
                break
            failpoint("intake.mid")
            self._reply(reply, properties)
            failpoint("intake.after")
            message.ack()

    def _accept(self, message: Message, properties: MessageProperties) -> bytes:
        parsed = parse_json(self._body(message), ExecuteRequest, max_depth=self._runtime.settings.max_json_depth)
        request = parsed.model
        if request.idempotency_key is None:
            raise ValidationFailed(
                "/idempotencyKey is required of a command; give each its own", field="/idempotencyKey"
            )
        caller = Caller(request.account_id, "queue", "live", frozenset({EXECUTE}))
        accepted = accept_plan(
            self._runtime,
            caller,
            request,
            raw_plan=parsed.raw.get("plan"),
            idempotency_key=request.idempotency_key,
            trace_parent=properties.trace_parent,
        )
        log.info("command_accepted", export_id=accepted.export_id, created=accepted.created)
        if accepted.created:
            dispatch.publish_export(accepted.export_id, accepted.units)
        return accepted.body.encode()

    def _acknowledge(self, message: Message, _: MessageProperties) -> bytes:
        body = self._body(message)
        sent = parse_json(body, SentAcknowledgement, max_depth=self._runtime.settings.max_json_depth).model
        headers = {str(name).lower(): str(value) for name, value in message.headers.items()}
        # It may have waited here for long; that it was sent before does no harm, because its id counts once.
        actor = submissions.verify_signer(self._runtime, sent.submission_id, body, headers, timely=False).actor
        receipt = submissions.receive_answer(self._runtime, sent.submission_id, sent.answer, actor)
        log.info("acknowledgement_recorded", submission_id=sent.submission_id, status=sent.status)
        return receipt.model_dump_json(by_alias=True).encode()

    def _body(self, message: Message) -> bytes:
        body = raw_body(message)
        if len(body) > self._runtime.settings.max_body_bytes:
            raise InvalidRequest(f"the message has more than {self._runtime.settings.max_body_bytes} bytes")
        return body

    def _handle_refusal(
        self, message: Message, refused: Refused, refuse: RefusalHandler, properties: MessageProperties
    ) -> Reply:
        log.info("message_refused", code=refused.code)
        problem = (
            problem_document(refused, properties.request_id).model_dump_json(by_alias=True, exclude_none=True).encode()
        )
        reply = Reply("application/problem+json", problem)
        refuse(message, refused, reply, properties)
        return reply

    def _refuse_command(self, _: Message, __: Refused, reply: Reply, properties: MessageProperties) -> None:
        key = queues.BINDINGS[queues.REFUSED][0]
        # Each time: a Redis that was flushed has forgotten the binding, and would drop the answer without a word.
        bound = [queue for queue in self._queues if queue.name == queues.REFUSED]
        self._publish(reply, queues.exchange, key, declared=bound, correlation_id=properties.correlation_id)

    def _dead_letter(self, message: Message, refused: Refused, _: Reply, properties: MessageProperties) -> None:
        if isinstance(refused, Purged):
            # Its export was purged: among the dead letters its text would be kept all the same.
            log.warning("acknowledgement_dropped", reason=str(refused))
            return
        kept = Reply(str(message.content_type or "application/octet-stream"), raw_body(message))
        headers = {**message.headers, "x-refused-by": properties.request_id}
        self._publish(kept, "", queues.DEAD, correlation_id=properties.correlation_id, headers=headers)

    def _reply(self, reply: Reply, properties: MessageProperties) -> None:
        if properties.reply_to is None:
            return
        if properties.reply_to in self._own_queues:
            log.warning("reply_not_sent", reason="the queue to reply to is one of the service's own")
            return
        self._publish(reply, "", properties.reply_to, correlation_id=properties.correlation_id)

    def _publish(
        self, reply: Reply, exchange: Any, routing_key: str, *, declared: Sequence[Queue] = (), **properties: Any
    ) -> None:
        """Send what is said to a message; what the message broker does not take is said by the log alone.

        What the message came to is in the database, or nowhere, whoever hears of it: it must not come again, and again, for
        a queue that is full. Raises ConnectionError where the message broker is not reached: then it does come again.
        """
        try:
            for queue in declared:
                queue.bind(self.producer.channel).declare()
            self.producer.publish(
                reply.body,
                exchange=exchange,
                routing_key=routing_key,
                content_type=reply.content_type,
                content_encoding="utf-8",
                delivery_mode="persistent",
                retry=True,
                retry_policy={"max_retries": 1},
                **properties,
            )
        except self._broker_errors as error:
            # Kombu, which tried once more, calls all of them the same.
            cause = error.__cause__ or error
            self.on_consume_end(None, None)  # type: ignore[no-untyped-call]  # lets go of the producer's connection
            if not isinstance(cause, self._rejections):
                # Of no kind that would be taken for a pause between two messages.
                raise ConnectionResetError(f"the message broker did not answer: {type(cause).__name__}") from error
            log.warning("reply_not_accepted", error=type(cause).__name__)


class EmbeddedIntake(bootsteps.StartStopStep):  # type: ignore[misc]
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
    # As long as a statement may take where the database answers at all.
    grace_seconds = 3 * runtime.settings.database_timeout_seconds
    faulthandler.register(signal.SIGALRM, chain=True)

    def end(*_: object) -> None:
        intake.end()
        # A connection that nothing comes back on would keep the message at hand, and with it the process, for ever.
        signal.setitimer(signal.ITIMER_REAL, grace_seconds)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    intake.run()


app.steps["worker"].add(EmbeddedIntake)

if __name__ == "__main__":
    main()
