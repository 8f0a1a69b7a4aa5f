"""A fault is put into each place that can have one, and a test that needs the file sees it."""

import multiprocessing
from pathlib import Path

import pytest

from tests.support import mutants
from tests.support.mutants import Mutant, list_mutants, run_tests, sample

pytestmark = pytest.mark.system

SOURCE = '''
LIMIT = 3 if 1 == 1 else 4


def f(x: bool = True, y: int = 7):
    """Return 1 == 1."""
    if not x and y > LIMIT:
        log.info("it is 1", more=True)
        raise ValueError(f"{y == 2}" or 5)
    session.add(y)
    return select(A).where(A.x == x, A.y)
'''


def test_each_place_of_a_function_gets_its_fault() -> None:
    assert [(each.line, each.before, each.after) for each in list_mutants("f.py", SOURCE)] == [
        (7, "not x and y > LIMIT", "(not (not x and y > LIMIT))"),
        (7, "not x and y > LIMIT", "((not x) or (y > LIMIT))"),
        (7, "not x", "(x)"),
        (7, "y > LIMIT", "((y) >= (LIMIT))"),
        (10, "session.add(y)", "pass"),
        (11, "A.x == x", "*()"),
        (11, "A.y", "*()"),
        (11, "A.x == x", "((A.x) != (x))"),
    ]


def test_sample_is_of_all_packages_and_compiles() -> None:
    found = sample(40)
    assert {"/".join(each.path.split("/")[1:-1]) for each in found} >= set(mutants.PACKAGES)
    for each in found:
        compile(each.build_source(), each.path, "exec")


@pytest.mark.system
@pytest.mark.parametrize("seen", [True, False])
def test_fault_is_seen_by_a_test_that_needs_the_file(tmp_path: Path, *, seen: bool) -> None:
    mutant = Mutant("pipeline/core/bulkhead.py", 1, 0, "", "1 / 0\n" if seen else "\n")
    test = tmp_path / "test_it.py"
    test.write_text("from pipeline.core import bulkhead\ndef test_it(): assert bulkhead\n")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(run_tests, ((mutant, [str(test)]),)) == (mutant, seen)
