"""`exports plans proforma` writes the page of a plan's file, or of a registered plan."""

import json
from pathlib import Path

import pytest

from tests.support import factories
from tests.support.command_line import Commands


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(factories.plan(units=2, batch="batch-proforma")))
    return path


def test_page_is_written_by_the_ending_of_its_name(service: Commands, plan: Path, tmp_path: Path) -> None:
    for name, begins in (("a.pdf", b"%PDF-"), ("b.html", b"<!DOCTYPE html>")):
        out = tmp_path / name
        result = service("plans", "proforma", str(plan), "--unit", "U2", "--out", str(out))
        assert (result.exit_code, result.stdout.strip()) == (0, str(out)), result.stderr
        assert out.read_bytes().lstrip().startswith(begins)
    assert "batch-proforma" not in service("list").stdout


def test_registered_plan_is_named_by_its_id(service: Commands, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    result = service("plans", "proforma", "pln_unknown", "--out", str(out))
    assert (result.exit_code, out.exists()) == (3, False)
    assert "there is no plan pln_unknown" in result.stderr


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--out", "page.txt"), 2, "page.txt must end in .pdf or .html"),
        (("--out", "page.html"), 1, "name one of them, such as unit=U1"),
        (("--out", "page.html", "--unit", "U3"), 3, "the plan has no unit U3"),
        (("--out", "/proc/none/page.html", "--unit", "U1"), 1, "/proc/none/page.html cannot be written"),
    ],
)
def test_wrong_option_is_named(service: Commands, plan: Path, options: tuple[str, ...], code: int, says: str) -> None:
    result = service("plans", "proforma", str(plan), *options)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in " ".join(result.stderr.split())
