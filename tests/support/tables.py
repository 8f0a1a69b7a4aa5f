"""Tables of cases as one test: hundreds of rows that cost nothing each would cost more as tests of their own."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pytest


def table(names: str | tuple[str, ...], rows: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that calls the test for each row, as `parametrize` does, and raises the errors of all rows at the end.

    The rows share the fixtures of the test.
    """
    table_rows = [*rows]
    if not table_rows:
        raise ValueError(f"the table of {names} has no row, so its test would show nothing; give it rows")

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        def check_table(**fixtures: Any) -> None:
            failed: list[tuple[str, BaseException]] = []
            for row in table_rows:
                values = {names: row} if isinstance(names, str) else dict(zip(names, row, strict=True))
                try:
                    test(**fixtures, **values)
                except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - all are raised below
                    shown = ", ".join(f"{name}={value!r:.200}" for name, value in values.items())
                    failed.append((f"{shown}: {type(error).__name__}: {error}", error))
            if failed:
                # pytest shows one error of an ExceptionGroup.
                summary = f"{len(failed)} of {len(table_rows)} rows failed"
                raise AssertionError("\n\n".join([summary, *(text for text, _ in failed)])) from failed[0][1]

        given = inspect.signature(test)
        columns = {names} if isinstance(names, str) else {*names}
        needed = [each for name, each in given.parameters.items() if name not in columns]
        # pytest reads it to find the fixtures.
        check_table.__signature__ = given.replace(parameters=needed)  # type: ignore[attr-defined]
        for name in ("__name__", "__qualname__", "__module__", "__doc__"):
            setattr(check_table, name, getattr(test, name))
        return check_table

    return decorate
