"""`exports serve` in its own process: what it prints, and its end."""

import signal
from pathlib import Path
from typing import Final

from pipeline.interfaces.cli.server import WORKERS
from tests.support.command_line import Commands, exports
from tests.support.interpreter import run_interpreter


def test_serve_prints_its_address_and_ends_on_ctrl_c(commands: Commands, tmp_path: Path) -> None:
    process = exports(["serve", "--port", "0"], commands.environment, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("✓ serving at http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_serve_on_an_external_broker_runs_only_the_api(commands: Commands, tmp_path: Path) -> None:
    environment = {**commands.environment, "BROKER_URL": "redis://127.0.0.1:9/0", "EXPORTS_SECRET_KEY": "k" * 32}
    process = exports(["serve", "--port", "0"], environment, tmp_path)
    assert process.stdout is not None
    printed_lines = [process.stdout.readline().strip() for _ in range(5)]
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert printed_lines[1].startswith("The message broker is a separate server")
    assert printed_lines[2:] == list(WORKERS)


BEGIN: Final = """
from pipeline.workflow import dispatch, publisher

class Worker:
    def __init__(self, ready_callback, **_):
        print(sorted(step.__name__ for step in dispatch.app.steps["worker"]), len(dispatch.app.tasks) > 9)
        self._ready = ready_callback

    def start(self):
        self._ready(self)

publisher.app.WorkController = Worker
publisher.EmbeddedWorker(1).start()
"""


def test_every_embedded_worker_has_its_boot_steps_before_it_starts() -> None:
    """Left to Celery, workers that start during the first import of the tasks have neither sweeper nor intake."""
    begun = run_interpreter(BEGIN)
    assert (begun.returncode, begun.stderr) == (0, "")
    assert begun.stdout.splitlines() == ["['EmbeddedIntake', 'ShutdownPoll', 'Sweeper'] True"] * 3
