"""The progress of long commands: a bar in a terminal, a line at intervals elsewhere, always on standard error."""

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.interfaces.cli import output
from pipeline.interfaces.cli.output import show_progress
from tests.support.command_line import ROOT, Commands
from tests.support.tariff import REVISION_6

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def terminal(width: int = 80, **options: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, **options)  # type: ignore[arg-type]


def read(console: Console) -> str:
    return _CONTROL.sub("", console.file.getvalue())  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_bar_shows_count_total_and_rate(width: int) -> None:
    console = terminal(width)
    with show_progress("starting", console) as show:
        show("comparing exports, 2 damaged", 1, 4000)
        show("comparing exports, 3 damaged", 3999, 4000)
        show("comparing exports, 3 damaged", 4000, 4000)
    shown = read(console)
    assert "4,000/4,000" in shown or width < 80
    assert max(len(line) for line in re.split(r"[\r\n]", shown)) <= width
    if width >= 80:
        assert "comparing exports, 3 damaged" in shown
        assert re.search(r"/s", shown)


def test_text_is_not_read_as_markup() -> None:
    console = terminal()
    with show_progress("[bold]", console) as show:
        show("[red] of a file", 1, 2)
    assert "[red] of a file" in read(console)


def test_progress_without_a_total_has_no_bar() -> None:
    console = terminal()
    with show_progress("reading", console) as show:
        show("120 rows read")
    assert "/" not in read(console)


def test_lines_stand_above_the_bar() -> None:
    console = terminal()
    with show_progress("starting", console) as show:
        show("killing processes", 1, 2)
        console.print("kill -9 worker")
        show("killing processes", 2, 2)
    assert "kill -9 worker\n" in read(console)


@pytest.mark.parametrize("options", [{"force_terminal": False}, {"force_terminal": True, "no_color": True}], ids=str)
def test_lines_are_printed_at_intervals_without_a_terminal_or_colours(
    options: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(file=io.StringIO(), width=200, highlight=False, **options)  # type: ignore[arg-type]
    with show_progress("starting", console) as show:
        show("too early", 1, 2000)
        monkeypatch.setattr(output, "_LINE_INTERVAL_SECONDS", 0)
        show("comparing exports", 1000, 2000)
        show("3 messages")
    assert console.file.getvalue() == "comparing exports: 1,000 of 2,000\n3 messages\n"  # type: ignore[attr-defined]


def test_bar_of_an_import_is_on_standard_error_only(commands: Commands, tmp_path: Path) -> None:
    screen, terminal_end = pty.openpty()
    done = subprocess.Popen(
        [str(Path(sys.executable).with_name("exports")), "tariff", "import", str(REVISION_6), "--from", "2026-01-01"],
        env={**commands.environment, "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=terminal_end,
        text=True,
    )
    os.close(terminal_end)
    shown = b""
    while chunk := _read_chunk(screen):
        shown += chunk
    printed, _ = done.communicate(timeout=60)
    assert done.returncode == 0, shown
    assert printed.startswith("✓ ")
    assert "\x1b" not in printed
    text = _CONTROL.sub("", shown.decode())
    assert re.search(r"writing rows .* ([0-9,]+)/\1", text), text


def _read_chunk(screen: int) -> bytes:
    try:
        return os.read(screen, 1 << 16)
    except OSError:  # Linux: the other end was closed
        return b""
