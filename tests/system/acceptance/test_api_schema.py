"""schemathesis against the running service: requests that the contract allows, and many that it does not.

The short form runs every example and some generated requests, the same at each run. The long form, `make fuzz`, runs
for half an hour, with other requests at each run and with sequences of dependent calls.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import structlog

from config.settings import Settings
from pipeline.accounts import api_keys
from pipeline.core.runtime import open_runtime
from pipeline.interfaces.api import limits
from tests.interfaces.api.conftest import RecordingPublisher, open_accounts, serve_api
from tests.support import factories

#: Business rules reject much that the schema allows: an unknown partner, a wrong total.
LEFT_OUT = "positive_data_acceptance"


@pytest.fixture
def address_and_key(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """The service on either database, and a key with every role."""
    # On a busy machine a request may wait for seconds; how long it may wait is not asked here.
    monkeypatch.setattr(limits, "REQUEST_WAIT_SECONDS", 60.0)
    as_before = structlog.get_config()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with ExitStack() as opened:
        facts = {"database_url": database_url, "artifacts_url": "memory:", "rate_limit_per_minute": 1_000_000}
        facts |= {"database_timeout_seconds": 60}
        runtime = open_runtime(Settings.model_validate(facts))
        opened.callback(runtime.close)
        opened.callback(structlog.configure, **as_before)
        open_accounts(runtime)
        made = api_keys.create_key(runtime, factories.ACCOUNT, "of a test", mode="live", roles=api_keys.ROLES)
        yield opened.enter_context(serve_api(runtime, RecordingPublisher())), made.bearer


def attack_api(
    address_and_key: tuple[str, str], folder: Path, seconds: int, phases: str, examples: int, *options: str
) -> None:
    address, key = address_and_key
    completed = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json"),
            *("--header", f"Authorization: Bearer {key}", "--phases", phases, "--exclude-checks", LEFT_OUT),
            # Nothing is executed here, so after a minute the service correctly says that it is not ready.
            *("--exclude-path", "/readyz", "--max-examples", str(examples), "--max-time", str(seconds)),
            *("--request-timeout", "60", "--continue-on-failure", "--warnings", "off", "--no-color", *options),
        ],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 300,
    )
    (folder / "report.txt").write_text(completed.stdout)
    assert completed.returncode == 0, completed.stdout[-8000:] + completed.stderr[-2000:]
    assert "Tested: " in completed.stdout
    if "fuzzing" not in phases:
        # If the time runs out, some calls are not made.
        assert "🚫" not in completed.stdout, completed.stdout[-2000:]


# PostgreSQL refuses more than SQLite does; the long form runs on both.
@pytest.mark.parametrize("database_url", [pytest.param("postgresql", marks=pytest.mark.servers)], indirect=True)
@pytest.mark.timeout(900)
def test_api_withstands_examples_and_variations(address_and_key: tuple[str, str], tmp_path: Path) -> None:
    attack_api(address_and_key, tmp_path, 400, "examples,coverage", 5, "--seed", "1")


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_api_withstands_half_an_hour_of_requests(address_and_key: tuple[str, str], tmp_path: Path) -> None:
    attack_api(address_and_key, tmp_path, 900, "examples,coverage,fuzzing,stateful", 200)
