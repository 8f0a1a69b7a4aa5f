"""The account whose rows a transaction may see: one account, all accounts, or none.

PostgreSQL enforces it with row-level security (pipeline/ops/migrations/row_security.py). Workers, sweeps and the command
line see the rows of all accounts. A request sees no rows until its credential has named the account.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

#: No account can have one of these as its id.
ALL_ACCOUNTS: Final = "*"
NO_ACCOUNT: Final = ""

_account: ContextVar[str] = ContextVar("account", default=ALL_ACCOUNTS)


def current_account() -> str:
    """Return the account whose rows this context sees: an id, ALL_ACCOUNTS or NO_ACCOUNT."""
    return _account.get()


def set_account(account_id: str) -> None:
    """Limit the transactions that begin in this context from now on to the rows of this account."""
    _account.set(account_id)


@contextmanager
def account_scope(account_id: str) -> Iterator[None]:
    """Limit the transactions that begin in the block to the rows of this account, ALL_ACCOUNTS or NO_ACCOUNT."""
    token = _account.set(account_id)
    try:
        yield
    finally:
        _account.reset(token)
