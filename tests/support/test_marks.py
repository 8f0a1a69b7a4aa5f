"""The marks that divide the tests between `make test`, `make pages` and `make system`: each test runs in one of them."""

import re
from itertools import product
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression

MAKEFILE = Path(__file__).parents[2] / "Makefile"
MARKS = ("pages", "system", "twins")


def test_every_test_runs_in_one_command() -> None:
    text = MAKEFILE.read_text(encoding="utf-8")
    expressions = [
        Expression.compile(found.strip('"'))
        for start in (r"^PARTS .*", r"^pages:.*\n.*", r"^system:.*\n.*")
        for found in re.findall(rf"{start} -m (\w+|\".*\")", text, re.MULTILINE)
    ]
    assert len(expressions) == 3
    for given in product([True, False], repeat=len(MARKS)):
        marked = {mark for mark, has in zip(MARKS, given, strict=True) if has}
        assert _count_runs(expressions, marked) == 1, marked


def _count_runs(expressions: list[Expression], marked: set[str]) -> int:
    def has(mark: str, /, **_: str | int | bool | None) -> bool:
        return mark in marked

    return sum(each.evaluate(has) for each in expressions)


def _is_twin(request: pytest.FixtureRequest) -> bool:
    return request.node.get_closest_marker("twins") is not None


def test_test_on_each_database_has_a_twin(request: pytest.FixtureRequest, database_url: str) -> None:
    assert _is_twin(request) == database_url.startswith("postgresql")


@pytest.mark.databases
def test_test_of_what_databases_do_has_none(request: pytest.FixtureRequest, database_url: str) -> None:
    assert not _is_twin(request)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_test_that_chooses_its_database_has_none(request: pytest.FixtureRequest, database_url: str) -> None:
    assert not _is_twin(request)
