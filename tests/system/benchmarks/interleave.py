"""A side in its own process: it reads "prepare" and "run" from standard input and answers with seconds."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Self

from tests.conftest import Stack
from tests.system.benchmarks.processor import read_processor_seconds

ROOT = Path(__file__).resolve().parents[3]
PREPARE, RUN = "prepare\n", "run\n"


def run_rounds(prepare: Callable[[], None], run: Callable[[], None]) -> None:
    """Obey each command; return when the input ends, as it does when the parent ends."""
    for word in sys.stdin:
        began = time.perf_counter()
        (prepare if word == PREPARE else run)()
        sys.stdout.write(f"{time.perf_counter() - began}\n")
        sys.stdout.flush()


class Side:
    """One or more processes that share a round."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[object],
        stack: Stack,
        folder: Path,
        *,
        processes: int = 1,
        more: Mapping[str, str] | None = None,
    ) -> None:
        environment = build_environment(stack, more or {})
        self._log_file = folder / f"{module.rsplit('.', 1)[1]}.log"
        with self._log_file.open("ab") as log:
            self._processes = [
                subprocess.Popen(
                    [sys.executable, "-m", module, *map(str, arguments)],
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
                for _ in range(processes)
            ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            with contextlib.suppress(BrokenPipeError):
                _close(process.stdin)
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _close(process.stdout)

    def run_round(self) -> tuple[float, float]:
        """Prepare and run a round; return its seconds until the last process was done, and its processor seconds."""
        self._send_command(PREPARE)
        before = read_processor_seconds()
        return self._send_command(RUN), read_processor_seconds() - before

    def _send_command(self, word: str) -> float:
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.write(word)
                process.stdin.flush()
        return max(self._answer(process) for process in self._processes)

    def _answer(self, process: subprocess.Popen[str]) -> float:
        line = process.stdout.readline() if process.stdout is not None else ""
        if not line:
            log = self._log_file.read_text(errors="replace").splitlines()[-15:]
            raise RuntimeError("a side of the benchmark ended early:\n" + "\n".join(log))
        return float(line)


def _close(stream: IO[str] | None) -> None:
    if stream is not None:
        stream.close()


def build_environment(stack: Stack, more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process on the stack, without a developer's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EXPORTS_")}
    return {**kept, "PYTHONPATH": str(ROOT), **stack.environment, **more}
