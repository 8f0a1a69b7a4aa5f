"""Tests that Celery still has the bugs that config/celery_internals.py works around.

If a test fails after an update of Celery, the bug may be fixed: remove the workaround, or change it.
"""

import inspect
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import click
import pytest
from celery import Celery
from celery.apps import worker as apps_worker
from celery.bin.celery import celery
from celery.exceptions import WorkerShutdown
from celery.loaders.app import AppLoader
from celery.worker import consumer, state
from celery.worker.consumer.delayed_delivery import DelayedDelivery
from kombu import Message, Queue
from kombu.asynchronous import Hub
from kombu.asynchronous.timer import Timer
from kombu.exceptions import OperationalError

from config import celery_internals


@pytest.fixture
def app() -> Iterator[Celery]:
    """A Celery app of its own, with the message broker in memory."""
    with Celery("bugs", broker="memory://", set_as_current=False) as app:
        yield app


def make_consumer(kind: type[Any], app: Celery) -> Any:
    """Return a consumer without connection, of Celery's class or ours."""
    pool, controller = Mock(num_processes=1, is_green=False), Mock(use_eventloop=False)
    return kind(Mock(), app=app, pool=pool, timer=Mock(), controller=controller)


def make_message(body: bytes = b"[[], {}, {}]", **headers: object) -> Message:
    channel = Mock(connection=None)
    channel.basic_ack.side_effect = ConnectionResetError("the connection is lost")
    return Message(
        body,
        channel=channel,
        delivery_tag="tag",
        content_type="application/json",
        content_encoding="utf-8",
        headers=headers,
    )


def test_celery_imports_foreign_modules_from_the_working_directory(
    app: Celery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "foreign_of_this_test.py").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModuleNotFoundError):
        celery_internals.OwnModules(app).import_from_cwd("foreign_of_this_test")
    assert AppLoader(app).import_from_cwd("foreign_of_this_test").__file__ == str(tmp_path / "foreign_of_this_test.py")


def test_celery_prepares_delayed_delivery_for_every_quorum_queue() -> None:
    app = Celery("bugs", broker="amqp://", set_as_current=False)
    app.conf.task_queues = [Queue("quorum", queue_arguments={"x-queue-type": "quorum"})]
    options = [name for name in app.conf if "delayed_delivery" in name]
    assert options == ["broker_native_delayed_delivery_queue_type"], "a new option may disable the step"
    assert DelayedDelivery.include_if(Mock(), SimpleNamespace(app=app))
    step = f"{DelayedDelivery.__module__}:{DelayedDelivery.__name__}"
    assert step in consumer.Consumer.Blueprint.default_steps
    assert step not in celery_internals.Consumer.Blueprint.default_steps


@pytest.mark.parametrize(("kind", "closed"), [(consumer.Consumer, False), (celery_internals.Consumer, True)])
def test_celery_leaves_a_half_open_connection_open(
    app: Celery, kind: type[Any], *, closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Mock()
    opened.ensure_connection.return_value = opened
    opened.transport.register_with_event_loop.side_effect = OperationalError("READONLY")
    worker = make_consumer(kind, app)
    worker.hub = Mock()
    monkeypatch.setattr(app, "connection_for_read", lambda **_: opened)
    with pytest.raises(OperationalError):
        worker.connect()
    assert (opened.release.called or opened.close.called) is closed


def test_celery_raises_an_unexpected_message_out_of_its_loop(app: Celery) -> None:
    app.task(make_message, name="known")
    app.finalize()
    message = make_message(b"[1]", task="known", id="1")

    def handle(kind: type[Any]) -> None:
        worker = make_consumer(kind, app)
        worker.update_strategies()
        worker.create_task_handler()(message)

    with pytest.raises(ValueError, match="not enough values to unpack"):
        handle(consumer.Consumer)
    handle(celery_internals.Consumer)


def test_celery_only_logs_a_failed_acknowledgement(app: Celery) -> None:
    message = make_message()
    message.ack_log_error(logging.getLogger(__name__), (ConnectionError,))
    celery_internals.raise_failed_acknowledgements(message)
    with pytest.raises(ConnectionResetError):
        message.ack_log_error(logging.getLogger(__name__), (ConnectionError,))


def test_celery_waits_for_messages_longer_than_a_signal_may_wait() -> None:
    """Celery's loop checks for a signal once in each turn; a turn lasts until the next timer of the hub."""

    def wait_of(timer: Timer) -> float:
        hub = Hub(timer=timer)
        hub.poller = Mock(poll=Mock(return_value=()))
        hub.readers[-1] = (Mock(), ())
        next(hub.create_loop())
        waited = float(hub.poller.poll.call_args.args[0])
        hub.readers.clear()
        hub.close()
        return waited

    idle, polled = Timer(), Timer()
    idle.call_repeatedly(60, lambda: None)
    polled.call_repeatedly(60, lambda: None)
    celery_internals.ShutdownPoll(Mock()).start(SimpleNamespace(timer=polled))
    assert wait_of(idle) > 1
    assert wait_of(polled) <= celery_internals.SHUTDOWN_POLL_SECONDS


def test_celery_drops_the_exit_code_of_its_command_line(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        click.get_current_context().exit(3)

    monkeypatch.setitem(celery.commands, "fail", click.Command("fail", callback=fail))
    assert app.start(["fail"]) is None
    with pytest.raises(SystemExit) as ended:
        celery_internals.run_celery(["fail"])
    assert ended.value.code == 3


def test_celery_prints_the_end_of_a_worker_past_its_log(capfd: pytest.CaptureFixture[str]) -> None:
    apps_worker.safe_say("worker: Warm shutdown", sys.__stdout__)
    assert capfd.readouterr().out == "\nworker: Warm shutdown\n"
    assert "safe_say(f'worker: {how} shutdown (MainProcess)', sys.__stdout__)" in inspect.getsource(apps_worker)


def test_celery_workers_end_by_a_private_flag_only() -> None:
    public = {name for name in dir(state) if "stop" in name or "shutdown" in name.lower()}
    assert public == {"WorkerShutdown", "maybe_shutdown", "should_stop"}, "a new name may end workers"
    celery_internals.stop_workers()
    try:
        with pytest.raises(WorkerShutdown):
            state.maybe_shutdown()
    finally:
        celery_internals.allow_workers()
    state.maybe_shutdown()
