"""Every box of every page is checked: a test runs it, or its form and each command in it are checked here."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from typer.core import TyperGroup
from typer.main import get_command

from config.settings import Settings
from pipeline.interfaces.cli.config import build_setting_views
from pipeline.interfaces.cli.main import app, load_command
from tests.architecture.sources import ROOT
from tests.system.acceptance.pages import Box, parse_boxes

#: The test that runs every box of a page.
RUN: Final = {
    "README.md": "tests/system/acceptance/test_readme.py",
    "clients/python/README.md": "tests/client/test_client_package.py",
    "clients/typescript/README.md": "tests/client/test_client_typescript.py",
    "docs/client.md": "tests/client/test_client_docs_page.py",
    "docs/partners.md": "tests/system/acceptance/test_partner_pages.py",
    "docs/start/": "tests/system/acceptance/test_start_pages.py",
    "docs/treatment-digest.md": "tests/customs/test_treatment.py",
}

#: The test that uses the boxes of a language on a page.
USED: Final = {
    ("docs/queues.md", "python"): "tests/tasks/test_celery_messages.py",
    ("docs/security.md", "text"): "tests/system/faults/test_rights.py",
    ("docs/security.md", "sql"): "tests/exports/test_hash_chain.py",
}

#: Settings of the partners' programs.
KITS: Final = {"EXPORTS_WEBHOOK_SECRETS"}

PAGES: Final = sorted(
    path
    for folder in ("", "docs", "docs/*", "config/rules", "examples/*", "examples/*/*", "clients/*")
    for path in ROOT.glob(f"{folder}/*.md" if folder else "*.md")
    if "node_modules" not in path.parts
)


def find_runner(page: str, box: Box) -> str | None:
    """Return the test that runs or uses the box; None if only its form is checked."""
    for start, test in RUN.items():
        if page.startswith(start):
            return test
    return USED.get((page, box.language))


def list_wrong(box: Box) -> list[str]:
    """Return what is wrong with a box that no test runs."""
    match box.language:
        case "json":
            json.loads(box.text)
        case "yaml":
            yaml.safe_load(box.text)
        case "console":
            return [wrong for line in box.text.splitlines() if line.startswith("$ ") for wrong in list_unknown(line)]
        case "text" | "nginx" | "ini" | "sh":
            return [wrong for line in box.text.splitlines() for wrong in list_unknown(line)]
        case "http":
            sent = "".join(
                path.read_text(encoding="utf-8") for path in (ROOT / "pipeline/deliveries").rglob("*.py")
            ).lower()
            headers = re.findall(r"^([A-Za-z-]+): ", box.text, re.MULTILINE)
            return [f"the service sends no header {header}" for header in headers if f'"{header.lower()}"' not in sent]
        case other:
            return [f"a box of the language {other or 'none'} is not checked"]
    return []


def list_unknown(line: str) -> Iterator[str]:
    """Yield the commands of `exports` and of `make`, the options and the settings of a line that do not exist."""
    for call in re.findall(r"(?:^|[\s(])(exports [a-z-][^|)&;#>]*)", line):
        words = shlex.split(call)[1:]
        command: Any = get_command(app)
        options = {name for parameter in command.params for name in parameter.opts}
        while words:
            word = words.pop(0)
            if word.startswith("--"):
                if word.partition("=")[0] not in options:
                    yield f"{call.strip()}: unknown option {word}"
            elif isinstance(command, TyperGroup):
                # `exports artifacts ID` means `exports artifacts list ID`.
                command = find_inner(command, word) or command.commands.get("list") or command
                options |= {name for parameter in command.params for name in parameter.opts}
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    yield from (
        f"make {target}: no such target" for target in re.findall(r"\bmake ([a-z-]+)", line) if target not in targets
    )
    known = {view.name for view in build_setting_views(Settings.model_construct())}
    yield from (
        f"{name} is not a setting" for name in re.findall(r"\bEXPORTS_[A-Z_]+", line) if name not in known | KITS
    )


def find_inner(group: TyperGroup, word: str) -> Any:
    """Return the group's command of that name; None if the word is an argument."""
    if group.name != get_command(app).name:
        return group.commands.get(word)
    try:
        return load_command(word)
    except LookupError:
        return None


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_box_is_checked(page: Path) -> None:
    name = page.relative_to(ROOT).as_posix()
    for box in parse_boxes(page.read_text(encoding="utf-8")):
        if runner := find_runner(name, box):
            assert Path(name).stem in (ROOT / runner).read_text(encoding="utf-8"), f"{runner} does not name {name}"
        else:
            assert list_wrong(box) == [], f"{name}, line {box.line}"


def test_unknown_names_are_found() -> None:
    assert [*list_unknown("$ exports list --limit 3 --outcome filed")] == []
    assert [*list_unknown("$ exports partners add br --kind customs_broker")] == []
    assert [*list_unknown("$ exports --profile staging list")] == []
    assert [*list_unknown("$ exports list --unknown")] != []
    assert [*list_unknown("$ make nonsense")] != []
    assert [*list_unknown("$ export EXPORTS_NONSENSE=1")] != []
    assert list_wrong(Box("", keeps_running=False, text="x", line=1)) != []
