"""A table of cases as one test: each row is checked, and each failure is listed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tables import table


def test_errors_of_all_rows_are_raised_with_their_rows(tmp_path: Path) -> None:
    checked = []

    @table(("number", "double"), [(1, 2), (2, 5), (3, 6), (4, 9)])
    def check(number: int, double: int, tmp_path: Path) -> None:
        checked.append((number, tmp_path))
        assert number * 2 == double

    with pytest.raises(ExceptionGroup, match="2 of 4 rows failed") as raised:
        check(tmp_path=tmp_path)
    assert checked == [(number, tmp_path) for number in (1, 2, 3, 4)]
    assert [each.__notes__[-1] for each in raised.value.exceptions] == [
        "the row: number=2, double=5",
        "the row: number=4, double=9",
    ]


@table("number", [1, 2])
def test_rows_share_the_fixtures(tmp_path: Path, number: int) -> None:
    (tmp_path / str(number)).touch()
    assert len([*tmp_path.iterdir()]) == number


def test_table_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="the table of number has no row"):
        table("number", [])
