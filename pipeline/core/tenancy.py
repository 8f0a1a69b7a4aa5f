"""Whose rows a transaction may see: one account's, everybody's, or nobody's.

PostgreSQL enforces it, row by row, behind every query (pipeline/ops/migrations/row_security.py). What works for all accounts, such
as workers, sweeps and the command line, sees everybody's rows. A request sees nobody's until its credential has said
whose they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

#: No account can have these for an id.
EVERYBODY: Final = "*"
NOBODY: Final = ""

_whose: ContextVar[str] = ContextVar("whose", default=EVERYBODY)


def whose() -> str:
    """Return whose rows the transactions of this context see: an account's id, EVERYBODY or NOBODY."""
    return _whose.get()


def act_for(account_id: str) -> None:
    """Have the transactions of this context, from now on, see the rows of this account alone."""
    _whose.set(account_id)


@contextmanager
def acting_for(account_id: str) -> Iterator[None]:
    """Have the transactions that begin in the block see the rows of this account alone; or EVERYBODY's, or NOBODY's."""
    token = _whose.set(account_id)
    try:
        yield
    finally:
        _whose.reset(token)
