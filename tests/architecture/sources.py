"""The source files that the architecture tests read."""

import ast
from collections.abc import Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE_FOLDERS = ("config", "pipeline", "tasks")

#: Migrations are not edited again, so their length does not matter.
HISTORY = "pipeline/ops/migrations/versions/"


def list_sources(*folders: str) -> list[Path]:
    found = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    assert len(found) >= len(folders), f"nothing to read in {folders}"
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def parse_source(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), name_of(path))


@cache
def find_calls(path: Path) -> Sequence[tuple[str, ast.Call]]:
    """Return every call in a file with the dotted name of the called function, as far as it has one."""
    return [(ast.unparse(node.func), node) for node in ast.walk(parse_source(path)) if isinstance(node, ast.Call)]


def locate(path: Path, node: ast.expr | ast.stmt) -> str:
    return f"{name_of(path)}:{node.lineno}"
