"""The docs name only existing settings, commands and files."""

import re
from pathlib import Path

from rich.console import Console

from pipeline.interfaces.cli.output import save_picture
from tests.interfaces.cli.test_cli_machine import list_commands

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_docs_name_only_existing_commands() -> None:
    commands = list_commands()
    nouns = {path[0] for path in commands if len(path) > 1}
    alone = {"deliveries"}  # runs the process of that name if no command follows
    shortened = "artifacts"  # takes an id instead of `list`
    named = set()
    for page in PAGES:
        # The first word of an event's hash input is not a command.
        text = page.read_text().replace("`exports event v1`", "")
        for first, second in re.findall(r"(?:`|\$ |&& |\$\()exports ([a-z][a-z-]*)(?: ([a-z-]+))?", text):
            if first in alone and not second:
                continue
            command = (first, second) if first in nouns else (first,)
            named.add((first, "list") if first == shortened and command not in commands else command)
    assert len(named) >= 10
    assert named - commands.keys() == {("help",)}


def test_links_in_docs_exist() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which does not exist"


def test_pictures_load_nothing_from_the_web(tmp_path: Path) -> None:
    console = Console(record=True, width=40, file=(tmp_path / "screen").open("w"))
    console.print("[bold]✓[/] done")
    save_picture(console, tmp_path / "picture.svg")
    console.file.close()
    for picture in (tmp_path / "picture.svg", *(ROOT / "docs/images").glob("*.svg")):
        text = picture.read_text()
        assert text.startswith("<svg")
        assert not re.search(r"@font-face|url\((?!#)|@import|xlink:href|<image", text)
