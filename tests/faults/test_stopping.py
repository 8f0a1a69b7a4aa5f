"""Every process of ours ends soon after it is told to, also one that has nothing to do."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Final

import pytest
from kombu import Connection

from config.queues import EXECUTE
from pipeline.runtime import Runtime
from tests.acceptance.programs import Program, procfile
from tests.conftest import SERVERS, Stack
from tests.faults.test_poison import at_rest, runtime, take
from tests.servers import poll

__all__ = ["runtime"]

#: Of which the loop's share is a quarter of a second; the rest is what a busy machine takes to let go of everything.
BOUND_SECONDS: Final = 8.0


def is_consumed(stack: Stack) -> bool:
    """Whether the intake has come as far as its queue; Redis does not say."""
    if stack.settings.message_broker == "redis":
        return True
    with Connection(stack.broker_url) as connection:
        try:
            connection.default_channel.queue_declare(EXECUTE, passive=True)
        except connection.channel_errors:
            return False
        return True


@pytest.mark.parametrize(
    "stack",
    [pytest.param("postgres-redis", marks=SERVERS), pytest.param("postgres-rabbitmq", marks=SERVERS)],
    indirect=True,
)
def test_processes_end_when_they_are_told_to_though_they_are_idle(
    stack: Stack, runtime: Runtime, tmp_path: Path
) -> None:
    commands = procfile()
    programs = [
        Program(name, commands[name], stack.environment, tmp_path)
        for name in ("worker", "deliveries", *(["intake"] if stack.settings.message_broker == "amqp" else []))
    ]
    for program in programs:
        program.start()
    try:
        export_id = take(runtime, "A1")
        poll(lambda: at_rest(runtime, [export_id]) and is_consumed(stack), 90, "they did not begin to work")
        began = time.monotonic()
        for program in programs:
            program.running().send_signal(signal.SIGTERM)
        ended = {program.name: program.wait(60) for program in programs}
        assert (ended, time.monotonic() - began < BOUND_SECONDS) == (dict.fromkeys(ended, 0), True)
    finally:
        for program in programs:
            if program.process is not None:
                program.kill()
