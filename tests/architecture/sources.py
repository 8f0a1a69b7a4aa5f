"""The source files that the architecture tests read. A file without the words of a rule is not parsed: that takes seconds."""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE_FOLDERS = ("config", "pipeline", "tasks")

#: Migrations are not edited again, so their length does not matter.
HISTORY = "pipeline/ops/migrations/versions/"


@cache
def list_sources(*folders: str) -> Sequence[Path]:
    found = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    assert len(found) >= len(folders), f"nothing to read in {folders}"
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def read_source(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def parse_source(path: Path) -> ast.Module:
    return ast.parse(read_source(path), name_of(path))


@cache
def list_nodes(path: Path) -> Sequence[ast.AST]:
    return [*ast.walk(parse_source(path))]


def find_calls(path: Path, names: Iterable[str]) -> Iterator[tuple[str, ast.Call]]:
    """Yield the calls whose function's last name is one of `names`, with its dotted name."""
    wanted = {*names}
    for node in list_nodes(path) if re.search(rf"\b({'|'.join(wanted)})\(", read_source(path)) else ():
        if isinstance(node, ast.Call) and (getattr(node.func, "id", "") or getattr(node.func, "attr", "")) in wanted:
            yield ast.unparse(node.func), node


def locate(path: Path, node: ast.expr | ast.stmt) -> str:
    return f"{name_of(path)}:{node.lineno}"
