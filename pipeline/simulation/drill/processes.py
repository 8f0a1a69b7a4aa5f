"""The processes of a scratch instance, which the drill kills without warning and starts again."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from config.network import LOOPBACK
from config.queues import DELIVERIES, STEP_QUEUES
from config.settings import HOME, read_other_variables
from pipeline.core.errors import ExportsError

STOP_SECONDS: Final = 15.0
_LOG_TAIL_CHARACTERS: Final = 3000

#: Below the range of outgoing connections, so that the port of a killed process is still free when it starts again.
_PORTS: Final = range(20_000, 32_000)

_CELERY: Final = (
    "-m",
    "celery",
    "-A",
    "config.celery",
    "worker",
    "--without-heartbeat",
    "--without-mingle",
    "--without-gossip",
)


class DrillFailed(ExportsError):
    """The drill could not run; the message says why. This is not a judgement of the service."""


def process_commands(port: int, *, embedded: bool) -> Mapping[str, Sequence[str]]:
    """Return Python's arguments for each process, by name: one process on the embedded message broker, else four."""
    if embedded:
        return {
            "service": ("-c", "from pipeline.interfaces.cli.main import main; main()", "serve", "--port", str(port))
        }
    steps = (*_CELERY, "-P", "solo", "-Q", ",".join(STEP_QUEUES))
    return {
        "api": (
            "-m",
            "uvicorn",
            "--factory",
            "pipeline.interfaces.app:app",
            "--http",
            "pipeline.interfaces.server:BoundedHead",
            "--host",
            LOOPBACK,
            "--port",
            str(port),
            "--no-access-log",
            "--no-server-header",
        ),
        "worker-1": (*steps, "-n", "worker-1@%h"),
        "worker-2": (*steps, "-n", "worker-2@%h"),
        "deliveries": (*_CELERY, "-P", "threads", "-c", "8", "-Q", DELIVERIES, "-n", "deliveries@%h"),
    }


class ServiceProcess:
    """One process of the service; all its starts write to the same log."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.log_file = folder / f"{name}.log"
        self._arguments = arguments
        self._environment = environment
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; it ends with the calling thread, even if that is killed."""
        wrapper = [setpriv, "--pdeathsig=KILL", "--"] if (setpriv := shutil.which("setpriv")) else []
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - runs only our Python with our modules
                [*wrapper, sys.executable, *self._arguments],
                cwd=self._folder,  # this folder holds no .env
                env={
                    **read_other_variables(),
                    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}",
                    "HOME": str(self._folder),
                    "PYTHONPATH": str(HOME),
                    **self._environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches only the drill, which then ends the processes
            )

    def kill(self) -> None:
        """Kill the process without warning, and return when it has ended."""
        process = self._running()
        process.kill()
        process.wait()

    def check(self) -> None:
        """Raise DrillFailed if the process ended, other than by `kill`."""
        status = self._running().poll()
        if status is not None:
            raise DrillFailed(f"{self.name} ended by itself with status {status}; its log ends with\n{self.log_tail()}")

    def terminate(self) -> None:
        """Ask the process to end, as a supervisor would."""
        if self._process is not None:
            self._process.terminate()

    def wait_ended(self) -> None:
        """Return when the process and its process group have ended."""
        if self._process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        # The group's number is that of its first process, which is ours, so no other processes are killed.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def log_tail(self) -> str:
        """Return the end of the process's log."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL_CHARACTERS:]

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process


def free_port(rng: random.Random) -> int:
    """Return a free loopback port."""
    while True:
        port = rng.choice(_PORTS)
        with contextlib.suppress(OSError), socket.create_server((LOOPBACK, port)):
            return port
