"""The code boxes of a Markdown page: parse them, run them as a reader would, compare shown and real output."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

FENCE: Final = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)

#: Values that differ in every run: ids, times, addresses, digests of files and of documents that contain such values.
VOLATILE: Final = (
    (re.compile(r"\b(exp|sub|cpk|art|cmd|req|pln)_[0-9a-z]{20,}"), r"\1_*"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "uuid"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"), "instant"),
    (re.compile(r"^\d{4}-\d\d-\d\d$"), "day"),  # the example plans carry the day of the run
    (re.compile(r"https?://[A-Za-z0-9.-]+(:\d+)?"), "address"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "digest"),
    (re.compile(r"\b00614141\d{10}\b|\b0061414100\d{8}\b"), "sscc"),
)

LEFT_OUT: Final = "..."

#: The title of a box whose program does not end.
KEEPS_RUNNING: Final = "keeps running"


@dataclass(frozen=True)
class Box:
    """A fenced block: its language, its first line, whether it keeps running, and the file that a reader saves it as."""

    language: str
    keeps_running: bool
    text: str
    line: int
    file: str | None = None

    @property
    def commands(self) -> str:
        """Return the commands that a reader types: the text without console prompts."""
        return re.sub(r"^\$ ", "", self.text, flags=re.MULTILINE) if self.language == "console" else self.text


def parse_boxes(page: str) -> list[Box]:
    """Return the boxes of a page in order; every fence of the page must be one."""
    found = [
        Box(
            match["info"].split()[0] if match["info"] else "",
            match["info"].endswith(f' title="{KEEPS_RUNNING}"'),
            match["text"],
            page.count("\n", 0, match.start()) + 1,
            named[1] if (named := re.fullmatch(r'\w+ title="(\S+\.\w+)"', match["info"])) else None,
        )
        for match in FENCE.finditer(page)
    ]
    assert 2 * len(found) == len(re.findall(r"^ *(```|~~~)", page, re.MULTILINE)), "a fence is not closed, or indented"
    return found


class PageReader:
    """A reader who runs a page's boxes in order, in one folder; variables that a shell exports stay for the next box."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *, path: str | None = None) -> None:
        """Find this environment's programs first, unless `path` is given."""
        self._folder = folder
        self._environment = {"HOME": str(folder), "LANG": "C.UTF-8", **environment}
        own_path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        self._environment["PATH"] = own_path if path is None else path
        self._exported = folder / "exported.sh"
        self._exported.touch()
        self._running: list[subprocess.Popen[bytes]] = []

    def save_box(self, box: Box) -> None:
        """Save the box as the file that the page names."""
        (self._folder / str(box.file)).write_text(box.text, encoding="utf-8")

    def run_box(self, box: Box, typed: str = "") -> str:
        """Run the box to its end, type lines into it, and return its output. Its exit status must be 0."""
        if box.language == "python":
            script = self._folder / f"box_{box.line}.py"
            script.write_text(box.text, encoding="utf-8")
            command = f". {self._exported}\nexec python {script}"
        else:
            command = f". {self._exported}\n{box.commands}\nexport -p | grep -v FAKETIME_SHARED > {self._exported}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self._folder,
            env=self._environment,
            input=typed,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"line {box.line} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start_box(self, box: Box) -> Path:
        """Start a box that keeps running; return the file with its output."""
        output = self._folder / f"box_{box.line}.log"
        with output.open("wb") as log:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", f". {self._exported}\n{box.commands}"],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._running.append(process)
        return output

    def stop(self, seconds: float) -> None:
        """Stop the running boxes; return when all have ended. Fail if one does not end in time."""
        for process in self._running:
            programs = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, signal.SIGTERM)
            _, alive = psutil.wait_procs(programs, seconds)
            for each in alive:
                each.kill()
            assert alive == []
            process.wait(seconds)

    def end(self) -> None:
        """Kill the running boxes, and the programs that they started in groups of their own, as honcho does."""
        for process in self._running:
            started: list[psutil.Process] = []
            with contextlib.suppress(psutil.NoSuchProcess):
                started = psutil.Process(process.pid).children(recursive=True)
            # The group id is the pid of our first process, so it cannot mean another's group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            for each in started:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            process.wait()


def find_differences(shown: str, actual: str) -> list[str]:
    """Return the differences between a page's output and the real output, without values that differ in every run."""
    try:
        real = json.loads(actual)
    except ValueError:
        expected, found = remove_volatile(shown).split("\n"), remove_volatile(actual).split("\n")
        return [] if expected == found else [f"shown {expected}, got {found}"]
    return list(_differences(json.loads(shown), real, "$"))


def remove_volatile(text: str) -> str:
    """Return the text without values that differ in every run."""
    for pattern, instead in VOLATILE:
        text = pattern.sub(instead, text)
    return text


def _differences(shown: Any, real: Any, at: str) -> Iterator[str]:
    match shown, real:
        case dict(), dict():
            if missing := shown.keys() - real.keys() - {LEFT_OUT}:
                yield f"{at} has no {sorted(missing)}"
            if LEFT_OUT not in shown and (more := real.keys() - shown.keys()):
                yield f"{at} has {sorted(more)} too"
            for name in shown.keys() & real.keys():
                yield from _differences(shown[name], real[name], f"{at}.{name}")
        case list(), list():
            open_end = shown[-1:] == [LEFT_OUT]
            wanted = shown[:-1] if open_end else shown
            if len(wanted) > len(real) or (not open_end and len(wanted) < len(real)):
                yield f"{at} has {len(real)} items"
            for number, (each, other) in enumerate(zip(wanted, real, strict=False)):
                yield from _differences(each, other, f"{at}[{number}]")
        case str(), str():
            if remove_volatile(shown) != remove_volatile(real):
                yield f"{at} is {real!r}, not {shown!r}"
        case _:
            if shown != real or type(shown) is not type(real):
                yield f"{at} is {real!r}, not {shown!r}"
