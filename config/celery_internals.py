"""All uses of Celery's private parts: undocumented names, and classes that are not meant to be overridden.

`pipeline.core.message_broker` is the same for kombu and amqp. They are apart because `core` must not know Celery.

Each part names the upstream bug. A test in `tests/config/test_celery_internals.py` fails when Celery has fixed it.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Final

import structlog
from celery import bootsteps
from celery.loaders.app import AppLoader
from celery.worker import consumer, state
from kombu import Message

log = structlog.get_logger(__name__)

#: The longest time until a worker that waits for messages notices a signal.
SHUTDOWN_POLL_SECONDS: Final = 0.25

#: As in the log.
_STAMP: Final = structlog.processors.TimeStamper(fmt="iso", utc=True)

#: Commands that Flower sends: they only make a worker send events.
_HARMLESS_CONTROL: Final = {"enable_events", "heartbeat"}


class OwnModules(AppLoader):  # type: ignore[misc]
    """Imports the installed modules.

    Bug: Celery's loader puts the working directory first in `sys.path`, so a foreign tasks.py there is run instead of
    ours. No setting changes that; celery#1922 asks for the opposite order and was closed without one.
    """

    def import_from_cwd(self, module: str, imp: Any = None, package: str | None = None) -> Any:
        return self.import_module(module, package=package)


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """Celery's consumer without four bugs, one in each part of this class."""

    # Bug (celery#9207, celery#9599): with quorum queues every worker declares about sixty exchanges and queues for
    # delayed messages at each start, and needs the right to create them. The service delays no messages. Celery has no
    # setting against it: "just don't use quorum queues".
    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc]
        """Celery's steps at a consumer's start, without DelayedDelivery."""

        default_steps: ClassVar[list[str]] = [
            step for step in consumer.Consumer.Blueprint.default_steps if not step.endswith(":DelayedDelivery")
        ]

    #: A replacement of kombu's transport, or None.
    transport: Any = None

    _half_open: Any = None

    def is_acceptable(self, _: Message) -> bool:
        """Return whether Celery may read the message; others are dropped."""
        return True

    # Bug (kombu#462, closed because nobody could reproduce it): a Redis that refuses writes (out of memory, or a replica)
    # refuses each new connection after it is half open. Celery forgets it: twelve open files a second, until the process
    # can open no more.
    def connect(self) -> Any:
        """Return a new connection. If it cannot be completed, it is closed before the error is raised."""
        try:
            return super().connect()
        except BaseException:
            if self._half_open is not None:
                self._half_open.release()
            raise
        finally:
            self._half_open = None

    def connection_for_read(self, heartbeat: float | None = None) -> Any:
        """Return an open connection, which `connect` has not completed yet."""
        self._half_open = self.ensure_connected(
            self.app.connection_for_read(heartbeat=heartbeat, transport=self.transport)
        )
        return self._half_open

    # Bug (celery#7975, celery#4308): unexpected JSON ends Celery's consumer and its worker. A program that can write to
    # the message broker could end every worker with one message each.
    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Message], None]:
        """Return the handler of each message."""
        handle = super().create_task_handler(*args, **kwargs)

        def take(message: Message) -> None:
            raise_failed_acknowledgements(message)
            if not self.is_acceptable(message):
                log.error(
                    "message_dropped", content_type=str(message.content_type)[:80], bytes=len(message.body or b"")
                )
                message.ack_log_error(log, self.connection_errors)
                return
            try:
                handle(message)
            except (*self.connection_errors, *self.channel_errors):
                raise
            except Exception:
                # The message's step or delivery is still in the database.
                log.exception("message_raised")

        return take


def raise_failed_acknowledgements(message: Message) -> None:
    """Make a failed acknowledgement of the message raise its error.

    Bug (celery#3773): if the connection fails during an acknowledgement, Celery only logs it, and the message counts as
    unacknowledged forever. At its prefetch limit the worker asks for no more messages, while its connection and its sweep
    stay alive. The raised error ends the connection, and the next one starts a new count. Messages that arrive again do
    no harm.
    """
    message.ack_log_error = partial(_settle_or_raise, message.ack)  # type: ignore[method-assign]
    message.reject_log_error = partial(_settle_or_raise, message.reject)  # type: ignore[method-assign]


def _settle_or_raise(settle: Callable[..., None], _log: object, _errors: object, **how: Any) -> None:
    settle(**how)


class ShutdownPoll(bootsteps.StartStopStep):  # type: ignore[misc]
    """A timer that makes the worker's loop notice a signal soon.

    Bug: since celery#7339 a signal only sets a flag, and the loop looks at it after its wait for messages. That wait ends
    with the next message or timer. On RabbitMQ that takes ten seconds, and an idle worker would run that long.
    """

    requires = ("celery.worker.components:Timer",)

    def include_if(self, parent: Any) -> bool:
        """Return whether the worker's loop has timers; the embedded worker's has none."""
        return bool(parent.use_eventloop)

    def start(self, parent: Any) -> None:
        """Start the timer."""
        parent.timer.call_repeatedly(SHUTDOWN_POLL_SECONDS, lambda: None)


def stop_workers() -> None:
    """Make all workers of this process end when they next look at the flag, until `allow_workers`.

    Bug: no public call does that. `WorkController.stop` closes the connection in the calling thread, in which the worker
    may be processing a message.
    """
    state.should_stop = 0


def allow_workers() -> None:
    """Allow new workers in this process again."""
    state.should_stop = None


def run_celery(arguments: Sequence[str]) -> None:
    """Run Celery's command line with these arguments; raises SystemExit with its exit code.

    Bug (since celery#6481): `Celery.start` and `Celery.worker_main` drop the exit code, so a failed worker looks
    successful.
    """
    from celery.bin.celery import celery  # noqa: PLC0415 - importing takes a second, and other processes do not need it

    celery(list(arguments), prog_name="celery", auto_envvar_prefix="CELERY")


def keep_standard_output_clean() -> None:
    """Write what a worker says when it ends to standard error, as a line of the log in JSON.

    Bug (celery#8101): it goes to standard output, past the log, also with `--quiet`. No setting changes that.
    """
    from celery.apps import worker  # noqa: PLC0415 - as above

    worker.safe_say = _write_to_log


def _write_to_log(message: str, _: object = None) -> None:
    # It runs inside a signal handler, in which a logger could wait for itself.
    record = _STAMP(None, "", {"event": message.strip(), "logger": "celery.worker", "level": "info"})
    os.write(sys.stderr.fileno(), json.dumps(record).encode() + b"\n")


def refuse_control_commands() -> None:
    """Let workers of this process answer only commands that change nothing.

    Celery's remote control has no rights: any client of the message broker could end a worker, or close its queues. No
    setting separates the commands that inspect from those that act.
    """
    from celery.worker.control import Panel  # noqa: PLC0415 - most processes run no worker

    for name, command in Panel.meta.items():
        if command.type != "inspect" and name not in _HARMLESS_CONTROL:
            Panel.data[name] = _refuse_command


def _refuse_command(*_: Any, **__: Any) -> dict[str, str]:
    return {"error": "refused: this worker only answers commands that change nothing; stop it by a signal"}
