"""The number of parallel connection tests: each holds a thread while its endpoints do not answer."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pipeline.accounts import partners, service
from pipeline.accounts.schemas import NewPartner, PartnerTested
from pipeline.core.errors import RateLimited
from pipeline.deliveries import connection_tests
from tests.deliveries.conftest import OpenRuntime

ACCOUNTS = [f"acc_{number}" for number in range(connection_tests.MAX_CONCURRENT_TESTS + 1)]
NAME = "wh_slow"


def test_connection_tests_are_limited_per_account_and_process(
    make_runtime: OpenRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, holding, done = make_runtime(), threading.Semaphore(0), threading.Event()
    for account in ACCOUNTS:
        service.create_account(runtime, account, "Maple Goods Ltd")
        partners.create_partner(runtime, account, NewPartner(id=NAME, kind="warehouse", name="A warehouse"))
    tried = connection_tests._test_endpoint

    def hold_test(*of: Any) -> Any:
        holding.release()
        assert done.wait(60)
        return tried(*of)

    def run_test(account: str) -> PartnerTested:
        return connection_tests.run_connection_test(runtime, account, NAME, tested_by="key_1")

    monkeypatch.setattr(connection_tests, "_test_endpoint", hold_test)
    *first, beyond = ACCOUNTS
    with ThreadPoolExecutor(len(first)) as pool:
        under_way = [pool.submit(run_test, account) for account in first]
        for _ in first:
            assert holding.acquire(timeout=60)
        for account, owner in ((first[0], f"of account {first[0]}"), (beyond, "of other accounts")):
            with pytest.raises(RateLimited, match=f"a connection test {owner} is running"):
                run_test(account)
        done.set()
        made = [each.result() for each in under_way]
    made.append(run_test(beyond))
    assert all(each.passed for each in made), made
