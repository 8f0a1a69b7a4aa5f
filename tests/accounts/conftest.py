"""Fixtures shared with other tests."""

from collections.abc import Iterator

import pytest

from config.settings import Settings
from pipeline.accounts import service
from pipeline.core.runtime import Runtime, open_runtime
from tests.deliveries.conftest import clock, endpoint, full_pauses, harness, make_runtime, runtime
from tests.support import factories
from tests.support.people import OTHER

__all__ = ["clock", "endpoint", "full_pauses", "harness", "make_runtime", "runtime"]


@pytest.fixture
def two_accounts(database_url: str) -> Iterator[Runtime]:
    """A runtime with two accounts, on each database."""
    opened = open_runtime(Settings.model_validate({"database_url": database_url, "artifacts_url": "memory:"}))
    for account in (factories.ACCOUNT, OTHER):
        service.create_account(opened, account, "Maple Goods Ltd")
    yield opened
    opened.close()
