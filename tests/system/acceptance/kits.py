"""The consumer kits of examples/consumers, run as a partner would: each with its process, its output and its store."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.conftest import skip_or_fail
from tests.support.servers import poll

KITS = Path(__file__).resolve().parents[3] / "examples" / "consumers"
SECONDS = 120.0

NOT_ABOUT_EXPORTS = ("exports.connection.test.v1", "answered")


@dataclass
class Kit:
    """A kit and its store: `start`, `kill` like a power cut, `stop` politely. `lines` holds all its output."""

    program: str  # below examples/consumers
    arguments: tuple[str, ...]
    store: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    error_lines: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None
    _readers: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Start the kit; return when it says that it takes messages."""
        path = KITS / self.program
        ready = self.lines.count("ready")
        self.process = subprocess.Popen(
            [find_runtime(path), str(path), *self.arguments, "--store", str(self.store)],
            cwd=self.store.parent,
            env={"PATH": os.environ["PATH"], "HOME": str(self.store.parent), "LANG": "C.UTF-8", **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        outputs = ((self.process.stdout, self.lines), (self.process.stderr, self.error_lines))
        self._readers = [threading.Thread(target=_read, args=output, daemon=True) for output in outputs]
        for reader in self._readers:
            reader.start()
        self.wait_until(lambda: self.lines.count("ready") > ready, "the kit did not start")

    def wait_until(self, condition: Callable[[], bool], otherwise: str) -> None:
        """Return when the callable is true; fail with the kit's output if it is not in time, or if the kit ends."""
        process = self.running()

        def condition_holds() -> bool:
            if condition():
                return True
            assert process.poll() is None, f"{self.program} ended with {process.returncode}\n{self.output()}"
            return False

        try:
            poll(condition_holds, SECONDS, otherwise)
        except TimeoutError as error:
            raise AssertionError(f"{self.program}: {otherwise}\n{self.output()}") from error

    def running(self) -> subprocess.Popen[str]:
        """Return the process; RuntimeError if there is none."""
        if self.process is None:
            raise RuntimeError(f"{self.program} is not running")
        return self.process

    def kill(self) -> None:
        """Kill the kit: no handler runs, and it releases nothing."""
        self._wait_end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop the kit as its supervisor would; its exit status must be 0."""
        status = self._wait_end(signal.SIGTERM)
        assert status == 0, f"{self.program} ended with {status}\n{self.output()}"

    def freeze(self) -> None:
        """Stop the kit's work; it keeps the messages that it holds."""
        self.running().send_signal(signal.SIGSTOP)

    def output(self) -> str:
        """Return all output, to explain a failure."""
        return "\n".join(["--- printed", *self.lines[-30:], "--- complained", *self.error_lines[-30:]])

    def count_stored(self) -> Counter[str]:
        """Return the number of times each message about an export is in the store, by message id."""
        if self.store.suffix == ".jsonl":
            lines = self.store.read_text(encoding="utf-8").splitlines() if self.store.exists() else []
            found = [(entry["id"], entry["type"]) for entry in map(json.loads, lines)]
        else:
            with contextlib.closing(sqlite3.connect(self.store, timeout=10)) as store:
                found = store.execute("SELECT id, type FROM seen").fetchall()
        return Counter(name for name, kind in found if kind not in NOT_ABOUT_EXPORTS)

    def lines_with(self, *words: str) -> list[str]:
        """Return the lines that contain all of the words, in the order of printing."""
        return [line for line in self.lines if all(word in line for word in words)]

    def _wait_end(self, how: signal.Signals) -> int:
        process = self.running()
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)
        try:
            status = process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        for reader in self._readers:
            reader.join(5)
        self.process = None
        return status


@contextmanager
def kit(program: str, *arguments: str, folder: Path, **environment: str) -> Iterator[Kit]:
    """Yield a kit that does not run yet; it ends with the block."""
    store = folder / ("store.jsonl" if program.startswith("node/") else "store.db")
    made = Kit(program, arguments, store, environment)
    try:
        yield made
    finally:
        if made.process is not None:
            made.kill()


def find_runtime(program: Path) -> str:
    """Return the program's interpreter. If it is not installed, skip the test; in CI fail it."""
    if program.suffix == ".py":
        return sys.executable
    node = shutil.which("node")
    if node is None:
        skip_or_fail("Node.js is not installed; the Debian package is nodejs")
    if "amqplib" in program.read_text(encoding="utf-8") and not (program.parent / "node_modules" / "amqplib").is_dir():
        skip_or_fail("the packages of the Node.js kit are not installed; run `make kits`")
    return node


def _read(stream: IO[str], into: list[str]) -> None:
    with stream:
        for line in stream:
            into.append(line.rstrip("\n"))  # noqa: PERF401 - each line must be visible at once
