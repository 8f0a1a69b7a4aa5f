"""A side in its own process: it reads "prepare" and "run" from standard input and answers with seconds.

The workers of a side that waits for its turn are frozen, so that they use no processor time of another side.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

from tests.conftest import Stack
from tests.system.acceptance.programs import Program
from tests.system.benchmarks.processor import read_processor_seconds

ROOT = Path(__file__).resolve().parents[3]
PREPARE, RUN = "prepare\n", "run\n"
#: The names of the measures of a round.
RATE, PROCESSOR = "exports/s", "processor ms"


def run_rounds(prepare: Callable[[], None], run: Callable[[], None]) -> None:
    """Obey each command; return when the input ends, as it does when the parent ends."""
    for word in sys.stdin:
        began = time.perf_counter()
        (prepare if word == PREPARE else run)()
        sys.stdout.write(f"{time.perf_counter() - began}\n")
        sys.stdout.flush()


class Side:
    """A process that runs rounds, and the workers that it needs; it starts and stops them all."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[object],
        stack: Stack,
        folder: Path,
        workers: Sequence[Program] = (),
        more: Mapping[str, str] | None = None,
    ) -> None:
        self._workers = workers
        self._log_file = folder / f"{module.rsplit('.', 1)[1]}.log"
        for each in workers:
            each.start()
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, arguments)],
                cwd=folder,
                env=build_environment(stack, more or {}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            _close(self._process.stdin)
        for each in self._workers:
            each.terminate()  # so that all end at the same time
        for each in self._workers:
            each.stop()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _close(self._process.stdout)
        # It checks at its end what the rounds made.
        if kind is None and self._process.returncode:
            raise RuntimeError(f"a side failed after its rounds:\n{self._read_ends()}")

    def run_round(self) -> tuple[float, Counter[str]]:
        """Prepare and run a round; return its seconds, and its processor seconds by kind of process."""
        for each in self._workers:
            each.thaw()
        self._send_command(PREPARE)
        before = read_processor_seconds()
        seconds = self._send_command(RUN)
        used = read_processor_seconds()
        used.subtract(before)
        for each in self._workers:
            each.freeze()
        return seconds, used

    def measure(self, count: int) -> Mapping[str, float]:
        """Run a round of `count` exports; return exports a second, and the processor milliseconds of one, by kind."""
        seconds, used = self.run_round()
        by_kind = {kind: spent / count * 1000 for kind, spent in used.items()}
        return {RATE: count / seconds, PROCESSOR: used.total() / count * 1000, **by_kind}

    def _send_command(self, word: str) -> float:
        if self._process.stdin is not None:
            self._process.stdin.write(word)
            self._process.stdin.flush()
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise RuntimeError(f"a side of the benchmark ended early:\n{self._read_ends()}")
        return float(line)

    def _read_ends(self) -> str:
        logs = [self._log_file, *(each.log_file for each in self._workers)]
        return "\n".join(line for log in logs for line in log.read_text(errors="replace").splitlines()[-15:])


def _close(stream: IO[str] | None) -> None:
    if stream is not None:
        stream.close()


def build_environment(stack: Stack, more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process on the stack, without a developer's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EXPORTS_")}
    return {**kept, "PYTHONPATH": str(ROOT), **stack.environment, **more}


def run_module(module: str, arguments: Sequence[object], stack: Stack, more: Mapping[str, str] | None = None) -> Any:
    """Run a module on the stack and return the JSON that it prints; raise RuntimeError with its log if it fails."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    ran = subprocess.run(command, env=build_environment(stack, more or {}), capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"{module} ended with {ran.returncode}\n{ran.stderr[-3000:]}")
    return json.loads(ran.stdout)
