"""Rules of the code base that a reading of the source can check. Each test also fails if there is nothing to read."""

import ast
import re
from functools import cache

import pytest
from jinja2 import StrictUndefined, UndefinedError, meta, nodes

from pipeline.core import templating
from pipeline.interfaces.pages.filters import FILTERS
from tests.architecture.sources import (
    HISTORY,
    ROOT,
    SOURCE_FOLDERS,
    find_calls,
    list_nodes,
    list_sources,
    locate,
    name_of,
    parse_source,
    read_source,
)
from tests.support.tables import table

TEMPLATES = ROOT / "templates"
JINJA_SUFFIXES = {".html", ".txt", ".xml", ".md"}

#: Empty names: a file is named by a noun of the trade.
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "services", "misc"}

#: Files that may read the clock. Elsewhere the time is an argument.
CLOCKS = {
    "pipeline/core/clock.py": "utc_now, the clock that is handed down",
    "pipeline/core/ids.py": "ids contain the time",
    "pipeline/deliveries/channels/email.py": "the mail carries the time of the attempt",
    "pipeline/deliveries/channels/http_client.py": "a Retry-After that is a date is measured from now",
    "pipeline/deliveries/channels/webhook.py": "a connection test signs an event an hour ago",
    "pipeline/deliveries/submissions/signature.py": "the signature carries the time of the attempt",
    "pipeline/workflow/step_transaction.py": "a span carries the time of its end",
}

#: Files that make a float, and what the float is; it is never money.
FLOATS = {
    "pipeline/core/db.py": "seconds",
    "pipeline/interfaces/api/headers.py": "seconds",
    "pipeline/interfaces/api/dependencies.py": "seconds",
    "pipeline/deliveries/channels/http_client.py": "seconds",
    "pipeline/deliveries/channels/protocol.py": "milliseconds",
    "pipeline/deliveries/streams/sender.py": "seconds",
    "pipeline/simulation/drill/report.py": "seconds",
    "pipeline/deliveries/connection_tests.py": "milliseconds",
    "pipeline/interfaces/console/work/home_views.py": "positions in a picture",
    "pipeline/interfaces/console/exports/gantt.py": "positions in a picture",
    "pipeline/interfaces/pages/plots.py": "positions in a picture",
    "pipeline/interfaces/durations.py": "seconds",
    "pipeline/ops/stats/durations.py": "seconds",
    "pipeline/ops/queue_samples.py": "seconds",
    "pipeline/workflow/step_transaction.py": "nanoseconds",
}

#: Files that change a state, and of what.
MACHINES = {
    "pipeline/exports/transitions.py": "exports",
    "pipeline/workflow/step_failures.py": "steps after a failed last attempt",
    "pipeline/workflow/step_leases.py": "steps: their leases",
    "pipeline/workflow/interventions.py": "exports and steps, by an operator",
    "pipeline/workflow/amendments.py": "steps of an export that a newer revision replaces",
    "pipeline/deliveries/submissions/submissions.py": "broker submissions, by the broker's answers",
    "pipeline/deliveries/outbox/outbox.py": "deliveries",
    "pipeline/deliveries/streams/streams.py": "deliveries: their leases",
    "pipeline/deliveries/streams/attempts.py": "deliveries: results of sending",
    "pipeline/accounts/partners.py": "partners",
}


def files_that_call(*names: str) -> dict[str, list[str]]:
    """Return the product files that call one of `names`, and where; one with a leading dot is a method of any object."""
    found: dict[str, list[str]] = {}
    for path in list_sources(*SOURCE_FOLDERS):
        for called, node in find_calls(path, {name.rpartition(".")[2] for name in names}):
            if called in names or "." + called.rpartition(".")[2] in names:
                found.setdefault(name_of(path), []).append(locate(path, node))
    assert found
    return found


# Files


def declares(tree: ast.Module, lines: int) -> bool:
    """Return whether a module is a table of declarations: functions have at most a twentieth of its lines."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {line for each in functions for line in range(each.lineno, (each.end_lineno or each.lineno) + 1)}
    return 20 * len(inside) <= lines


def test_files_have_at_most_400_lines() -> None:
    """A longer file is split along the nouns of the design. Fields, columns and constants need no split."""
    lengths = {path: read_source(path).count("\n") for path in list_sources(*SOURCE_FOLDERS, "tests", "examples")}
    long = {path: lines for path, lines in lengths.items() if lines > 400 and not name_of(path).startswith(HISTORY)}
    assert {name_of(path): lines for path, lines in long.items() if not declares(parse_source(path), lines)} == {}


@pytest.mark.parametrize(("fields", "functions"), [(38, 2), (19, 1)])
def test_table_of_declarations_has_few_functions(fields: int, functions: int) -> None:
    row, function = "    a: int", "    async def b(self): return 1"
    table = ["class Table:", *[row] * (fields - 1), *[function] * functions]
    assert declares(ast.parse("\n".join(table)), len(table))
    table[-functions - 1] = function
    assert not declares(ast.parse("\n".join(table)), len(table))


def test_files_open_with_a_sentence() -> None:
    opens = re.compile(r'(#[^\n]*\n)*"""((?!\n\n|""").)+[.:?](\n\n|\n?""")', re.DOTALL)
    assert [
        name_of(path)
        for path in list_sources(*SOURCE_FOLDERS, "tests", "examples")
        if not opens.match(read_source(path))
    ] == []


def test_file_names_are_not_empty_words() -> None:
    named = {name_of(path): path.stem for path in list_sources(*SOURCE_FOLDERS, "tests", "examples")}
    assert {name for name, stem in named.items() if stem in EMPTY_NAMES} == set()


def test_only_settings_read_the_environment() -> None:
    reading = re.compile(r"\bos\.(environ|getenv)\b|\bfrom os import .*(environ|getenv)")
    readers = {name_of(path) for path in list_sources(*SOURCE_FOLDERS) if reading.search(read_source(path))}
    assert readers == {"config/settings.py", "pipeline/interfaces/api/code_samples.py"}, (
        "the second shows users a program"
    )
    assert "BaseSettings" in (ROOT / "config/settings.py").read_text()


def test_only_money_uses_decimals_and_rounding() -> None:
    # The default of a setting is not validated, so it must be a decimal itself.
    assert files_that_call("Decimal", "decimal.Decimal", ".quantize").keys() == {
        "pipeline/core/money.py",
        "config/deliveries.py",
    }


def test_floats_and_rounding_only_in_listed_files() -> None:
    found = files_that_call("float", "round")
    assert found.keys() == FLOATS.keys(), found


def test_only_listed_files_read_the_clock() -> None:
    found = files_that_call(
        "datetime.now", "datetime.datetime.now", "datetime.utcnow", "date.today", "time.time", "time.time_ns"
    )
    assert found.keys() == CLOCKS.keys(), found


def test_states_change_only_in_listed_files() -> None:
    """A literal state in an UPDATE changes a state. So does a function that gets one."""
    movers = set()
    for path in list_sources("pipeline", "tasks"):
        for node in list_nodes(path) if "state=" in read_source(path) else ():
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            states = [ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg == "state"]
            # Making a row or a view does not change a state.
            made = called == "_new_row" or called.rpartition(".")[2][:1].isupper()
            if (called.endswith(".values") and states) or (
                not made and any(each.endswith(".value") for each in states)
            ):
                movers.add(name_of(path))
    assert movers
    assert movers == MACHINES.keys(), movers ^ MACHINES.keys()


# Templates


#: The functions whose first argument is a template.
RENDERING = {"render", "get_template", "page", "page_in_pieces", "public_page", "open_page"}


def jinja_templates() -> list[str]:
    found = sorted(
        path.relative_to(TEMPLATES).as_posix()
        for path in TEMPLATES.rglob("*")
        if path.suffix in JINJA_SUFFIXES and path.parent.name not in {"fonts", "vendor"}
    )
    assert found, "found no template"
    return found


@cache
def parse_template(name: str) -> nodes.Template:
    return templating.environment().parse((TEMPLATES / name).read_text(), name)


def find_rendered() -> dict[str, str]:
    """Return the template names that code passes to render() or a page, and where."""
    found = {}
    for path in list_sources("pipeline"):
        for _, node in find_calls(path, RENDERING):
            for constant in ast.walk(node.args[0]) if node.args else ():
                if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                    found[constant.value] = locate(path, node)
    assert found, "no code renders a template by name"
    return found


def test_templates_reject_missing_values_and_escape() -> None:
    environment = templating.environment()
    assert environment.undefined is StrictUndefined
    for name in jinja_templates():
        escapes = environment.autoescape(name) if callable(environment.autoescape) else environment.autoescape
        assert escapes == (not name.endswith(".txt")), name


@table("name", jinja_templates())
def test_template_compiles_and_fails_without_values(name: str) -> None:
    template = templating.environment().get_template(name)
    if meta.find_undeclared_variables(parse_template(name)):
        with pytest.raises(UndefinedError):
            template.render()


#: The methods that a template may call: they read what a value says of itself, or write it.
READING = {"get", "get_all", "has_ended", "is_valid", "isoformat", "items", "list_stages", "ljust", "startswith"}


@table("name", jinja_templates())
def test_template_only_chooses_and_says(name: str) -> None:
    """A template chooses words, loops and reads attributes; filters format. It queries and calculates nothing."""
    tree = parse_template(name)
    arithmetic = (nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Pow)
    calculations = [node.lineno for node in tree.find_all(arithmetic)]
    filters = {node.name for node in tree.find_all(nodes.Filter)} & {"float", "int", "round", "sum"}
    methods = {node.node.attr for node in tree.find_all(nodes.Call) if isinstance(node.node, nodes.Getattr)}
    assert (calculations, filters, methods - READING) == ([], set(), set())


def test_named_templates_exist() -> None:
    there = set(jinja_templates())
    named = find_rendered()
    assert {name: place for name, place in named.items() if name not in there} == {}
    for name in there:
        assert set(meta.find_referenced_templates(parse_template(name))) <= there, name


def test_templates_are_all_used() -> None:
    included = {other for name in jinja_templates() for other in meta.find_referenced_templates(parse_template(name))}
    assert set(jinja_templates()) - included - find_rendered().keys() == set()
    in_code = "\n".join(map(read_source, list_sources("pipeline")))
    typst = [path.name for path in TEMPLATES.rglob("*.typ")]
    assert typst
    assert [name for name in typst if f'"{name}"' not in in_code] == []
    filters = {node.name for name in jinja_templates() for node in parse_template(name).find_all(nodes.Filter)}
    assert FILTERS.keys() - filters == set()


def test_modules_of_the_product_are_imported_in_calls_only_if_the_start_imports_them() -> None:
    """An upgrade may replace the files of a process. A command ends soon; the start of each process imports these."""
    found = {
        f"{name_of(path)} imports {node.module}"
        for path in list_sources(*SOURCE_FOLDERS)
        if not name_of(path).startswith("pipeline/interfaces/cli/")
        and re.search(rf"^ +from ({'|'.join(SOURCE_FOLDERS)})\b", read_source(path), re.MULTILINE)
        for outer in list_nodes(path)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(outer)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in SOURCE_FOLDERS
    }
    assert found == {
        "pipeline/core/message_broker.py imports pipeline.core.redis_transport",
        "pipeline/core/tracing.py imports pipeline.core.tracing_sdk",
        "pipeline/ops/work_counts.py imports pipeline.ops.queue_samples",
    }
