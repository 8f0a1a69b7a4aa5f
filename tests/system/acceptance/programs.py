"""The service's processes with the commands of the Procfile; each has a log and a process group of its own.

They are forked from a parent that has imported their libraries, or started as a shell would start them.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from tests.support.fork_server import ForkedProcess, ForkServer
from tests.support.servers import poll

ROOT = Path(__file__).resolve().parents[3]
STOP_SECONDS = 30.0


def read_procfile() -> dict[str, str]:
    """Return the commands of the Procfile by the name of the process."""
    lines = (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
    return dict(line.split(": ", 1) for line in lines if line.strip() and not line.startswith("#"))


class Program:
    """One process: `start`, `stop` politely, `kill` at once, `freeze` and `thaw`; all starts write to one log."""

    def __init__(
        self,
        name: str,
        command: str,
        environment: Mapping[str, str],
        folder: Path,
        fork_server: ForkServer | None = None,
    ) -> None:
        self.name = name
        self.command = command
        self.environment = environment
        self.folder = folder
        self.log_file = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | ForkedProcess | None = None
        self._fork_server = fork_server

    def start(self) -> None:
        """Fork it, or start it as a shell would; it dies with the tests even if those are killed."""
        if self.process is not None:
            raise RuntimeError(f"{self.name} is already running")
        if self._fork_server is not None:
            self.process = self._fork_server.fork(self.command, self.environment, self.folder, self.log_file)
            return
        wrapper = [setpriv, "--pdeathsig=KILL", "--"] if (setpriv := shutil.which("setpriv")) else []
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*wrapper, "/bin/sh", "-c", f"exec {self.command}"],
                cwd=self.folder,  # a folder without a developer's .env
                env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def running(self) -> subprocess.Popen[bytes] | ForkedProcess:
        """Return the process; RuntimeError if there is none."""
        if self.process is None:
            raise RuntimeError(f"{self.name} is not running")
        return self.process

    def wait(self, seconds: float) -> int:
        """Return the exit status of a program that ends by itself."""
        status = self.running().wait(seconds)
        self.process = None
        return status

    def terminate(self) -> None:
        """Send SIGTERM as its supervisor would; `stop` then waits for the end."""
        process = self.running()
        process.send_signal(signal.SIGCONT)
        process.terminate()

    def stop(self) -> None:
        """Stop it as its supervisor would, then kill the rest of its group."""
        self.terminate()
        process = self.running()
        with contextlib.suppress(subprocess.TimeoutExpired, TimeoutError):
            process.wait(STOP_SECONDS)
        # The group id is the pid of our first process, so it cannot mean another's group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.process = None

    def kill(self) -> None:
        """Kill it as the kernel does when memory is short: no handler runs. Its children must end by themselves."""
        process = self.running()
        process.kill()
        process.wait()
        poll(lambda: not is_group_alive(process.pid), STOP_SECONDS, f"{self.name} left a process behind")
        self.process = None

    def freeze(self) -> None:
        """Pause it: it does nothing and notices nothing."""
        self.running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it continue."""
        self.running().send_signal(signal.SIGCONT)

    def resident_bytes(self) -> dict[int, int]:
        """Return the resident memory of the process and each of its children, by process id."""
        if self.process is None:
            return {}
        found: dict[int, int] = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            whole = psutil.Process(self.process.pid)
            for each in (whole, *whole.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    found[each.pid] = each.memory_info().rss
        return found

    def log(self) -> str:
        """Return its log."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""


def is_group_alive(number: int) -> bool:
    """Return whether a process of the group still exists."""
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True
