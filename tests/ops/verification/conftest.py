"""One executed export and its bundle, shared by all tests that change it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.ops.verification.verifier import BundleReport, verify_bundle
from tests.ops.verification.bundles import Bundle, execute_to_handoff, open_runtime_with_partners, pack_bundle
from tests.support import factories

Verify = Callable[[bytes], BundleReport]


@pytest.fixture(scope="session")
def raw_bundle(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[bytes]:
    """Yield the bundle of an export of two units with all goods of the test plans."""
    folder = tmp_path_factory.mktemp("bundle")
    runtime = open_runtime_with_partners(f"sqlite:///{shutil.copy(sqlite_template, folder / 'exports.db')}", folder)
    with closing(runtime):
        yield pack_bundle(runtime, execute_to_handoff(runtime, factories.plan(units=2, lines=4)))


@pytest.fixture
def bundle(raw_bundle: bytes) -> Bundle:
    """Return the members of that bundle."""
    return Bundle.from_zip(raw_bundle)


@pytest.fixture
def verify_bytes(tmp_path: Path) -> Verify:
    """Return a function that verifies bytes as `exports verify` verifies a file."""

    def check(raw: bytes) -> BundleReport:
        path = tmp_path / "bundle.zip"
        path.write_bytes(raw)
        return verify_bundle(path)

    return check
