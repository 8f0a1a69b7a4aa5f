"""The actions at failpoints: each acts as set, in this process and in a child."""

import errno
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core.errors import DatabaseBusy
from pipeline.core.failpoints import failpoint, hooks
from tests.support.failpoints import FailpointError, arm, build_variables
from tests.support.interpreter import run_interpreter


@pytest.fixture(autouse=True)
def remove_hooks() -> Iterator[None]:
    """Remove the hooks of this process."""
    yield
    hooks.clear()


def test_raise_action_raises_an_unexpected_error(tmp_path: Path) -> None:
    arm("hand_off.mid=raise", tmp_path)
    failpoint("hand_off.before")
    with pytest.raises(FailpointError, match="hand_off"):
        failpoint("hand_off.mid")


def test_raise_db_action_raises_database_busy(tmp_path: Path) -> None:
    arm("hand_off.mid=raise_db", tmp_path)
    with pytest.raises(DatabaseBusy):
        failpoint("hand_off.mid")


def test_enospc_action_raises_a_full_disk_error(tmp_path: Path) -> None:
    arm("hand_off.mid=enospc", tmp_path)
    with pytest.raises(OSError, match="No space left") as full:
        failpoint("hand_off.mid")
    assert full.value.errno == errno.ENOSPC


def test_point_acts_as_often_as_set_across_processes(tmp_path: Path) -> None:
    for _ in range(2):  # like a restarted process
        arm("accept.mid=raise*2 accept.after=raise", tmp_path)
        with pytest.raises(FailpointError):
            failpoint("accept.mid")
    failpoint("accept.mid")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["accept.mid.1", "accept.mid.2"]


def test_arm_replaces_earlier_failpoints(tmp_path: Path) -> None:
    arm("accept.mid=raise", tmp_path)
    arm("accept.after=raise", tmp_path)
    failpoint("accept.mid")
    assert [*hooks] == ["accept.after"]


def test_sleep_action_delays(tmp_path: Path) -> None:
    arm("sweep.mid=sleep:50", tmp_path)
    began = time.monotonic()
    failpoint("sweep.mid")
    assert time.monotonic() - began >= 0.05


def test_barrier_waits_for_its_file(tmp_path: Path) -> None:
    arm(f"sweep.mid=barrier:{tmp_path / 'open'}", tmp_path / "marks")
    waiting = threading.Thread(target=failpoint, args=("sweep.mid",))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    (tmp_path / "open").touch()
    waiting.join(60)
    assert not waiting.is_alive()


#: What the fork server of the fault tests does in each child.
CHILD = """
from pipeline.core.failpoints import failpoint
from tests.support.failpoints import arm_from_environment
arm_from_environment()
failpoint("sweep.after")
failpoint("delivery.between")
print("alive")
"""


@pytest.mark.parametrize(("action", "status"), [("kill", -9), ("exit", 70)])
def test_kill_and_exit_actions_end_the_child(action: str, status: int, tmp_path: Path) -> None:
    ended = run_interpreter(CHILD, tmp_path, **build_variables(f"delivery.between={action}", tmp_path / "marks"))
    assert (ended.returncode, "alive" in ended.stdout) == (status, False)
    assert [path.name for path in (tmp_path / "marks").iterdir()] == ["delivery.between.1"]


def test_child_without_the_variables_goes_on(tmp_path: Path) -> None:
    assert run_interpreter(CHILD, tmp_path).stdout == "alive\n"


@pytest.mark.parametrize(("text", "error"), [("sweep.after=explode", "must be POINT=ACTION"), ("", "FOLDER")])
def test_child_with_malformed_or_missing_variables_fails(text: str, error: str, tmp_path: Path) -> None:
    folder = {"TEST_FAILPOINTS_FOLDER": str(tmp_path)} if text else {}
    ended = run_interpreter(CHILD, tmp_path, TEST_FAILPOINTS=text, **folder)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert error in ended.stderr


@pytest.mark.parametrize(
    "text", ["hand_off.mid", "hand_off.mid=explode", "sweep.mid=sleep", "sweep.mid=kill:1", "x=kill"]
)
def test_malformed_failpoint_is_refused(text: str, tmp_path: Path) -> None:
    for use in (arm, build_variables):
        with pytest.raises(ValueError, match="must be POINT=ACTION"):
            use(text, tmp_path)
