"""Tables, colours and progress, in terminals of every width and in pipes."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from pipeline.interfaces.cli import output
from pipeline.interfaces.cli.output import build_table, show_progress
from tests.support.command_line import ROOT, Commands
from tests.support.tariff import REVISION_6

COLUMNS = ("batch", "outcome", "customs broker", "export")
ID = "exp_01m8jq482y784njq8d9x4hfvbr"
ROWS: list[tuple[str | Text, ...]] = [
    ("batch_20261129_035604_642655", Text("✓ executed, accepted", "green"), "br_sandbox", ID),
    ("b", "rejected", "", ID),
]


def render(
    width: int, *, columns: tuple[str, ...] = COLUMNS, rows: list[tuple[str | Text, ...]] | None = None
) -> list[str]:
    """Return the lines of a table in a terminal of that width."""
    console = Console(file=io.StringIO(), width=width)
    console.print(build_table(columns, ROWS if rows is None else rows))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_wide_table_has_one_line_a_row() -> None:
    head, first, second = render(120)
    assert head.split("  ")[0] == "batch"
    assert first.endswith(ID)
    assert second.endswith(ID)


def test_narrow_table_shows_the_last_columns_below() -> None:
    assert render(80) == [
        "batch                         outcome               customs broker",
        "batch_20261129_035604_642655  ✓ executed, accepted  br_sandbox",
        f"  export {ID}",
        "b                             rejected",
        f"  export {ID}",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_no_word_is_broken_and_nothing_is_lost(width: int) -> None:
    lines = render(width)
    assert max(map(cell_len, lines)) <= width
    shown = " ".join(lines)
    for row in ROWS:
        for cell in row:
            assert str(cell) in shown


def test_prose_is_broken_between_words() -> None:
    prose = "The customs broker has not answered before its deadline, so that a person must ask it for the reason."
    lines = render(80, columns=("export", "why"), rows=[(ID, prose)])
    assert max(map(cell_len, lines)) <= 80
    assert [word for line in lines[1:] for word in line.split()][1:] == prose.split()


@pytest.mark.parametrize("columns", [COLUMNS, ("", "profile")])
def test_empty_table_says_none(columns: tuple[str, ...]) -> None:
    assert render(80, columns=columns, rows=[]) == ["none"]


def test_column_without_a_word_takes_no_room() -> None:
    assert render(80, columns=("", "profile"), rows=[("", "default")]) == ["  profile", "  default"]


def run_in_terminal(*arguments: str, **environment: str) -> str:
    """Return what `exports` writes to a terminal of 80 columns."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [str(Path(sys.executable).with_name("exports")), *arguments]
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **environment}
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment) as process:
        os.close(follower)
        written = b""
        while True:
            try:
                written += (part := os.read(leader, 65_536))
            except OSError:  # the other end is closed
                break
            if not part:
                break
    os.close(leader)
    assert process.returncode == 0, written.decode()
    return written.decode()


@pytest.mark.system
def test_no_color_means_no_colour() -> None:
    colour = "\x1b[3"
    assert colour in run_in_terminal("rules", "check")
    assert colour not in run_in_terminal("rules", "check", NO_COLOR="1")


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


@pytest.mark.system
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
