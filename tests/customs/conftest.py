"""A runtime for the tests of customs that need a database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import Settings
from pipeline.core.runtime import Runtime, open_runtime


@pytest.fixture
def runtime(database_url: str, tmp_path: Path) -> Iterator[Runtime]:
    """A runtime on each supported database."""
    opened = open_runtime(Settings(database_url=database_url, artifacts_url=f"file://{tmp_path}"))
    yield opened
    opened.close()
