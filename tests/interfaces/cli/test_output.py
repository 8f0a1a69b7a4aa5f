"""Tables, colours and progress, in terminals of every width and in pipes."""

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from pipeline.interfaces.cli.output import build_table
from tests.support.command_line import ROOT

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
