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
ALL_ACCOUNTS: Final = "*"
NO_ACCOUNT: Final = ""

_account: ContextVar[str] = ContextVar("account", default=ALL_ACCOUNTS)


def current_account() -> str:
    """Return whose rows the transactions of this context see: an account's id, ALL_ACCOUNTS or NO_ACCOUNT."""
    return _account.get()


def set_account(account_id: str) -> None:
    """Have the transactions of this context, from now on, see the rows of this account alone."""
    _account.set(account_id)


@contextmanager
def account_scope(account_id: str) -> Iterator[None]:
    """Have the transactions that begin in the block see the rows of this account alone; or ALL_ACCOUNTS's, or NO_ACCOUNT's."""
    token = _account.set(account_id)
    try:
        yield
    finally:
        _account.reset(token)
