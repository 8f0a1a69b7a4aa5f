"""The matrix equals the tests: no row without a test, no test without a row, and each row runs every day."""

import ast
import re
from pathlib import Path

import pytest

from tests.support.doc_tables import read_yaml
from tests.system.faults import points
from tests.system.faults.matrix import STACKS, fault, list_rows
from tests.system.faults.points import ACT_POINTS, POINTS
from tests.system.faults.test_crashes import WORKER_POINTS

TESTS = Path(__file__).parents[2]
#: The number of faults; their numbers have no gap.
ROWS = 42
MATRIX = read_yaml("tests/system/faults/faults.yaml")


def test_rows_of_the_matrix_are_those_of_the_tests() -> None:
    rows = [row for first in MATRIX for row in first.split(", ")]
    assert rows == [f"F{number}" for number in range(1, ROWS + 1)]
    assert {*rows} == {row for row, _ in list_rows(TESTS)}


def test_every_row_runs_every_day() -> None:
    """A fault that runs only in the long form could be broken for weeks without notice."""
    rows = {f"F{number}" for number in range(1, ROWS + 1)}
    assert rows - {row for row, _ in list_rows(TESTS, everyday=True)} == set()


def test_long_tests_do_not_count_as_everyday(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(
        """
@fault("F1", everyday=(), long=STACKS)
def test_a(): ...
@mark_own_stack("F2")
@pytest.mark.long
def test_b(): ...
@fault("F3", "F4", everyday=(REDIS,))
def test_c(): ...
@fault("F5")
def test_d(): ...
@mark_own_stack("F6")
@pytest.mark.timeout(9)
def test_e(): ...
"""
    )
    assert {row for row, _ in list_rows(tmp_path)} == {f"F{number}" for number in range(1, 7)}
    assert {row for row, _ in list_rows(tmp_path, everyday=True)} == {"F3", "F4", "F5", "F6"}


def test_files_named_by_a_row_have_a_test_of_it() -> None:
    shows = {(row, test.split("::", 1)[0]) for row, test in list_rows(TESTS)}
    named = 0
    for rows, words in MATRIX.items():
        for file in re.findall(r"test_\w+\.py", words):
            named += 1
            assert any((row, file) in shows for row in rows.split(", ")), (rows, file)
    assert named > 10


def test_every_failpoint_is_in_a_crash_test() -> None:
    files = (Path(__file__).parent / name for name in ("test_crashes.py", "test_crashes_way_back.py"))
    named = {node.id for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Name)}
    parts = {"STEP_POINTS", "DELIVERY_POINTS", "SWEEP_POINTS", "ACT_POINTS"}
    acts = {each for each in vars(points) if each.endswith("_POINTS") and each not in parts}
    assert {*acts, "WORKER_POINTS"} <= named
    assert {point for name in acts for point in getattr(points, name)} == set(ACT_POINTS)
    assert {*WORKER_POINTS, *ACT_POINTS} == set(POINTS)


def test_number_of_failpoints_equals_the_document() -> None:
    assert f"each of its {len(WORKER_POINTS)} failpoints" in MATRIX["F1"]


def test_fault_needs_a_row_and_marks_long_stacks() -> None:
    with pytest.raises(ValueError, match="row"):
        fault()

    @fault("F1", everyday=STACKS[:1], long=STACKS[1:])
    def show() -> None:
        """Show nothing."""

    mark, rows = show.pytestmark  # type: ignore[attr-defined]
    assert (rows.name, rows.args) == ("rows", ("F1",))
    assert [param.values[0] for param in mark.args[1]] == [*STACKS]
    assert [any(each.name == "long" for each in param.marks) for param in mark.args[1]] == [False, True, True]
