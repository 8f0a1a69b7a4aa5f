"""Logos are stored and read alike on each database, for the own account alone."""

import pytest

from pipeline.accounts.print_settings import find_logo, remove_logo, set_logo
from pipeline.core.runtime import Runtime
from tests.support import factories
from tests.support.logos import draw_logo
from tests.support.people import OTHER


@pytest.mark.pdf_engine
def test_logo_is_of_its_account(two_accounts: Runtime) -> None:
    stored = set_logo(two_accounts, factories.ACCOUNT, draw_logo(), changed_by="test")
    with two_accounts.db.read() as session:
        assert find_logo(session, factories.ACCOUNT) == stored
        assert find_logo(session, OTHER) is None
    assert set_logo(two_accounts, OTHER, draw_logo(), changed_by="test") == stored
    remove_logo(two_accounts, factories.ACCOUNT, changed_by="test")
    with two_accounts.db.read() as session:
        assert find_logo(session, factories.ACCOUNT) is None
        assert find_logo(session, OTHER) == stored
