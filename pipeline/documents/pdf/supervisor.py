"""Supervises the process of the PDF engine: starts it on first use, replaces it, and survives its death."""

import atexit
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, cast

from pipeline.core.errors import RendererCrashed, RendererUnavailable, StepFailed
from pipeline.core.templating import SOURCES
from pipeline.documents.pdf.worker import PROGRAM, EngineMessage, read_message, write_message

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class RendererLimits:
    """The limits at which the process is replaced or killed.

    Typst caches layouts and never frees them. So the process is replaced if it holds `resident_bytes` or after `requests`.
    The next one starts at once, so that the next document does not wait for it. A process is killed if a request takes
    longer than `seconds`, or more than `cpu_seconds` of processor time. It is also killed if it is not ready
    `start_seconds` after its start, which takes half a second on an idle machine.
    """

    start_seconds: float = 30.0
    seconds: float = 60.0
    cpu_seconds: int = 30
    resident_bytes: int = 160 * 1024**2
    requests: int = 500


class Renderer:
    """One engine process that handles one request at a time; threads may share it."""

    #: The beginning of the error if the engine rejects a document.
    refusal = "Typst cannot set a document"

    def __init__(self, limits: RendererLimits | None = None, engine: str = "pipeline.documents.pdf.worker") -> None:
        self._limits = limits or RendererLimits()
        self._engine = engine
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False
        self._requests = 0
        self._numbers = count(1)

    @property
    def pid(self) -> int | None:
        """The id of the process, or None if none runs."""
        return None if self._process is None else self._process.pid

    def set_document(
        self,
        template: str,
        facts: bytes,
        part: Mapping[str, Any],
        timestamp: int,
        attached: bytes | None = None,
        *,
        logo: bytes | None = None,
        tagged: bool = False,
    ) -> bytes:
        """Return the PDF of `template` with `facts` (JSON); `timestamp` (seconds since 1970) is the document's date.

        `attached` is the file that the template attaches to the PDF, `logo` the picture (PNG) that it prints. A `tagged`
        PDF marks headings, tables and cells for screen readers.

        Raises RendererCrashed if the process dies or is too slow, and StepFailed if Typst rejects the document. Raises
        RendererUnavailable if the process does not start, or the machine lacks what it needs.
        """
        head = {"task": "set", "template": template, "part": part, "timestamp": timestamp, "tagged": tagged}
        return self._request(_with_files(head, facts, attached, logo)).bodies[0]

    def count_pages(self, template: str, facts: bytes, part: Mapping[str, Any], logo: bytes | None = None) -> int:
        """Return the number of pages that `set_document` would return; raises what it raises."""
        head = {"task": "count", "template": template, "part": part}
        return int(self._request(_with_files(head, facts, None, logo)).head["pages"])

    def join_documents(self, parts: Sequence[bytes]) -> bytes:
        """Return the PDFs joined into one; raises what `set_document` raises."""
        return self._request(EngineMessage({"task": "join"}, parts)).bodies[0]

    def close(self) -> None:
        """End the process; the next request starts another."""
        with self._lock:
            if self._process is not None:
                self._stop(self._process)

    def start(self) -> None:
        """Start the process, which sets a test page first; raises RendererUnavailable if that fails."""
        with self._lock:
            self._ensure_running()

    def _request(self, message: EngineMessage) -> EngineMessage:
        with self._lock:
            process = self._ensure_running()
            number = next(self._numbers)
            bounds = {"seconds": self._limits.seconds, "cpu_seconds": self._limits.cpu_seconds}
            limited = EngineMessage({**message.head, **bounds, "number": number}, message.bodies)
            response, timed_out = self._exchange(process, self._limits.seconds, limited)
            document = message.head.get("template", "a document")
            if response is None:
                self._stop(process)
                raise RendererCrashed(
                    f"the PDF engine {self._exit_reason(process, self._limits.seconds, timed_out=timed_out)} at {document}"
                )
            response_number = response.head.get("number")
            if response_number != number:  # its document may be another account's
                self._stop(process)
                raise RendererCrashed(
                    f"the PDF engine answered request {number} with number {response_number} and was stopped at {document}"
                )
            self._requests += 1
            full = response.head["resident_bytes"] > self._limits.resident_bytes or response.head["spent"]
            if full or self._requests >= self._limits.requests:
                self._stop(process)
                with suppress(RendererUnavailable):  # the next document reports it
                    self._launch()
        if "unavailable" in response.head:
            raise RendererUnavailable(_unavailable(response.head["unavailable"]))
        if "error" in response.head:
            raise StepFailed(f"{self.refusal}: {response.head['error']}")
        return response

    def _exchange(
        self, process: subprocess.Popen[bytes], seconds: float, message: EngineMessage | None
    ) -> tuple[EngineMessage | None, bool]:
        """Send `message` if it is not None, and return the next message of the process, None if the process ended.

        Also return whether it was killed because it took longer than `seconds`. Any exception ends the process.
        """
        try:
            return self._write_and_read(process, seconds, message)
        except BaseException:
            # The unread response still arrives; the next request would take it for its own.
            process.kill()
            self._stop(process)
            raise

    @staticmethod
    def _write_and_read(
        process: subprocess.Popen[bytes], seconds: float, message: EngineMessage | None
    ) -> tuple[EngineMessage | None, bool]:
        timed_out = threading.Event()

        def kill() -> None:
            timed_out.set()
            process.kill()

        # A process that hangs can only be killed; its end then ends the read below.
        watch = threading.Timer(seconds, kill)
        watch.daemon = True
        try:
            watch.start()
        except RuntimeError as error:  # this process may have no more threads
            raise RendererUnavailable(_unavailable(str(error))) from error
        try:
            if message is not None:
                write_message(cast(BinaryIO, process.stdin), message)
            response = read_message(cast(BinaryIO, process.stdout))
        except OSError:
            response = None
        finally:
            watch.cancel()
        return response, timed_out.is_set()

    def _exit_reason(self, process: subprocess.Popen[bytes], seconds: float, *, timed_out: bool) -> str:
        code = process.returncode
        if timed_out or code == -signal.SIGALRM:
            return f"took longer than {seconds:g} s and was stopped"
        if code == -signal.SIGXCPU:
            return f"used more than {self._limits.cpu_seconds} s of processor time and was stopped"
        if code < 0:
            return f"died of {signal.Signals(-code).name}"
        return f"died with code {code}"

    def _ensure_running(self) -> subprocess.Popen[bytes]:
        process = self._process
        if process is not None and process.poll() is not None:
            self._stop(process)
            process = None
        process = process or self._launch()
        if self._is_ready:
            return process
        # It has no document yet, so a failure now is not caused by a document.
        ready, timed_out = self._exchange(process, self._limits.start_seconds, None)
        if ready is None or "unavailable" in ready.head:
            self._stop(process)
            reason = (
                ready.head["unavailable"]
                if ready
                else f"it {self._exit_reason(process, self._limits.start_seconds, timed_out=timed_out)}"
            )
            raise RendererUnavailable(_unavailable(reason))
        if ready.head.get("program") != PROGRAM:
            # An upgrade changed the files. Its engine would not make the documents of this process's version.
            self._stop(process)
            raise RendererUnavailable("the files of the PDF engine changed after the start of this process; restart it")
        self._is_ready = True
        return process

    def _launch(self) -> subprocess.Popen[bytes]:
        # The process gets no environment variables of the service: it needs neither secrets nor settings.
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own Python, and a module of ours
                [sys.executable, "-m", self._engine],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "PATH": os.defpath},
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise RendererUnavailable(_unavailable(str(error))) from error
        self._is_ready, self._requests = False, 0
        return self._process

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        self._process = None
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
        # It ends by itself when stdin closes, with an exit code; if it does not, it is killed.
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def detach(self) -> None:
        """Forget the process after a fork: it belongs to the parent, and the child must not use or end it."""
        self._lock = threading.Lock()
        self._process = None


def _with_files(head: Mapping[str, Any], facts: bytes, attached: bytes | None, logo: bytes | None) -> EngineMessage:
    files = {"facts": facts, "attached": attached, "logo": logo}
    # The sources of this process's start: the engine's process may start after an upgrade changed the files.
    sources = {name: SOURCES[f"documents/{name}"] for name in ("french.json", "page.typ", head["template"])}
    given = {name: body for name, body in files.items() if body is not None} | sources
    return EngineMessage({**head, "files": [*given]}, [*given.values()])


def _unavailable(reason: str) -> str:
    return f"the PDF engine cannot work on this machine: {reason}; run `exports doctor` on it, under the same limits"


#: The renderer of this operating system process.
RENDERER = Renderer()

atexit.register(RENDERER.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=RENDERER.detach)
