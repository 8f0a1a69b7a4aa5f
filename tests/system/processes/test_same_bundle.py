"""One export gives the same bundle, byte by byte, at any time, in any process and with any Python version."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.ops.verification.verifier import verify_bundle
from tests.ops.verification.bundles import Bundle

#: Two processes with the whole service take long on a busy machine.
pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).resolve().parents[3]
HERE = f"python{sys.version_info.major}.{sys.version_info.minor}"


def another_python() -> Path | None:
    """Return the Python of another version with the service's packages, or None; `.ci/run` creates it."""
    found = (path for path in sorted(ROOT.glob(".venv*/lib/python3.*")) if path.name != HERE)
    return next((path.parents[1] / "bin" / "python" for path in found), None)


def start_program(folder: Path, python: str | Path, **environment: str) -> subprocess.Popen[bytes]:
    folder.mkdir()
    program = [str(python), "-m", "tests.ops.verification.fixed_export", str(folder)]
    return subprocess.Popen(program, cwd=ROOT, env=os.environ | environment, stdout=subprocess.DEVNULL)


def wait_for_program(folder: Path, process: subprocess.Popen[bytes]) -> bytes:
    assert process.wait(500) == 0
    report = verify_bundle(folder / "bundle.zip")
    assert report.intact, report
    return (folder / "bundle.zip").read_bytes()


def assert_same(one: bytes, other: bytes) -> None:
    first, second = Bundle.from_zip(one).members, Bundle.from_zip(other).members
    assert [path for path in first.keys() | second.keys() if first.get(path) != second.get(path)] == []
    assert hashlib.sha256(one).hexdigest() == hashlib.sha256(other).hexdigest()


def test_two_processes_give_the_same_bundle(tmp_path: Path) -> None:
    runs = {
        tmp_path / "a": {"PYTHONHASHSEED": "1", "TZ": "America/Toronto"},
        tmp_path / "b": {"PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONUTF8": "0"},
    }
    processes = {folder: start_program(folder, sys.executable, **environment) for folder, environment in runs.items()}
    assert_same(*(wait_for_program(folder, process) for folder, process in processes.items()))


def test_another_python_gives_the_same_bundle(tmp_path: Path) -> None:
    other = another_python()
    if other is None:
        pytest.skip("there is no environment of another Python version; .ci/run creates one")
    processes = {
        tmp_path / name: start_program(tmp_path / name, python)
        for name, python in (("a", sys.executable), ("b", other))
    }
    assert_same(*(wait_for_program(folder, process) for folder, process in processes.items()))
