"""The boxes of a Markdown page: what each holds, running it as a reader would, and comparing what it shows with what came."""

from __future__ import annotations

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

#: What is another one in every run: ids, instants, addresses, digests of files and of documents that hold such.
VOLATILE: Final = (
    (re.compile(r"\b(exp|sub|cpk|art|cmd|req|pln)_[0-9a-z]{20,}"), r"\1_*"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "uuid"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"), "instant"),
    (re.compile(r"^\d{4}-\d\d-\d\d$"), "day"),  # the example plans are dated by the day of the run
    (re.compile(r"https?://[A-Za-z0-9.-]+(:\d+)?"), "address"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "digest"),
    (re.compile(r"\b00614141\d{10}\b|\b0061414100\d{8}\b"), "sscc"),
)

LEFT_OUT: Final = "..."


@dataclass(frozen=True)
class Box:
    """A fenced block: its language, whether it keeps running, and where it begins."""

    language: str
    keeps_running: bool
    text: str
    line: int

    @property
    def commands(self) -> str:
        """What is typed: the text, without the prompts of a console."""
        return re.sub(r"^\$ ", "", self.text, flags=re.MULTILINE) if self.language == "console" else self.text


def parse_boxes(page: str) -> list[Box]:
    """Return the boxes of a page in their order; every fence of it must be one."""
    found = [
        Box(
            match["info"].split()[0] if match["info"] else "",
            match["info"].endswith(" keeps running"),
            match["text"],
            page.count("\n", 0, match.start()) + 1,
        )
        for match in FENCE.finditer(page)
    ]
    assert 2 * len(found) == len(re.findall(r"^ *(```|~~~)", page, re.MULTILINE)), "a fence is not closed, or indented"
    return found


class PageReader:
    """Somebody who does what a page says, box by box, in one folder: what a shell exports, the next box finds."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *, path: str | None = None) -> None:
        """The programs of this environment are found first, unless another `path` is given."""
        self._folder = folder
        self._environment = {"HOME": str(folder), "LANG": "C.UTF-8", **environment}
        ours = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        self._environment["PATH"] = ours if path is None else path
        self._exported = folder / "exported.sh"
        self._exported.touch()
        self._running: list[subprocess.Popen[bytes]] = []

    def run_box(self, box: Box) -> str:
        """Run the box to its end; return what it printed. It has to end well."""
        if box.language == "python":
            script = self._folder / f"box_{box.line}.py"
            script.write_text(box.text, encoding="utf-8")
            command = f". {self._exported}\nexec python {script}"
        else:
            command = f". {self._exported}\n{box.commands}\nexport -p > {self._exported}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"line {box.line} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start_box(self, box: Box) -> Path:
        """Begin a box that keeps running; return the file that its output goes to."""
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
        """Tell what keeps running to end, and return once all of it has ended; fails if some of it has not in time."""
        for process in self._running:
            programs = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, signal.SIGTERM)
            _, alive = psutil.wait_procs(programs, seconds)
            for each in alive:
                each.kill()
            assert alive == []
            process.wait(seconds)

    def end(self) -> None:
        """End what keeps running."""
        for process in self._running:
            # The group has the number of its first process, which was ours: nobody else's can be meant.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def find_differences(shown: str, actual: str) -> list[str]:
    """Return where what a page shows is not what came, but for what is another in every run."""
    try:
        real = json.loads(actual)
    except ValueError:
        expected, found = remove_volatile(shown).split("\n"), remove_volatile(actual).split("\n")
        return [] if expected == found else [f"shown {expected}, came {found}"]
    return list(_differences(json.loads(shown), real, "$"))


def remove_volatile(text: str) -> str:
    """Return the text without what is another in every run."""
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
