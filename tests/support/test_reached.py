"""The tests that a change reaches: by imports, the nearest first."""

import subprocess
from pathlib import Path

import pytest

from tests.support import reached

pytestmark = pytest.mark.system


def test_nearest_tests_come_first_and_those_of_the_whole_service_do_not() -> None:
    importers = {
        "pipeline.a": ["pipeline.b", "tests.x.test_a", "tests.system.test_all"],
        "pipeline.b": ["pipeline.a", "tests.x.test_b", "tests.x.conftest"],
        "tests.x.conftest": ["tests.x.test_a", "tests.x.test_c"],
        "pipeline.other": ["tests.x.test_other"],
    }
    assert reached.find_reached(["pipeline.a"], importers) == ["tests.x.test_a", "tests.x.test_b", "tests.x.test_c"]


def test_importers_are_those_of_product_and_tests_and_each_conftest_has_its_folder() -> None:
    importers = reached.read_importers(reached.read_sources())
    assert "tasks.steps" in importers["pipeline.workflow.engine"]
    assert "tests.workflow.conftest" in importers["pipeline.workflow.engine"]
    assert "tests.workflow.test_engine" in importers["tests.workflow.conftest"]
    assert "tests.support.test_reached" in importers["tests.support.reached"]
    assert {"tests.interfaces.cli.test_exports", "tests.interfaces.cli.test_exports_amend"} <= importers[
        "pipeline.interfaces.cli.exports"
    ]
    assert "tests.conftest" not in importers["pipeline.core.db"]


def test_module_that_names_a_file_stands_for_it() -> None:
    sources = {"pipeline.x": 'render("console/home.html.j2")', "pipeline.y": ""}
    changed = ["templates/console/home.html.j2", "pipeline/y.py", "docs/README.md"]
    assert reached.find_modules(changed, sources) == {"pipeline.x", "pipeline.y"}


def test_changed_files_are_those_beyond_main_or_of_the_last_commit(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words], cwd=tmp_path, check=True)

    git("init", "--quiet")
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
        git("add", ".")
        git("commit", "--quiet", "--message", name)
    assert reached.list_changed(tmp_path) == ["two"]
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    assert reached.list_changed(tmp_path) == ["two"]
    (tmp_path / "one").write_text("changed")
    (tmp_path / "three").write_text("new")
    assert reached.list_changed(tmp_path) == ["one", "three"]
