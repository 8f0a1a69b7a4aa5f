"""How an intake runs: as a process of its own, or as a thread of an embedded worker."""

import faulthandler
import signal
import threading
from collections.abc import Callable
from typing import Any

from celery import bootsteps

from config.celery import app
from config.logs import configure_logs
from pipeline.core import process_version
from pipeline.core.runtime import process_runtime
from tasks.intake import Intake


class EmbeddedIntake(bootsteps.StartStopStep):  # type: ignore[misc]
    """The intake as a thread of an embedded worker; in other installations it is a separate process."""

    def __init__(self, parent: Any, *, intake: bool = False, **options: Any) -> None:
        self.enabled = intake
        self._intake: Intake | None = None
        super().__init__(parent, **options)

    def start(self, parent: Any) -> None:
        """Start the intake's thread."""
        self._intake = Intake(process_runtime())
        threading.Thread(target=self._intake.run, name="intake", daemon=True).start()

    def stop(self, parent: Any) -> None:
        """End the intake after its current message."""
        if self._intake is not None:
            self._intake.end()

    terminate = stop


def main(on_ready: Callable[[], None] = lambda: None) -> None:
    """Consume until SIGINT or SIGTERM; call `on_ready` at each connection. Messages that are not acknowledged return."""
    runtime = process_runtime()
    configure_logs(runtime.settings)
    intake = Intake(runtime)
    intake.on_consume_ready = lambda *_, **__: on_ready()  # type: ignore[method-assign]
    # The longest time of a statement on a database that answers.
    grace_seconds = 3 * runtime.settings.database_timeout_seconds
    faulthandler.register(signal.SIGALRM, chain=True)

    def end(*_: object) -> None:
        process_version.end_requested()
        intake.end()
        # A dead connection would keep the current message, and with it the process, forever.
        signal.setitimer(signal.ITIMER_REAL, grace_seconds)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    intake.run()
    process_version.wait_for_restart()


app.steps["worker"].add(EmbeddedIntake)
