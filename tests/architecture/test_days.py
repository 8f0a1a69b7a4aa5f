"""No test compares the day of the clock with a day that stands in it: such a test fails on another day."""

import ast
import re
from collections.abc import Iterable, Iterator

from tests.architecture.sources import list_sources, name_of, parse_source, read_source

_CLOCKS = re.compile(r"\b(datetime\.now|datetime\.today|date\.today|utc_now|time\.time)\b")
_DAY = re.compile(r"\b(date|datetime)\(20\d\d, |[\"']20\d\d-\d\d-\d\d\b")


def find_comparisons(tree: ast.Module) -> Iterator[int]:
    """Yield the line of each comparison of the clock with a written day, both also by a name that holds one."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            assigned = [each for each in [*tree.body, *ast.walk(function)] if isinstance(each, ast.Assign)]
            clocks, days = _find_names(assigned, _CLOCKS), _find_names(assigned, _DAY)
            for node in ast.walk(function):
                if not isinstance(node, ast.Compare):
                    continue
                sides = [node.left, *node.comparators]
                if any(_has(each, _CLOCKS, clocks) for each in sides) and any(_has(each, _DAY, days) for each in sides):
                    yield node.lineno


def _find_names(assigned: Iterable[ast.Assign], pattern: re.Pattern[str]) -> set[str]:
    targets = (target for each in assigned if _has(each.value, pattern, set()) for target in each.targets)
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _has(side: ast.AST, pattern: re.Pattern[str], names: set[str]) -> bool:
    if pattern.search(ast.unparse(side)):
        return True
    return any(isinstance(node, ast.Name) and node.id in names for node in ast.walk(side))


def test_no_test_compares_the_clock_with_a_written_day() -> None:
    files = [path for path in list_sources("tests") if _CLOCKS.search(read_source(path)) and path.stem != "test_days"]
    found = [f"{name_of(path)}:{line}" for path in files for line in find_comparisons(parse_source(path))]
    assert not found, f"write the day as one after the clock's, or give the code a clock of the test: {found}"


def test_planted_comparison_is_found() -> None:
    planted = """
END = date(2026, 12, 31)
def test_today():
    today = utc_now().date()
    assert today == date(2026, 12, 7)
    assert today < END
    assert datetime.now(UTC).isoformat() > "2026-12-07"
    assert workflow.clock().date() == date(2026, 12, 7)
"""
    assert [*find_comparisons(ast.parse(planted))] == [5, 6, 7]
