"""Failpoints: one before, in and after every important action. The product only calls them."""

import ast
import re
import timeit
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pipeline.core.failpoints import failpoint, hooks
from pipeline.workflow.steps import STEPS
from tests.architecture.sources import SOURCE_FOLDERS, list_nodes, list_sources, name_of, read_source
from tests.system.faults.points import MOMENTS, POINTS, find_points

CALL: Final = "pipeline.core.failpoints.failpoint"


def test_every_step_has_a_point_before_in_and_after() -> None:
    called = {point for point, _ in find_points()}
    assert {f"{spec.name}.{moment}" for spec in STEPS for moment in MOMENTS} <= called


def test_every_failpoint_has_a_crash_test() -> None:
    assert Counter(point for point, _ in find_points()) == Counter(POINTS)


def test_product_uses_only_the_failpoint_call() -> None:
    """No product code sets a hook or imports a test."""
    odd = [
        (name_of(path), name)
        for path in list_sources(*SOURCE_FOLDERS)
        if re.search(r"import.*(tests|pytest|failpoints)|from .*(tests|pytest|failpoints)", read_source(path))
        for name in list_imports(path)
        if name.split(".")[0] in {"tests", "pytest"} or ("failpoints" in name and name != CALL)
    ]
    assert odd == []


def list_imports(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports."""
    for node in list_nodes(path):
        if isinstance(node, ast.Import | ast.ImportFrom):
            prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            yield from (prefix + each.name for each in node.names)


def test_point_without_a_hook_costs_little() -> None:
    assert hooks == {}
    rounds = 20_000
    assert min(timeit.repeat(lambda: failpoint("hand_off.mid"), number=rounds, repeat=5)) / rounds < 2e-6
