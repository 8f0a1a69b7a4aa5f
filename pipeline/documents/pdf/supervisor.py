"""The keeper of the PDF engine's process: starts it when first needed, renews it, and outlives its death."""

from __future__ import annotations

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
from pipeline.documents.pdf.worker import EngineMessage, read_message, write_message

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class RendererLimits:
    """When the process is renewed or stopped.

    Typst keeps what it has laid out and never gives it back, so a process is renewed once it holds `resident_bytes`
    or has done `requests`; one that takes longer than `seconds` for a request, or works `cpu_seconds` on it, is killed.
    So is one that is not ready `start_seconds` after its start, which takes it half a second on an idle machine.
    """

    start_seconds: float = 30.0
    seconds: float = 60.0
    cpu_seconds: int = 30
    resident_bytes: int = 220 * 1024**2
    requests: int = 500


class Renderer:
    """One process for one request at a time; safe to share between threads."""

    def __init__(self, limits: RendererLimits | None = None, engine: str = "pipeline.documents.pdf.worker") -> None:
        self._limits = limits or RendererLimits()
        self._engine = engine
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests = 0
        self._numbers = count(1)

    @property
    def pid(self) -> int | None:
        """The process id, while there is a process."""
        return None if self._process is None else self._process.pid

    def set_document(
        self,
        template: str,
        facts: bytes,
        part: Mapping[str, Any],
        timestamp: int,
        attached: bytes | None = None,
        *,
        tagged: bool = False,
    ) -> bytes:
        """Return the PDF of `template` with `facts` (JSON); `timestamp` (seconds since 1970) is the document's date.

        `attached` (UTF-8) is the file that the template puts into the PDF. A `tagged` one tells programs that read it aloud
        what is a heading, a table and a cell.

        Raises RendererCrashed where the process died or was too slow, StepFailed where Typst refuses the document, and
        RendererUnavailable where the process does not start, or its machine lacks what it needs.
        """
        head = {"task": "set", "template": template, "part": part, "timestamp": timestamp, "tagged": tagged}
        return self._request(EngineMessage(head, [facts] if attached is None else [facts, attached])).bodies[0]

    def count_pages(self, template: str, facts: bytes, part: Mapping[str, Any]) -> int:
        """Return how many pages `set_document` would give."""
        return int(
            self._request(EngineMessage({"task": "count", "template": template, "part": part}, [facts])).head["pages"]
        )

    def join_documents(self, parts: Sequence[bytes]) -> bytes:
        """Return the PDFs `parts` as one."""
        return self._request(EngineMessage({"task": "join"}, parts)).bodies[0]

    def close(self) -> None:
        """End the process; the next request starts another."""
        with self._lock:
            if self._process is not None:
                self._stop(self._process)

    def start(self) -> None:
        """Have the process run, which sets a page of no document first; raises RendererUnavailable where it does not."""
        with self._lock:
            self._ensure_running()

    def _request(self, message: EngineMessage) -> EngineMessage:
        with self._lock:
            process = self._ensure_running()
            number = next(self._numbers)
            bounds = {"seconds": self._limits.seconds, "cpu_seconds": self._limits.cpu_seconds}
            limited = EngineMessage({**message.head, **bounds, "number": number}, message.bodies)
            response, timed_out = self._exchange(process, self._limits.seconds, limited)
            document = message.head.get("template", "a document of several parts")
            if response is None:
                self._stop(process)
                raise RendererCrashed(
                    f"the PDF engine {self._exit_reason(process, self._limits.seconds, timed_out=timed_out)} at {document}"
                )
            response_number = response.head.get("number")
            if response_number != number:  # its document may be another account's
                self._stop(process)
                raise RendererCrashed(
                    f"the PDF engine answered request {number} with number {response_number} and was ended at {document}"
                )
            self._requests += 1
            full = response.head["resident_bytes"] > self._limits.resident_bytes or response.head["spent"]
            if full or self._requests >= self._limits.requests:
                self._stop(process)
        if "unavailable" in response.head:
            raise RendererUnavailable(_unavailable(response.head["unavailable"]))
        if "error" in response.head:
            raise StepFailed(f"A document cannot be set: {response.head['error']}")
        return response

    def _exchange(
        self, process: subprocess.Popen[bytes], seconds: float, message: EngineMessage | None
    ) -> tuple[EngineMessage | None, bool]:
        """Return the next message of the process, after `message` where that is something; None where it ended.

        Beside it, whether it was killed because it took longer than `seconds`. Whatever is raised meanwhile ends the process.
        """
        try:
            return self._write_and_read(process, seconds, message)
        except BaseException:
            # What was not read still comes. The next request would take it for its own answer.
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

        # A process that hangs cannot be interrupted, only killed; its end then ends the read below.
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
            return f"took longer than {seconds:g} s and was ended"
        if code == -signal.SIGXCPU:
            return f"worked longer than {self._limits.cpu_seconds} s and was ended"
        if code < 0:
            return f"died of {signal.Signals(-code).name}"
        return f"died with code {code}"

    def _ensure_running(self) -> subprocess.Popen[bytes]:
        if self._process is not None:
            if self._process.poll() is None:
                return self._process
            self._stop(self._process)
        # It gets none of our environment: neither secrets nor settings concern it.
        try:
            process = subprocess.Popen(  # noqa: S603 - our own Python, and a module of ours
                [sys.executable, "-m", self._engine],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "PATH": os.defpath},
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise RendererUnavailable(_unavailable(str(error))) from error
        # No document is in its hands yet: what ends it now is no fault of any.
        ready, timed_out = self._exchange(process, self._limits.start_seconds, None)
        if ready is None or "unavailable" in ready.head:
            self._stop(process)
            reason = (
                ready.head["unavailable"]
                if ready
                else f"it {self._exit_reason(process, self._limits.start_seconds, timed_out=timed_out)}"
            )
            raise RendererUnavailable(_unavailable(reason))
        self._process = process
        return process

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        self._process, self._requests = None, 0
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
        # Without its stdin it ends by itself, and says how; if not, it is made to.
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def detach(self) -> None:
        """Leave the process to the parent that started it: after a fork it is not ours to talk to or to end."""
        self._lock = threading.Lock()
        self._process = None


def _unavailable(reason: str) -> str:
    return f"the PDF engine cannot work on this machine: {reason}; run `exports doctor` here, within the same limits"


#: The one of this operating system process.
RENDERER = Renderer()

atexit.register(RENDERER.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=RENDERER.detach)
