"""The layout rules of docs/architecture.md: sizes and names of files, names of classes, and where tests stand."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.sources import HISTORY, ROOT, list_sources, name_of, parse_source
from tests.architecture.words import RETIRED_WORDS

GLOSSARY = ROOT / "docs" / "glossary.md"

#: Files below 40 lines, each with the reason for a file of its own.
SHORT_FILES = {
    "pipeline/client/files.py": "the client works without the rest of the service",
    "pipeline/core/clock.py": "the one clock; db.py would load it with the database libraries",
    "pipeline/core/failpoints.py": "a hook that every layer calls",
    "pipeline/core/fonts.py": "customs and documents, which do not import each other, ask what can be printed",
    "pipeline/core/shutdown.py": "a flag that every layer reads",
    "pipeline/exports/schemas/filters.py": "the API and the queries read it, and export.py has its own length",
    "pipeline/core/startup.py": "main.py loads it before anything else",
    "pipeline/core/tenancy.py": "a context variable that every layer reads",
    "pipeline/deliveries/streams/retry_policy.py": "the retry schedule has one place",
    "pipeline/documents/formats/barcode.py": "the packing list and the package labels draw it",
    "pipeline/interfaces/api/audit.py": "each group of calls has its file",
    "pipeline/interfaces/api/stats.py": "each group of calls has its file",
    "pipeline/interfaces/api/tariff.py": "each group of calls has its file",
    "pipeline/interfaces/durations.py": "pages and terminals show them",
    "pipeline/interfaces/handoff_units.py": "the portal and the page of a reply link show the same table",
    "pipeline/ops/stats/durations.py": "the rollup and its readers share the bins",
    "pipeline/interfaces/pages/instants.py": "views of every page show them",
    "pipeline/interfaces/api/remedies.py": "texts of the error codes, for people who change only texts",
    "pipeline/interfaces/console/work/home.py": "the first page has its file",
    "pipeline/interfaces/contracts/examples/catalog.py": "an __init__ defines nothing",
    "pipeline/interfaces/cli/secrets.py": "one file a command",
    "tasks/deliveries.py": "one file a kind of task",
    "tasks/steps.py": "one file a kind of task",
}

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

#: Words of module names beside the glossary's: those that recur in each package, the field's and the trade's.
STANDARD_WORDS = frozenset(
    """
    app base builder cache catalog client compare consumer context db demo dependencies diff dispatch env environment examples
    cells facts failures field folder fonts forms headers history http init input interventions json judge loader main methods metrics
    middleware model models outbound output overview parameters parsers people policy processes probe projections protocol
    publisher queries read reader readers reference registry remedies render repair replies replay report repository runner runtime samples schema
    schemas filters saved secrets sender server session settings shutdown sign signature startup store system templating tenancy text trace transport upload validation
    values verifier verify view views watchdog worksheet
    api asyncapi blob cloudevent encryption openapi safety semaphore fair single flight smtp ssh svg xlsx ubl
    archive assets attachments backup blocks body citations counts durability durations event gantt heartbeats home live pages picture pictures plots previews rollup stats inbox polling raw
    guessing own 232 chapter99 characters consolidation declarations goods layouts money packing pga profile sandbox section section232
    sdk spans tracing
    chapter98 fields conditions list lists parties usmca wording certification certifications
    listener login profiles
    x12 catair notice message universal shipment
    cover paps sheet
    valuation
    cases consignees deposits domains filing
    """.split()
)


def read_words(identifier: str) -> list[str]:
    """Return the words of a name in snake or camel case, in lower case."""
    return re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", identifier).lower())


def read_glossary_words() -> set[str]:
    words = set(re.findall(r"[a-z0-9]+", GLOSSARY.read_text(encoding="utf-8").lower()))
    assert len(words) > 200, "the glossary is empty"
    return words | {word + "s" for word in words} | {word[:-1] for word in words if word.endswith("s")}


def list_names(path: Path) -> Iterator[str]:
    """Yield the names of all functions, classes and parameters of a file."""
    for node in ast.walk(parse_source(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg


def test_files_below_40_lines_have_a_reason() -> None:
    short = {
        name_of(path)
        for path in list_sources("pipeline", "tasks")
        if path.name != "__init__.py" and not name_of(path).startswith(HISTORY)
        if path.read_text(encoding="utf-8").count("\n") < 40
    }
    assert short == SHORT_FILES.keys(), short ^ SHORT_FILES.keys()


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
        for node in ast.walk(parse_source(path)):
            names = [getattr(node, part, None) for part in ("id", "attr", "name", "arg")]
            if any(isinstance(name, str) and BUSINESS_WORDS.search(name) for name in names):
                naming.add(name_of(path))
    assert naming == CORE_EXCEPTIONS.keys(), naming ^ CORE_EXCEPTIONS.keys()


def test_module_names_are_words_of_the_glossary_or_standard() -> None:
    known = read_glossary_words() | STANDARD_WORDS
    unknown = {
        name_of(path): word
        for path in list_sources("pipeline", "tasks")
        if path.name != "__init__.py" and not name_of(path).startswith(HISTORY)
        for word in path.stem.split("_")
        if word not in known
    }
    assert unknown == {}


def test_no_name_has_a_private_word() -> None:
    found = {
        f"{name_of(path)}: {name}"
        for path in list_sources("config", "pipeline", "tasks")
        for name in list_names(path)
        if RETIRED_WORDS & {*read_words(name)}
    }
    assert found == set()
    assert read_words("wakeLanes_told") == ["wake", "lanes", "told"]


def test_no_two_classes_have_one_name() -> None:
    places = defaultdict(list)
    for path in list_sources("pipeline"):
        for node in parse_source(path).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(name_of(path))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


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
