"""Leftovers of a program are found: a child that outlives it, and a zombie that it does not wait for."""

import subprocess
import sys

import pytest

from tests.support.servers import poll
from tests.system.faults import processes

#: Each prints the id of its child, and ends on command.
LEAVES_A_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=0)
print(child.pid, flush=True)
"""
LEAVES_A_ZOMBIE = """
import os
if not (child := os.fork()):
    os._exit(0)
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
print(child, flush=True)
input()
os.waitpid(child, 0)
print("reaped", flush=True)
input()
"""


def start_program(program: str) -> tuple[subprocess.Popen[str], int]:
    """Start a program in a session of its own; return it and the number of its child."""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give processes no time to end."""
    monkeypatch.setattr(processes, "_PATIENCE_SECONDS", 0.2)


def test_zombie_is_left_over() -> None:
    parent, child = start_program(LEAVES_A_ZOMBIE)
    with parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        living = {parent.pid}
        assert processes.find_left((), living) == [f"{child} is a zombie; {parent.pid} does not wait for it"]
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "reaped\n"
        assert processes.find_left((), living) == []


def test_child_that_outlives_its_program_is_left_over() -> None:
    parent, child = start_program(LEAVES_A_CHILD)
    with parent:
        assert parent.wait(30) == 0
        (found,) = processes.find_left({parent.pid}, ())
        assert found.startswith(f"{child} ")
        assert parent.stdin is not None
        parent.stdin.close()
        poll(lambda: processes.find_left({parent.pid}, ()) == [], 30, "the child is still reported")
