"""The layout rules of docs/architecture.md: sizes and names of files, names of classes, and where tests stand."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.sources import ROOT, list_nodes, list_sources, name_of, parse_source, read_source
from tests.architecture.words import RETIRED_WORDS

#: Packages whose `__init__` may define names: what users of the client import.
PUBLIC_PACKAGES = {"pipeline/client/__init__.py"}

#: Words of the business that core may use, and why.
BUSINESS_WORDS = re.compile(r"export|partner|deliver|customs", re.IGNORECASE)
CORE_EXCEPTIONS = {
    "pipeline/core/errors.py": "one class a code of the HTTP contract",
    "pipeline/core/tracing_sdk.py": "OpenTelemetry calls what sends spans an exporter",
    "pipeline/core/memory_transport.py": "the words of kombu for a message",
    "pipeline/core/redis_transport.py": "the words of kombu for a message",
}


def read_words(identifier: str) -> list[str]:
    """Return the words of a name in snake or camel case, in lower case."""
    return re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", identifier).lower())


def list_names(path: Path) -> Iterator[str]:
    """Yield the names of all functions, classes and parameters of a file."""
    for node in list_nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg


def test_package_init_defines_and_imports_nothing() -> None:
    defining = {
        name_of(path)
        for path in list_sources("pipeline", "tasks")
        if path.name == "__init__.py" and len(parse_source(path).body) > 1
    }
    assert defining == PUBLIC_PACKAGES


def test_core_names_nothing_of_the_business() -> None:
    naming = set()
    for path in list_sources("pipeline/core"):
        for node in list_nodes(path):
            names = [getattr(node, part, None) for part in ("id", "attr", "name", "arg")]
            if any(isinstance(name, str) and BUSINESS_WORDS.search(name) for name in names):
                naming.add(name_of(path))
    assert naming == CORE_EXCEPTIONS.keys(), naming ^ CORE_EXCEPTIONS.keys()


def test_no_name_has_a_private_word() -> None:
    found = {
        f"{name_of(path)}: {name}"
        for path in list_sources("config", "pipeline", "tasks")
        if RETIRED_WORDS & {word for name in {*re.findall(r"\w+", read_source(path))} for word in read_words(name)}
        for name in list_names(path)
        if RETIRED_WORDS & {*read_words(name)}
    }
    assert found == set()
    assert read_words("wakeLanes_told") == ["wake", "lanes", "told"]


def test_no_two_classes_have_one_name() -> None:
    text = "".join(map(read_source, list_sources("pipeline")))
    assert [name for name, found in Counter(re.findall(r"^class (\w+)", text, re.MULTILINE)).items() if found > 1] == []


def test_tests_stand_where_their_module_stands() -> None:
    """A test file's name starts with the name of its module, or of its package if it is about all of it."""
    misplaced = []
    for path in list_sources("tests"):
        place = path.relative_to(ROOT / "tests")
        if not path.name.startswith("test_") or place.parts[0] in {"architecture", "support", "system"}:
            continue
        folder = ROOT / ("" if place.parts[0] in {"config", "tasks"} else "pipeline") / place.parent
        words = path.stem.removeprefix("test_").split("_")
        starts = ["_".join(words[:count]) for count in range(1, len(words) + 1)]
        if not any((folder / f"{start}.py").exists() or (folder / start).is_dir() for start in starts) and (
            folder.name not in starts
        ):
            misplaced.append(place.as_posix())
    assert misplaced == []
