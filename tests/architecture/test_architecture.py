"""The rules of the workflow harness that reading the source can check; each test fails as well when there is nothing to read."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
from jinja2 import StrictUndefined, UndefinedError, meta, nodes

from pipeline.core import templating

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("config", "pipeline", "tasks")
TEMPLATES = ROOT / "templates"
JINJA_SUFFIXES = {".html", ".txt", ".xml", ".md"}

#: Names that say nothing: a file is a noun of the trade.
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "services", "misc"}

#: Where the present instant may be asked for. Below the edge time is an argument.
CLOCKS = {
    "pipeline/core/db.py": "utc_now, the clock that is handed down",
    "pipeline/core/ids.py": "ids sort by time",
    "pipeline/deliveries/channels/email.py": "the mail says when this attempt was made",
    "pipeline/deliveries/channels/http_client.py": "a Retry-After that names an instant is measured from now",
    "pipeline/deliveries/channels/webhook.py": "the signature tells when this attempt was made",
}

#: Where a float is made, and why it is not money.
FLOATS = {
    "pipeline/core/db.py": "seconds",
    "pipeline/interfaces/api/headers.py": "seconds",
    "pipeline/interfaces/api/dependencies.py": "seconds",
    "pipeline/deliveries/channels/http_client.py": "seconds",
    "pipeline/deliveries/channels/protocol.py": "milliseconds",
    "pipeline/deliveries/sender.py": "seconds",
    "pipeline/simulation/drill/report.py": "seconds",
    "pipeline/deliveries/connection_tests.py": "milliseconds",
}

#: Who moves which machine.
MACHINES = {
    "pipeline/exports/transitions.py": "exports",
    "pipeline/workflow/engine.py": "steps",
    "pipeline/workflow/step_failures.py": "steps whose last attempt failed",
    "pipeline/workflow/step_leases.py": "steps: who holds one",
    "pipeline/workflow/interventions.py": "exports and steps, at an operator's word",
    "pipeline/workflow/amendments.py": "steps of an export that a newer revision replaces",
    "pipeline/deliveries/submissions.py": "broker submissions, at the broker's word",
    "pipeline/deliveries/outbox.py": "deliveries",
    "pipeline/deliveries/attempts.py": "deliveries: what came of sending",
    "pipeline/accounts/partners.py": "partners",
}

#: Written once and never edited again: the length says nothing.
HISTORY = "pipeline/ops/migrations/versions/"


def list_sources(*rooms: str) -> list[Path]:
    found = sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))
    assert len(found) >= len(rooms), f"nothing to read in {rooms}"
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def parse_source(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), name_of(path))


def find_calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a file, with the dotted name of what is called as far as it has one."""
    for node in ast.walk(parse_source(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def locate(path: Path, node: ast.expr | ast.stmt) -> str:
    return f"{name_of(path)}:{node.lineno}"


def files_that_call(names: Iterable[str]) -> dict[str, list[str]]:
    """The files of the product that call one of `names` (the last part of a dotted name counts), and where."""
    wanted = set(names)
    found: dict[str, list[str]] = {}
    for path in list_sources(*ROOMS):
        for called, node in find_calls(path):
            if called in wanted or ("." in called and "." + called.rsplit(".", 1)[1] in wanted):
                found.setdefault(name_of(path), []).append(locate(path, node))
    return found


# Files


@pytest.mark.parametrize("path", list_sources(*ROOMS, "tests", "examples"), ids=name_of)
def test_file_is_one_sitting_and_opens_with_a_sentence(path: Path) -> None:
    lines = path.read_text().count("\n")
    assert lines <= 400 or name_of(path).startswith(HISTORY), "split it along the nouns of the design"
    docstring = ast.get_docstring(parse_source(path))
    assert docstring, f"{name_of(path)} does not say what it is"
    first_paragraph = " ".join(docstring.split("\n\n")[0].split())
    assert first_paragraph.endswith((".", ":", "?")), first_paragraph


def test_files_are_named_by_nouns_of_the_trade() -> None:
    named = {name_of(path): path.stem for path in list_sources(*ROOMS, "tests", "examples")}
    assert {name for name, stem in named.items() if stem in EMPTY_NAMES} == set()


def test_only_settings_read_the_environment() -> None:
    readers = {}
    for path in list_sources(*ROOMS):
        for node in ast.walk(parse_source(path)):
            dotted = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            imported = (
                [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) and node.module == "os" else []
            )
            if dotted in {"os.environ", "os.getenv"} or {"environ", "getenv"} & set(imported):
                readers[name_of(path)] = locate(path, node) if isinstance(node, ast.expr | ast.stmt) else ""
    assert readers.keys() == {"config/settings.py"}, readers
    assert "BaseSettings" in (ROOT / "config/settings.py").read_text()


def test_only_money_makes_decimals_and_rounds() -> None:
    assert files_that_call({"Decimal", "decimal.Decimal", ".quantize"}).keys() == {"pipeline/core/money.py"}


def test_no_float_and_no_round_where_money_is() -> None:
    found = files_that_call({"float", "round"})
    assert found
    assert found.keys() == FLOATS.keys(), found


def test_time_is_an_argument_below_the_edge() -> None:
    found = files_that_call(
        {"datetime.now", "datetime.datetime.now", "datetime.utcnow", "date.today", "time.time", "time.time_ns"}
    )
    assert found
    assert found.keys() == CLOCKS.keys(), found


def test_state_is_moved_only_where_its_machine_lives() -> None:
    """A literal state in an UPDATE is somebody moving a machine that is not theirs, also by way of a function of his own."""
    movers = set()
    for path in list_sources("pipeline", "tasks"):
        for called, node in find_calls(path):
            states = [ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg == "state"]
            made = called.rpartition(".")[2][:1].isupper()  # a row or a view is no move
            if (called.endswith(".values") and states) or (
                not made and any(each.endswith(".value") for each in states)
            ):
                movers.add(name_of(path))
    assert movers
    assert movers == MACHINES.keys(), movers ^ MACHINES.keys()


# Templates


def jinja_templates() -> list[str]:
    found = sorted(
        path.relative_to(TEMPLATES).as_posix()
        for path in TEMPLATES.rglob("*")
        if path.suffix in JINJA_SUFFIXES and path.parent.name != "fonts"
    )
    assert found, "there is no template to read"
    return found


def parse_template(name: str) -> nodes.Template:
    return templating.environment().parse((TEMPLATES / name).read_text(), name)


def find_rendered() -> dict[str, str]:
    """The template names that code gives to render(), and where."""
    found = {}
    for path in list_sources("pipeline"):
        for called, node in find_calls(path):
            if called.split(".")[-1] in {"render", "get_template"} and node.args:
                for constant in ast.walk(node.args[0]):
                    if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                        found[constant.value] = locate(path, node)
    assert found, "no code renders a template by name"
    return found


def test_a_missing_fact_is_an_error_and_values_are_escaped() -> None:
    environment = templating.environment()
    assert environment.undefined is StrictUndefined
    for name in jinja_templates():
        escapes = environment.autoescape(name) if callable(environment.autoescape) else environment.autoescape
        assert escapes == (not name.endswith(".txt")), name


@pytest.mark.parametrize("name", jinja_templates())
def test_template_compiles_and_fails_without_its_facts(name: str) -> None:
    template = templating.environment().get_template(name)
    if meta.find_undeclared_variables(parse_template(name)):
        with pytest.raises(UndefinedError):
            template.render()


@pytest.mark.parametrize("name", jinja_templates())
def test_template_is_handed_finished_facts(name: str) -> None:
    arithmetic = (nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Pow)
    calculations = [node.lineno for node in parse_template(name).find_all(arithmetic)]
    filters = [
        node.lineno
        for node in parse_template(name).find_all(nodes.Filter)
        if node.name in {"float", "int", "round", "sum"}
    ]
    assert (calculations, filters) == ([], [])


def test_templates_named_by_code_and_by_templates_exist() -> None:
    there = set(jinja_templates())
    named = find_rendered()
    assert {name: place for name, place in named.items() if name not in there} == {}
    for name in there:
        assert set(meta.find_referenced_templates(parse_template(name))) <= there, name


def test_every_template_is_used() -> None:
    included = {other for name in jinja_templates() for other in meta.find_referenced_templates(parse_template(name))}
    assert set(jinja_templates()) - included - find_rendered().keys() == set()
    in_code = "\n".join(path.read_text() for path in list_sources("pipeline"))
    typst = [path.name for path in TEMPLATES.rglob("*.typ")]
    assert typst
    assert [name for name in typst if f'"{name}"' not in in_code] == []
