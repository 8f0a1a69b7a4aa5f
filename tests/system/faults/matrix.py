"""The stacks of each fault: `fault` names the row of README.md that a test shows."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal, TypeVar

import pytest

from tests.conftest import SERVERS

F = TypeVar("F", bound=Callable[..., None])

EMBEDDED: Final = "sqlite-memory"
REDIS: Final = "postgres-redis"
RABBITMQ: Final = "postgres-rabbitmq"
STACKS: Final = (EMBEDDED, REDIS, RABBITMQ)
SERVED: Final = (REDIS, RABBITMQ)


def fault(
    *rows: str, everyday: tuple[str, ...] = STACKS, long: tuple[str, ...] = (), on: str = "site"
) -> Callable[[F], F]:
    """Run a test every day on some stacks and in the long form also on others; `rows` are rows of the matrix.

    `on` is the fixture of the stack: a shared one, or the test's own, `own_site` or `durable_site`.
    """
    if not rows:
        raise ValueError("`rows` must name at least one row of the matrix")
    stacks = [stack for stack in STACKS if stack in {*everyday, *long}]
    params = [
        pytest.param(
            stack,
            marks=[*((SERVERS,) if stack != EMBEDDED else ()), *(() if stack in everyday else (pytest.mark.long,))],
        )
        for stack in stacks
    ]

    def mark(test: F) -> F:
        scope: Literal["session", "function"] = "session" if on == "site" else "function"
        marked: F = pytest.mark.parametrize(on, params, indirect=True, scope=scope)(test)
        return mark_own_stack(*rows)(marked)

    return mark


def mark_own_stack(*rows: str) -> Callable[[F], F]:
    """Name the rows of a test that makes its own surroundings."""
    if not rows:
        raise ValueError("`rows` must name at least one row of the matrix")

    def mark(test: F) -> F:
        marked: F = pytest.mark.rows(*rows)(test)
        return marked

    return mark


def read_rows(test: pytest.Item) -> tuple[str, ...]:
    """Return the rows that a test shows."""
    mark = test.get_closest_marker("rows")
    return () if mark is None else mark.args


def list_rows(folder: Path, *, everyday: bool = False) -> Iterator[tuple[str, str]]:
    """Yield every row that a test below the folder shows, with the test; `everyday`: only if it runs each day."""
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef) or (everyday and _is_long(node)):
                continue
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) in {"fault", "mark_own_stack"}:
                    for row in decorator.args:
                        yield ast.literal_eval(row), f"{path.name}::{node.name}"


def _is_long(test: ast.FunctionDef) -> bool:
    """Return whether all cases of a test wait for the long form."""
    for decorator in test.decorator_list:
        if ast.unparse(decorator) == "pytest.mark.long":
            return True
        for keyword in decorator.keywords if isinstance(decorator, ast.Call) else ():
            if keyword.arg == "everyday" and ast.unparse(keyword.value) == "()":
                return True
    return False
