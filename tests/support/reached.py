"""Runs the tests that a change reaches by imports, the nearest first: `python -m tests.support.reached`, and pytest's options."""

import ast
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import grimp

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("config", "pipeline", "tasks")

#: The files that two processes finish in two minutes.
MOST_FILES: Final = 60

#: These tests start the whole service: `make system` runs them.
_SYSTEM: Final = "tests.system."


def list_changed(folder: Path) -> list[str]:
    """Return the files that differ from `origin/main`, with those not yet added; those of the last commit if none do."""
    new = _git(folder, "ls-files", "--others", "--exclude-standard")
    known = _git(folder, "for-each-ref", "--format=%(refname:short)", "refs/remotes/origin/main")
    changed = _git(folder, "diff", "--name-only", "--merge-base", "origin/main") if known else []
    return sorted({*changed, *new}) or _git(folder, "diff", "--name-only", "HEAD~1")


def _git(folder: Path, *words: str) -> list[str]:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.splitlines()


def name_module(path: Path) -> str:
    """Return the dotted name of a Python file of the project."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def find_file(module: str) -> Path:
    """Return the file of a module, but not of a package."""
    return Path(ROOT, *module.split(".")).with_suffix(".py")


def find_modules(changed: Iterable[str], sources: Mapping[str, str]) -> set[str]:
    """Return the modules of the changed files; for a file that is not Python, those that name it."""
    found = set()
    for each in changed:
        if each.endswith(".py"):
            found.add(name_module(ROOT / each))
        elif each.startswith(("templates/", "config/", "examples/", "clients/")):
            found |= {module for module, text in sources.items() if Path(each).name in text}
    return found


def read_sources() -> Mapping[str, str]:
    """Return the text of each module of the product and of the tests."""
    files = (path for top in (*PACKAGES, "tests") for path in (ROOT / top).rglob("*.py"))
    return {name_module(path): path.read_text(encoding="utf-8") for path in files}


def read_importers(sources: Mapping[str, str]) -> Mapping[str, set[str]]:
    """Return the modules that import each module; a test also belongs to the conftest of its folder and to its namesake."""
    importers: defaultdict[str, set[str]] = defaultdict(set)
    product = grimp.build_graph(*PACKAGES, cache_dir=None)
    for module in product.modules:
        importers[module] |= product.find_modules_that_directly_import(module)
    for module, text in sources.items():
        # The conftest of all tests imports the whole service.
        if module.startswith("tests.") and module != "tests.conftest":
            for name in [*_list_imports(text), module.rpartition(".")[0] + ".conftest", *_list_namesakes(module)]:
                importers[name].add(module)
    return importers


def _list_namesakes(module: str) -> Iterator[str]:
    """Yield the modules that tests.a.test_b_c may be about: pipeline.a.b and pipeline.a.b_c; commands are imported by name."""
    folder, _, name = module.partition(".")[2].rpartition(".")
    words = name.split("_")[1:]
    yield from (f"pipeline.{folder}.{'_'.join(words[: count + 1])}" for count in range(len(words)))


def _list_imports(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)


def find_reached(changed: Iterable[str], importers: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the test modules that import a changed module, those with the fewest modules between first."""
    distances = dict.fromkeys(sorted(changed), 0)
    queue = [*distances]
    for module in queue:  # it grows
        for importer in sorted(importers.get(module, ())):
            if importer not in distances:
                distances[importer] = distances[module] + 1
                queue.append(importer)
    is_test = [each for each in queue if each.rpartition(".")[2].startswith("test_")]
    return [each for each in is_test if not each.startswith(_SYSTEM)]


def main(options: Sequence[str]) -> None:
    """Run pytest on the reached files, in place of this process."""
    sources = read_sources()
    reached = find_reached(find_modules(list_changed(ROOT), sources), read_importers(sources))
    files = [path for each in reached if (path := find_file(each)).exists()]
    near = [path.relative_to(ROOT).as_posix() for path in files[:MOST_FILES]]
    print(f"The change reaches {len(files)} files of tests; these are the nearest {len(near)}.", flush=True)  # noqa: T201 - names the run that follows
    if near:
        os.execv(sys.executable, [sys.executable, "-m", "pytest", *options, *near])  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
