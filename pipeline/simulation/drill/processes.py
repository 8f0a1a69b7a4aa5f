"""Processes of the service on a scratch instance: each is killed without warning, and started again at once."""

from __future__ import annotations

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
from config.queues import DELIVERIES, DOCUMENTS, STEPS
from config.settings import HOME
from pipeline.core.errors import ExportsError

STOP_SECONDS: Final = 15.0
_LOG_TAIL_CHARACTERS: Final = 3000

#: Below the range that systems give to outgoing connections: the port of a killed process is still free when it comes back.
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
    """The drill could not be held: its sentence says what stood in the way. It is no judgement of the service."""


def process_commands(port: int, *, embedded: bool) -> Mapping[str, Sequence[str]]:
    """Return the arguments of Python for each process, by name: one for all on the embedded message broker, else four."""
    if embedded:
        return {
            "service": ("-c", "from pipeline.interfaces.cli.main import main; main()", "serve", "--port", str(port))
        }
    steps = (*_CELERY, "-P", "solo", "-Q", f"{STEPS},{DOCUMENTS}")
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
    """One process of the service; its log goes on from start to start."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.log_file = folder / f"{name}.log"
        self._arguments = arguments
        self._environment = environment
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it ends with the thread that calls, even if that is killed."""
        wrapper = [setpriv, "--pdeathsig=KILL", "--"] if (setpriv := shutil.which("setpriv")) else []
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own Python, and modules of ours
                [*wrapper, sys.executable, *self._arguments],
                cwd=self._folder,  # no .env lies here
                env={
                    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}",
                    "HOME": str(self._folder),
                    "PYTHONPATH": str(HOME),
                    **self._environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the drill, which then ends them
            )

    def kill(self) -> None:
        """End it as a power cut would, and return once it is gone."""
        process = self._running()
        process.kill()
        process.wait()

    def check(self) -> None:
        """Raise DrillFailed where it has ended otherwise than by being killed here."""
        status = self._running().poll()
        if status is not None:
            raise DrillFailed(f"{self.name} ended by itself with {status}; its log ends in\n{self.log_tail()}")

    def terminate(self) -> None:
        """Tell it to end as its supervisor would."""
        if self._process is not None:
            self._process.terminate()

    def wait_ended(self) -> None:
        """Return once it and whatever it left in its group are gone."""
        if self._process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        # The group has the number of its first process, which was ours: nobody else's can be meant.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def log_tail(self) -> str:
        """Return the end of what it wrote."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL_CHARACTERS:]

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process


def free_port(rng: random.Random) -> int:
    """Return a port of loopback on which nobody listens."""
    while True:
        port = rng.choice(_PORTS)
        with contextlib.suppress(OSError), socket.create_server((LOOPBACK, port)):
            return port
