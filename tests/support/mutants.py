"""Runs the nearest tests against small faults in the product: `python -m tests.support.mutants SHARE`.

One place in SHARE gets a fault: a swapped comparison or connective, a wrong number, a negated condition, a dropped call,
or a dropped condition of a query. The sample depends only on the text of each place, so a change elsewhere keeps it.
"""

import ast
import contextlib
import hashlib
import importlib
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from itertools import accumulate
from pathlib import Path
from types import CodeType
from typing import Final

import pytest

from tests.support.on_day import restart_on_stated_day
from tests.support.reached import ROOT, find_file, find_reached, name_module, read_importers, read_sources

PACKAGES: Final = ("accounts", "orders", "workflow", "deliveries", "customs/checks", "exports")

#: Of all mutants, these must fail a test.
KILLED_SHARE: Final = 0.9
_MOST_FILES: Final = 15
_SECONDS: Final = 240
_SWAPPED: Final[dict[type[ast.cmpop], str]] = {
    ast.Eq: "!=", ast.NotEq: "==", ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip

#: Imported once, before the processes are forked. They read nothing of the project.
_LIBRARIES: Final = "alembic celery fastapi httpx hypothesis jinja2 kombu rich sqlmodel typer".split()


@dataclass(frozen=True)
class Mutant:
    """A fault: the place, and its text before and after. `start` counts bytes from the start of the file."""

    path: str
    line: int
    start: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before!r} -> {self.after!r}"

    def build_source(self) -> str:
        """Return the file with the fault."""
        text = Path(ROOT, self.path).read_bytes()
        return (text[: self.start] + self.after.encode() + text[self.start + len(self.before.encode()) :]).decode()


def list_mutants(path: str, source: str) -> Iterator[Mutant]:
    """Yield each fault that the functions of a file can get."""
    text = _Source(source)
    read = text.read

    def mutate(node: ast.expr | ast.stmt, after: str) -> Mutant:
        return Mutant(path, node.lineno, text.locate(node), read(node), after)

    functions = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))
    bodies = {id(node): node for function in functions for statement in function.body for node in _walk(statement)}
    for node in bodies.values():
        match node:
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                yield mutate(node, f"(({read(left)}) {_SWAPPED[type(op)]} ({read(right)}))")
            case ast.BoolOp(op=op, values=[*values]):
                word = " or " if isinstance(op, ast.And) else " and "
                yield mutate(node, "(" + word.join(f"({read(each)})" for each in values) + ")")
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                yield mutate(node, f"({read(operand)})")
            case ast.If(test=test) | ast.IfExp(test=test):
                yield mutate(test, f"(not ({read(test)}))")
            case ast.Constant(value=bool(value)):
                yield mutate(node, str(not value))
            case ast.Constant(value=int(value)):
                yield mutate(node, str(value + 1))
            case ast.Expr(value=ast.Call()):
                yield mutate(node, "pass")
            case ast.Call(func=ast.Name(id="and_") | ast.Attribute(attr="where"), args=[_, _, *_] as given):
                for dropped in given:
                    yield mutate(dropped, "*()")


class _Source:
    """The text of a file; `ast.get_source_segment` splits it for each node."""

    def __init__(self, text: str) -> None:
        self._text = text.encode()
        self._starts = [0, *accumulate(map(len, self._text.splitlines(keepends=True)))]

    def locate(self, node: ast.expr | ast.stmt) -> int:
        return self._starts[node.lineno - 1] + node.col_offset

    def read(self, node: ast.expr | ast.stmt) -> str:
        end = self._starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        return self._text[self.locate(node) : end].decode()


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    # No test must see a line of the log, and errors have tests of their texts. Python 3.11 knows no places in an f-string.
    is_log = isinstance(node, ast.Expr) and ast.unparse(node).startswith("log.")
    if is_log or isinstance(node, ast.Raise | ast.FunctionDef | ast.JoinedStr):
        return
    yield node
    for name, child in ast.iter_fields(node):
        for each in child if isinstance(child, list) else [child]:
            if isinstance(each, ast.AST) and name not in {"annotation", "returns"}:
                yield from _walk(each)


def sample(share: int) -> list[Mutant]:
    """Return one in `share` of the mutants of all packages."""
    files = sorted(path for package in PACKAGES for path in (ROOT / "pipeline" / package).rglob("*.py"))
    chosen = []
    for path in files:
        source = path.read_text(encoding="utf-8")
        lines = source.splitlines()
        seen: Counter[str] = Counter()
        for mutant in list_mutants(path.relative_to(ROOT).as_posix(), source):
            text = f"{mutant.path} {lines[mutant.line - 1].strip()} {mutant.before} {mutant.after}"
            seen[text] += 1
            digest = hashlib.sha256(f"{text} {seen[text]}".encode()).digest()
            if int.from_bytes(digest[:8], "big") % share == 0:
                chosen.append(mutant)
    return chosen


def run_tests(task: tuple[Mutant, list[str]]) -> tuple[Mutant, bool]:
    """Return the mutant and whether a test fails with it. Runs in a process of its own, in which the file has the fault."""
    mutant, files = task
    load: Callable[[SourceFileLoader, str], CodeType | None] = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
        if Path(self.path) == ROOT / mutant.path:
            return compile(mutant.build_source(), self.path, "exec")
        return load(self, fullname)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]
    os.environ.pop("PYTEST_ADDOPTS", None)  # an option of a plugin that is off is an error
    quietly = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quietly, 1)
    os.dup2(quietly, 2)
    marks = "not (system or pages or servers or databases or twins)"
    options = ["-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", f"--timeout={_SECONDS}", "-m", marks]
    options += ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    with contextlib.suppress(SystemExit):
        return mutant, pytest.main([*options, *files]) not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    return mutant, True


def main(share: int) -> int:
    """Print each mutant that no test sees; return 1 if these are too many."""
    sources = read_sources()
    importers = read_importers(sources)
    tasks = []
    for mutant in sample(share):
        reached = find_reached([name_module(ROOT / mutant.path)], importers)
        tasks.append((mutant, [str(find_file(each)) for each in reached[:_MOST_FILES]]))
    for name in _LIBRARIES:
        importlib.import_module(name)
    killed = 0
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        faultless = Mutant(tasks[0][0].path, 1, 0, "", "")
        if pool.apply(run_tests, ((faultless, tasks[0][1]),))[1]:
            print("the tests fail without a fault, so they prove nothing: run `make test`")  # noqa: T201 - the result
            return 1
        for mutant, seen in pool.imap(run_tests, tasks):
            killed += seen
            if not seen:
                print(f"no test sees {mutant}", flush=True)  # noqa: T201 - the result
    print(f"{killed} of {len(tasks)} mutants fail a test")  # noqa: T201 - the result
    return int(killed < KILLED_SHARE * len(tasks))


if __name__ == "__main__":
    restart_on_stated_day("tests.support.mutants", *sys.argv[1:])
    sys.exit(main(int(sys.argv[1])))
