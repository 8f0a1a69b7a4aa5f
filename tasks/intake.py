"""The intake: it consumes commands of upstream services and acknowledgements of customs brokers from queues."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final

import structlog
from amqp.exceptions import MessageNacked
from kombu import Connection, Consumer, Message, Queue
from kombu.exceptions import KombuError
from kombu.mixins import ConsumerProducerMixin

from config import queues
from pipeline.accounts.recipients import Target
from pipeline.core import heartbeats, ids, process_version, tracing
from pipeline.core.errors import (
    ChannelUnavailable,
    DatabaseBusy,
    IdempotencyInProgress,
    InvalidRequest,
    Purged,
    Refused,
    Retryable,
)
from pipeline.core.failpoints import failpoint
from pipeline.core.json_input import parse_json
from pipeline.core.message_broker import make_connection
from pipeline.core.metrics import observe
from pipeline.core.problems import problem_document
from pipeline.core.runtime import Runtime
from pipeline.deliveries.channels.protocol import OutgoingMessage
from pipeline.deliveries.channels.queue import QueueChannel
from pipeline.deliveries.schemas.views import SentAcknowledgement
from pipeline.deliveries.submissions import submissions
from pipeline.deliveries.submissions.sent_answers import receive_sent_answer
from pipeline.exports import events
from pipeline.exports.metrics import ACCEPTED, INTAKE_SECONDS, POSTPONED, REFUSED
from pipeline.workflow import waiting_commands
from pipeline.workflow.waiting_commands import ClaimedCommand
from tasks import celery_messages
from tasks.commands import Commands
from tasks.messages import MessageProperties, Reply, raw_body

log = structlog.get_logger(__name__)

#: The pause before a retry if the database does not answer, or if a request with the same idempotency key is in progress.
PAUSE_SECONDS = 1.0

#: The longest wait for a message; then the intake looks whether it must end and whether a heartbeat is due.
WAIT_SECONDS = 1.0

#: The interval at which the queues are declared again and a heartbeat is sent. If a Redis loses a binding, messages to it
#: are lost until the next declaration.
HEARTBEAT_SECONDS: Final = 2.0

#: The pause after a heartbeat that the message broker did not accept: each attempt makes a command wait.
HEARTBEAT_BACKOFF_SECONDS: Final = 15.0

#: The pause between two tries of a command that waits for room in its account, and the tries before other work.
WAITING_SECONDS: Final = 2.0
WAITING_AT_ONCE: Final = 20


#: Returns the answer; None if the command waits in the database.
Handler = Callable[[Message, MessageProperties], bytes | None]
RefusalHandler = Callable[[Refused, Reply, MessageProperties], None]


class _Stopping(Exception):
    """The intake must end while it waits for a connection."""


class Intake(ConsumerProducerMixin):
    """Processes one message after another, and acknowledges it when its result is in the database.

    A refused message is answered with a problem document. A message that cannot be processed now is kept and retried.
    A command of an account with its maximum of active exports waits in the database, so that others do not wait for it.

    A command carries no API key. A program that may write to the command queue may execute plans of every account, so only
    the message broker's user rights protect the queue. A command runs live and needs an `idempotencyKey`, because a queue
    may deliver it twice. An acknowledgement carries the three Standard Webhooks headers, signed with the partner's secret.
    """

    def __init__(self, runtime: Runtime) -> None:
        settings = runtime.settings
        self._runtime = runtime
        # Not an Event: a signal handler that sets it while the main thread enters wait() waits forever for the Event's own lock.
        self._ends: SimpleQueue[None] = SimpleQueue()
        self._queues = queues.contract_queues(settings)
        self._heartbeats = queues.heartbeat_queue(settings)
        self._sender = QueueChannel(settings)
        self._own_queues = {*queues.TASK_QUEUES, queues.HEARTBEAT, *(queue.name for queue in self._queues)}
        self._commands = Commands(runtime)
        self._heartbeat_at = 0.0
        self._waiting_at = 0.0
        self._channel: Any = None
        self.connection = make_connection(settings)
        # The broker's refusals: a queue is full or must not be written to, or the memory of Redis is full.
        self._rejections = (MessageNacked, *self.connection.channel_errors)
        self._broker_errors = (*self._rejections, *self.connection.connection_errors, KombuError, OSError)

    def run(self, *_: Any, **__: Any) -> None:
        """Process messages until `end`; then record that no heartbeat of this intake is expected."""
        self._record_heartbeat(heartbeats.expect)
        with suppress(_Stopping):
            super().run(safety_interval=WAIT_SECONDS)  # type: ignore[no-untyped-call]
        self._record_heartbeat(heartbeats.forget)

    @contextmanager
    def establish_connection(self) -> Iterator[Connection]:
        """Connect without a timeout. Until it is connected, heartbeats are missed, and `end` takes effect within a second."""
        with self.connection.clone() as opened:
            opened.ensure_connection(self.on_connection_error, callback=self._on_connection_retry)
            yield opened

    def get_consumers(self, consumer: Callable[..., Consumer], channel: Any) -> list[Consumer]:  # untyped by kombu
        """Return the consumers of commands, acknowledgements and heartbeats; kombu does not decode the messages."""
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
        """Try waiting commands, declare the queues again, and send a heartbeat; end if another version is installed.

        A Redis that lost the bindings while connections live accepts messages and drops them without an error.
        """
        self._accept_waiting()
        if self._runtime.settings.embedded or time.monotonic() < self._heartbeat_at:
            return
        if process_version.take_no_more_work():
            self.end()
            return
        # Another intake that ended may have deleted the row.
        self._record_heartbeat(heartbeats.expect)
        taken = self._declare_again() and self._send_heartbeat()
        self._heartbeat_at = time.monotonic() + (HEARTBEAT_SECONDS if taken else HEARTBEAT_BACKOFF_SECONDS)

    def receive_command(self, message: Message) -> None:
        """Accept one command, let it wait for room in its account, or publish the refusal to the queue of refusals."""
        self._receive(message, queues.EXECUTE, self._accept, self._refuse_command)

    def receive_acknowledgement(self, message: Message) -> None:
        """Record one answer of a customs broker.

        A refused answer becomes a dead letter; an answer to a purged export is dropped.
        """
        self._receive(message, queues.ACKNOWLEDGEMENTS, self._acknowledge, partial(self._dead_letter, message))

    def receive_heartbeat(self, message: Message) -> None:
        """Record that a heartbeat arrived, on the same way as a command."""
        self._record_heartbeat(heartbeats.record)
        message.ack()

    def end(self) -> None:
        """Stop after the current message. A signal handler may call this at any moment."""
        self.should_stop = True
        self._ends.put(None)

    def _on_connection_retry(self) -> None:
        if self.should_stop:
            raise _Stopping
        self._record_heartbeat(heartbeats.expect)

    def _record_heartbeat(self, action: Callable[[Runtime, str], None]) -> None:
        """Record the state of heartbeats. If the database does not answer, only log it, so that messages do not wait."""
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
                raise  # RabbitMQ has closed the channel
            log.warning("queues_not_declared", error=type(error).__name__)
            return False
        return True

    def _send_heartbeat(self) -> bool:
        """Send a heartbeat, unless one is unread in the queue; return whether the message broker accepted it."""
        if self._heartbeats.bind(self._channel).queue_declare().message_count:
            return True
        heartbeat = OutgoingMessage(ids.new_id("hrt"), queues.HEARTBEAT, queues.HEARTBEAT_KEY, b"{}")
        try:
            deque(self._sender.send([heartbeat], Target("", heartbeats.INTAKE, test=False)), maxlen=0)
        except ChannelUnavailable as error:
            log.warning("heartbeat_not_sent", error=error.status)
            return False
        return True

    def _receive(self, message: Message, queue: str, act: Handler, refuse: RefusalHandler) -> None:
        if self.should_stop:
            # It may be the message that was just requeued. It returns to its queue when the connection closes.
            return
        properties = MessageProperties.from_message(message)
        request_id = properties.request_id
        began = time.monotonic()
        bound = structlog.contextvars.bound_contextvars(request_id=request_id), events.request_id_bound(request_id)
        with bound[0], bound[1], tracing.open_span(f"receive {queue}", properties.trace, kind="consumer"):
            failpoint("intake.before")
            while True:
                try:
                    reply = self._answer(lambda: act(message, properties), refuse, properties)
                except (Retryable, IdempotencyInProgress) as later:
                    # The intake keeps the message: RabbitMQ counts requeues and would dead-letter it after ten.
                    log.warning("message_postponed", reason=str(later))
                    if self._must_end_after_pause():
                        message.requeue()
                        observe(INTAKE_SECONDS, time.monotonic() - began, queue, POSTPONED)
                        return
                    continue
                break
            failpoint("intake.mid")
            if reply is not None:
                self._reply(reply, properties)
            failpoint("intake.after")
            message.ack()
        outcome = POSTPONED if reply is None else REFUSED if reply.is_refusal else ACCEPTED
        observe(INTAKE_SECONDS, time.monotonic() - began, queue, outcome)

    def _answer(
        self, act: Callable[[], bytes | None], refuse: RefusalHandler, properties: MessageProperties
    ) -> Reply | None:
        """Return the reply, which may be a refusal; None if the command waits. Raises the errors after which to try again."""
        try:
            body = act()
        except (Retryable, IdempotencyInProgress):
            raise
        except Refused as refused:
            return self._handle_refusal(refused, refuse, properties)
        except Exception:
            # The message would raise the same error again, so it is refused.
            log.exception("message_raised")
            broken = InvalidRequest("the message cannot be processed; see the log")
            return self._handle_refusal(broken, refuse, properties)
        return None if body is None else Reply("application/json", body)

    def _accept_waiting(self) -> None:
        """Try commands that wait for room in their accounts; some at a time, so that new messages do not wait."""
        if time.monotonic() < self._waiting_at:
            return
        self._waiting_at = time.monotonic() + WAITING_SECONDS
        try:
            for _ in range(WAITING_AT_ONCE):
                command = None if self.should_stop else self._commands.find_due()
                if command is None:
                    return
                self._try_waiting(command)
        except DatabaseBusy as busy:
            log.warning("waiting_commands_postponed", reason=str(busy))
            return
        self._waiting_at = 0.0  # more may be due

    def _try_waiting(self, command: ClaimedCommand) -> None:
        properties = MessageProperties.from_json(command.properties)
        request_id = properties.request_id
        bound = structlog.contextvars.bound_contextvars(request_id=request_id), events.request_id_bound(request_id)
        with bound[0], bound[1], tracing.open_span(f"receive {queues.EXECUTE}", properties.trace, kind="consumer"):
            try:
                reply = self._answer(
                    lambda: self._commands.retry(command, properties), self._refuse_command, properties
                )
            except (Retryable, IdempotencyInProgress):
                reply = None
            if reply is None:
                waiting_commands.postpone(self._runtime, command.id, WAITING_SECONDS)
                return
            self._reply(reply, properties)
            waiting_commands.remove(self._runtime, command.id)

    def _must_end_after_pause(self) -> bool:
        """Return whether the intake must end; `end` also ends the pause."""
        with suppress(Empty):
            self._ends.get(timeout=PAUSE_SECONDS)
        return self.should_stop

    def _accept(self, message: Message, properties: MessageProperties) -> bytes | None:
        return self._commands.accept(message, self._body(message), properties)

    def _acknowledge(self, message: Message, _: MessageProperties) -> bytes:
        body = self._body(message)
        sent = parse_json(body, SentAcknowledgement, max_depth=self._runtime.settings.max_json_depth).model
        headers = {str(name).lower(): str(value) for name, value in message.headers.items()}
        # Its timestamp is not checked, because it may have waited long in the queue. A replay does no harm: an id counts once.
        actor = submissions.verify_signer(self._runtime, sent.submission_id, body, headers, timely=False).actor
        with self._runtime.db.read() as session:
            owner = submissions.find_submission(session, sent.submission_id)
        receipt = receive_sent_answer(self._runtime, owner, sent, actor)
        log.info("acknowledgement_recorded", submission_id=sent.submission_id, status=sent.status)
        return receipt.model_dump_json(by_alias=True).encode()

    def _body(self, message: Message) -> bytes:
        body = raw_body(message)
        if len(body) > self._runtime.settings.max_body_bytes:
            raise InvalidRequest(f"the message must have at most {self._runtime.settings.max_body_bytes} bytes")
        return body

    def _handle_refusal(self, refused: Refused, refuse: RefusalHandler, properties: MessageProperties) -> Reply:
        tracing.annotate(outcome="refused", refusal=refused.code)
        log.info("message_refused", code=refused.code)
        problem = (
            problem_document(refused, properties.request_id).model_dump_json(by_alias=True, exclude_none=True).encode()
        )
        reply = Reply("application/problem+json", problem)
        refuse(refused, reply, properties)
        return reply

    def _refuse_command(self, _: Refused, reply: Reply, properties: MessageProperties) -> None:
        key = queues.BINDINGS[queues.REFUSED][0]
        # Declared each time: a flushed Redis has lost the binding, and would drop the refusal without an error.
        bound = [queue for queue in self._queues if queue.name == queues.REFUSED]
        self._publish(reply, queues.exchange, key, declared=bound, correlation_id=properties.correlation_id)

    def _dead_letter(self, message: Message, refused: Refused, _: Reply, properties: MessageProperties) -> None:
        if isinstance(refused, Purged):
            # The export was purged, so the text of the answer must not be kept as a dead letter.
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
        if properties.task is not None:
            reply = celery_messages.build_result(reply, properties.correlation_id)
        self._publish(reply, "", properties.reply_to, correlation_id=properties.correlation_id)
        if properties.task is not None and self._runtime.settings.message_broker == "redis":
            # An app that reads no results names a queue too, and nobody would remove it.
            with suppress(*self._broker_errors):
                self.producer.channel.client.expire(properties.reply_to, celery_messages.RESULT_SECONDS)

    def _publish(
        self, reply: Reply, exchange: Any, routing_key: str, *, declared: Sequence[Queue] = (), **properties: Any
    ) -> None:
        """Publish the reply to a message. If the message broker refuses it, only log that.

        The message's result is in the database, or it has none. So the message must not be redelivered again and again because a
        reply queue is full. Raises ConnectionError if the message broker cannot be reached; then the message is redelivered.
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
            # Kombu retries once and then raises one error for all causes.
            cause = error.__cause__ or error
            self.on_consume_end(None, None)  # type: ignore[no-untyped-call]  # closes the producer's connection
            if not isinstance(cause, self._rejections):
                # Not a timeout error, which kombu would take for a pause between two messages.
                raise ConnectionResetError(f"the message broker did not answer: {type(cause).__name__}") from error
            log.warning("reply_not_accepted", error=type(cause).__name__)
