"""Processes forked from one with all imports done: a start costs little, so tests can kill often.

Each is a whole program, such as one of the Procfile, with its arguments and environment. Before the fork only its
libraries are imported and its templates compiled. Run as a module it is the parent: it reads one program a line, and
writes how each ended into a file named after its process id.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from pipeline.customs.reference.bundle import load_rules
from pipeline.documents.pdf.supervisor import RENDERER
from pipeline.documents.registry import render_documents
from pipeline.interfaces.cli import main as cli_main
from tests.documents.samples import build_full_invoice
from tests.support import fake_pdf
from tests.support.servers import poll

ROOT: Final = Path(__file__).resolve().parents[2]
_DEATHSIG: Final = 1  # PR_SET_PDEATHSIG

#: Slow imports that read no settings: a child has settings of its own.
LIBRARIES: Final = """
    amqp asyncssh billiard celery.bin.celery celery.bin.worker celery.concurrency.prefork celery.concurrency.solo
    celery.concurrency.thread celery.fixups.django celery.worker.consumer fastapi httpcore httpx jinja2
    kombu.transport.memory kombu.transport.pyamqp kombu.transport.redis obstore.store prometheus_client psycopg
    psycopg_binary pydantic_settings pypdf redis rich.console sqlalchemy.dialects.postgresql.psycopg sqlmodel
    standardwebhooks structlog typer uvicorn.loops.uvloop uvicorn.main uvicorn.protocols.http.httptools_impl xlsxwriter
    pipeline.workflow.acceptance pipeline.workflow.amendments pipeline.interfaces.api.openapi pipeline.interfaces.api.exports pipeline.interfaces.api.system
    pipeline.deliveries.handoff_bundle pipeline.interfaces.cli.server pipeline.deliveries.connection_tests pipeline.interfaces.console.exports.exports pipeline.interfaces.console.api_reference
    pipeline.workflow.engine pipeline.ops.migrations.runner pipeline.deliveries.polling pipeline.ops.readiness pipeline.deliveries.replay pipeline.deliveries.sandbox_broker
""".split()  # fmt: skip


@dataclass
class ForkedProcess:
    """A forked process: the needed part of `subprocess.Popen`."""

    pid: int
    ended: Path
    returncode: int | None = None

    def poll(self) -> int | None:
        """Return its exit status, negative for a signal, or None while it runs."""
        if self.returncode is None:
            with contextlib.suppress(FileNotFoundError, ValueError):
                self.returncode = int(self.ended.read_text())
        return self.returncode

    def wait(self, timeout: float = 30) -> int:
        """Return its exit status after its end; TimeoutError if it does not end in time."""
        poll(lambda: self.poll() is not None, timeout, f"process {self.pid} did not end in {timeout:g} s")
        return int(self.returncode or 0)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still exists."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class ForkServer:
    """The parent, seen from the tests."""

    def __init__(self, parent: subprocess.Popen[bytes], folder: Path) -> None:
        self.pid = parent.pid
        self._parent = parent
        self._folder = folder

    def fork(self, command: str, environment: Mapping[str, str], cwd: Path, log: Path) -> ForkedProcess:
        """Start an `exports` command, such as those of the Procfile, or `python -m MODULE`, in a process group of its own."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        asked = {"argv": shlex.split(command), "environment": dict(environment), "cwd": str(cwd), "log": str(log)}
        self._parent.stdin.write(json.dumps(asked).encode() + b"\n")
        self._parent.stdin.flush()
        pid = int(self._parent.stdout.readline())
        return ForkedProcess(pid, self._folder / str(pid))


@contextmanager
def start_fork_server(
    folder: Path,
    *,
    module: str = "tests.support.fork_server",
    root: Path = ROOT,
    prefix: Sequence[str] = (),
    **environment: str,
) -> Iterator[ForkServer]:
    """Yield the parent of processes. They end with it, and have these variables; `module` calls `main`.

    With another `root` the processes belong to the version in that folder. The prefix is of the command.
    """
    wrapper = [setpriv, "--pdeathsig=KILL", "--"] if (setpriv := shutil.which("setpriv")) else []
    with (folder / "fork_server.log").open("ab") as log:
        parent = subprocess.Popen(
            [*prefix, *wrapper, sys.executable, "-m", module, str(folder)],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    assert parent.stdin is not None
    assert parent.stdout is not None
    try:
        if parent.stdout.readline() != b"ready\n":
            raise RuntimeError((folder / "fork_server.log").read_text())
        yield ForkServer(parent, folder)
    finally:
        parent.stdin.close()
        parent.wait()
        parent.stdout.close()


def main(folder: Path, prepare: Callable[[], object] = lambda: None) -> None:
    """Fork on request and write how each child ended, until the input ends; a child returns from here too.

    Each child calls `prepare` before its program.
    """
    for name in LIBRARIES:
        importlib.import_module(name)
    if "config.celery" in sys.modules:
        raise RuntimeError("a library read the settings at import; remove it from LIBRARIES")
    load_rules()
    _compile_templates()
    gc.freeze()  # objects that are never collected are never copied
    _print_line("ready")
    living: dict[int, int] = {}
    while True:
        readable, _, _ = select.select([0, *living], [], [])
        for ended in {*readable} & living.keys():
            pid = living.pop(ended)
            os.close(ended)
            written = folder / f"{pid}.new"
            written.write_text(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
            written.rename(folder / str(pid))
        if 0 in readable:
            line = _read_line()
            if not line:
                return
            pid = os.fork()
            if not pid:
                for handle in living:
                    os.close(handle)
                _run_program(json.loads(line), prepare)
                return
            # The system reuses process ids: the status of the last process with this id is void.
            (folder / str(pid)).unlink(missing_ok=True)
            living[os.pidfd_open(pid)] = pid
            _print_line(str(pid))


def _compile_templates() -> None:
    """Render an invoice, so that no child compiles its templates and schemas again."""
    with patch.object(RENDERER, "_request", fake_pdf.answer_request):
        for _ in render_documents(build_full_invoice()):
            pass


def _print_line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _read_line() -> bytes:
    # Unbuffered: `select` would miss what a buffer holds, and a child would inherit it.
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return b""
        line += byte
    return line


def _run_program(asked: Mapping[str, Any], prepare: Callable[[], object]) -> None:
    """Become the requested program, until the end of this process."""
    ctypes.CDLL(None).prctl(_DEATHSIG, signal.SIGKILL)
    os.setsid()
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(log, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(asked["environment"])
    os.chdir(asked["cwd"])
    prepare()
    match asked["argv"]:
        case ["python", "-m", module, *arguments]:
            sys.argv = [module, *arguments]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case argv:
            sys.argv = argv
            cli_main.main()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
