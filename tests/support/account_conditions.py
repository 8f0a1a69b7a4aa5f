"""A watch over the statements of requests: in the scope of one account, each row is asked for by its account or by an id.

PostgreSQL shows a request only the rows of its account. SQLite has no such policies: there the statements alone separate
accounts, and a test with one account does not notice a missing condition.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Delete, Engine, PrimaryKeyConstraint, Select, Table, UniqueConstraint, Update, event
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList, Grouping, Tuple
from sqlalchemy.sql.selectable import Join

from pipeline.core import tenancy
from pipeline.ops.migrations.row_security import protected_tables

_COMPILER: Final = dialect().statement_compiler(dialect(), None)
_EQUALS: Final = {operators.eq, operators.in_op, operators.is_}
_LOWER: Final = {operators.ge, operators.gt}
_UPPER: Final = {operators.le, operators.lt}

#: Parts of statements that may reach rows of other accounts.
_ALLOWED: Final = [
    # The index has no account; a function of the account limits the rows.
    "WHERE acknowledgements.entry_number IN"
]

#: The open tables of each statement that a test has made, by its text.
_found: Final[dict[str, str]] = {}


@contextmanager
def watch_statements() -> Iterator[None]:
    """Fail at the end of the block if a statement on SQLite could reach rows of other accounts than its scope's."""
    open_statements: dict[str, str] = {}

    def check(connection: Connection, _: Any, text: str, __: Any, context: Any, ___: Any) -> None:
        if connection.dialect.name != "sqlite" or context.compiled is None:
            return
        if tenancy.current_account() in {tenancy.ALL_ACCOUNTS, tenancy.NO_ACCOUNT}:
            return
        if text not in _found:
            allowed = any(part in text for part in _ALLOWED)
            _found[text] = "" if allowed else ", ".join(find_open_tables(context.compiled.statement))
        if _found[text]:
            open_statements[text] = _found[text]

    event.listen(Engine, "before_cursor_execute", check)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", check)
    assert not open_statements, f"neither the account nor an id limits the rows of tables: {open_statements}"


@cache
def _protected() -> frozenset[str]:
    return frozenset(name for name, _ in protected_tables())


def find_open_tables(statement: Any, outer: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield the names of protected tables whose rows the statement, or a query in it, takes from all accounts."""
    names: set[str] = set()
    if isinstance(statement, Select | Update | Delete):
        starts = _list_froms(statement) if isinstance(statement, Select) else [statement.table]
        # SQLAlchemy takes the tables of the outer queries out of the FROM of a query in them.
        sources = [source for start in starts for source in _list_sources(start) if source.name not in outer]
        names = {source.name for source in sources}
        conditions = [*statement._where_criteria, *(on for start in starts for on in _list_on(start))]
        yield from _find_open(sources, [part for condition in conditions for part in _split(condition)])
    for child in statement.get_children():
        yield from find_open_tables(child, outer | names)


def _list_froms(query: Select[Any]) -> list[Any]:
    """Return what `get_final_froms` does; that compiles for no database, and so not our own functions of time."""
    state: Any = query._compile_state_factory(query, _COMPILER)
    return list(state._get_display_froms())


def _find_open(sources: list[Any], conditions: list[Any]) -> Iterator[str]:
    """Yield each protected table that no chain of equal keys binds to a given value, or to a row of an outer query."""
    open_names = {each.name: table.name for each in sources if (table := _find_table(each)) is not None}
    here = frozenset(open_names)
    open_names = {name: table for name, table in open_names.items() if table in _protected()}
    comparisons = [each for each in conditions if isinstance(each, BinaryExpression)]
    ranges = [
        {_find_first(each).table.name for each in comparisons if each.operator in of and _is_key(_find_first(each))}
        for of in (_LOWER, _UPPER)
    ]
    for name in ranges[0] & ranges[1]:
        open_names.pop(name, None)
    pairs = [
        pair
        for each in comparisons
        if each.operator in _EQUALS
        for pair in ((each.left, each.right), (each.right, each.left))
    ]
    while newly := {
        own.table.name
        for own, other in pairs
        if _is_key(own) and own.table.name in open_names and _is_given(other, here, open_names)
    }:
        open_names = {name: table for name, table in open_names.items() if name not in newly}
    yield from open_names.values()


def _find_first(comparison: BinaryExpression[Any]) -> Any:
    """Return the left side, or its first column: a page of an account is a range of rows of account and id."""
    return comparison.left.clauses[0] if isinstance(comparison.left, Tuple) else comparison.left


def _is_given(value: Any, here: frozenset[str], open_names: Mapping[str, str]) -> bool:
    """Return whether a value is given, of an outer query, or the key of a source that is bound already."""
    name = getattr(getattr(value, "table", None), "name", None)
    return name not in here or (name not in open_names and _is_key(value))


def _is_key(column: Any) -> bool:
    """Return whether all rows with one value of the column belong to one account."""
    table = _find_table(getattr(column, "table", None))
    if table is None:
        return False
    if column.name in {"account_id", "export_id", "submission_id", "subject_id", "supersedes_id"}:
        return True
    uniques = (each for each in table.constraints if isinstance(each, PrimaryKeyConstraint | UniqueConstraint))
    if any([each.name for each in unique.columns] == [column.name] for unique in uniques):
        return True
    return any(key.target_fullname.endswith(".id") for key in table.c[column.name].foreign_keys)


def _find_table(source: Any) -> Table | None:
    element = getattr(source, "element", source)
    return element if isinstance(element, Table) else None


def _list_sources(start: Any) -> Iterator[Any]:
    if isinstance(start, Join):
        yield from _list_sources(start.left)
        yield from _list_sources(start.right)
    else:
        yield start


def _list_on(start: Any) -> Iterator[Any]:
    if isinstance(start, Join):
        yield start.onclause
        yield from _list_on(start.left)
        yield from _list_on(start.right)


def _split(condition: Any) -> Iterator[Any]:
    if isinstance(condition, Grouping):
        yield from _split(condition.element)
    elif isinstance(condition, BooleanClauseList) and condition.operator is operators.and_:
        for each in condition.clauses:
            yield from _split(each)
    else:
        yield condition
