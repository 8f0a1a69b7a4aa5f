"""A table of cases as one test: each row is checked, and each failure is listed."""

from pathlib import Path

import pytest

from tests.support.tables import table


def test_errors_of_all_rows_are_raised_with_their_rows(tmp_path: Path) -> None:
    checked = []

    @table(("number", "double"), [(1, 2), (2, 5), (3, 6), (4, 9), (5, 0)])
    def check(number: int, double: int, tmp_path: Path) -> None:
        checked.append((number, tmp_path))
        if not double:
            pytest.fail("a double is not 0")
        assert number * 2 == double

    with pytest.raises(AssertionError) as raised:
        check(tmp_path=tmp_path)
    assert checked == [(number, tmp_path) for number in (1, 2, 3, 4, 5)]
    summary, *failed = str(raised.value).split("\n\n")
    assert summary == "3 of 5 rows failed"
    assert [each.splitlines()[0] for each in failed] == [
        "number=2, double=5: AssertionError: assert (2 * 2) == 5",
        "number=4, double=9: AssertionError: assert (4 * 2) == 9",
        "number=5, double=0: Failed: a double is not 0",
    ]


@table("number", [1, 2])
def test_rows_share_the_fixtures(tmp_path: Path, number: int) -> None:
    (tmp_path / str(number)).touch()
    assert len([*tmp_path.iterdir()]) == number


def test_table_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="the table of number has no row"):
        table("number", [])
