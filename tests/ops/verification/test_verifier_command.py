"""`exports verify`: its output and its exit codes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pipeline.interfaces.cli.main import app
from tests.ops.verification.bundles import Bundle
from tests.support import factories


@pytest.fixture
def scratch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder without service or database; the settings name a server that does not exist."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:9/none")
    monkeypatch.setenv("EXPORTS_API_URL", "http://127.0.0.1:9")
    return tmp_path


def run(path: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["verify", str(path), *options], catch_exceptions=False)


def test_verify_prints_intact_bundle_file_by_file(scratch_folder: Path, raw_bundle: bytes) -> None:
    path = scratch_folder / "bundle.zip"
    path.write_bytes(raw_bundle)
    result = run(path)
    assert result.exit_code == 0, result.output
    assert f"✓ the bundle is intact: batch {factories.BATCH}" in result.stdout
    assert "✗" not in result.stdout
    for name in ("plan.json", "broker_message.json", "manifest.json", "0002-U2/commercial_customs_invoice.pdf"):
        assert name in result.stdout
    report = json.loads(run(path, "--json").stdout)
    assert report["intact"] is True
    assert {check["failure"] for check in report["checks"]} == {None}
    assert report["planHash"] == factories.plan_hash(factories.plan(units=2, lines=4))


def test_verify_names_the_change_and_exits_with_an_error(scratch_folder: Path, bundle: Bundle) -> None:
    path = scratch_folder / "bundle.zip"
    name = "0001-U1/commercial_customs_invoice.csv"
    path.write_bytes(bundle.with_({name: bundle[name].replace(b",CA,", b",MX,", 1)}))
    result = run(path)
    assert result.exit_code == 1
    assert "line L1: /countryOfOrigin is MX, the plan says CA" in result.stdout
    report = json.loads(run(path, "--json").stdout)
    assert [check["path"] for check in report["checks"] if check["failure"]] == [
        name,
        "broker_message.json",
        "manifest.json",
    ]
    assert report["intact"] is False


def test_verify_exit_codes_for_invalid_and_missing_file(scratch_folder: Path) -> None:
    path = scratch_folder / "bundle.zip"
    assert run(path).exit_code == 3
    path.write_bytes(b"not a zip")
    result = run(path, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["message"].startswith(f"{path} is not a bundle: it is not a zip file")
