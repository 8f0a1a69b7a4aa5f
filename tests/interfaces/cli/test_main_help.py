"""The help: its panels, `exports help`, the examples, and completion in real shells."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from pipeline.interfaces.cli.main import PANELS
from pipeline.interfaces.cli.output import ExitCode
from tests.interfaces.cli.test_cli_machine import list_commands
from tests.support.command_line import Commands, run_program

#: The commands with an example, because their options need one.
WITH_EXAMPLE = 12

FOLDER_OF_EXPORTS = Path(sys.executable).parent

BASH = """
source <(_EXPORTS_COMPLETE=source_bash exports)
COMP_WORDS=(exports accounts cr); COMP_CWORD=2
_exports_completion exports cr accounts
echo "${COMPREPLY[@]}"
"""

FISH = """
_EXPORTS_COMPLETE=source_fish exports | source
complete -C 'exports accounts cr'
"""

# zsh completes only in a terminal: one is opened, the line is typed with a tab, and is printed instead of run.
ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PROMPT=; autoload -U compinit; compinit -u -d $HOME/dump; eval "$(_EXPORTS_COMPLETE=source_zsh exports)"; echo REA""DY'
while zpty -r shell line; do [[ $line == *READY* ]] && break; done
zpty -w -n shell $'exports accounts cr\t'
while zpty -r shell line '*create*'; do print -r -- "$line"; break; done
zpty -d shell
"""


def test_help_fits_80_columns_and_names_exit_codes_and_environment(commands: Commands) -> None:
    shown = commands("--help", COLUMNS="80").stdout
    assert max(map(len, shown.splitlines())) <= 80
    text = " ".join(shown.split())
    for code in ExitCode:
        assert code is ExitCode.INTERRUPTED or f"{int(code)} " in text.partition("Exit codes:")[2]
    assert "EXPORTS_API_URL" in text.partition("Environment:")[2]
    for name in PANELS:
        assert re.search(rf"^│ {name} ", shown, re.MULTILINE), name


@pytest.mark.parametrize("words", [(), ("accounts",), ("accounts", "list")], ids=" ".join)
def test_help_is_a_command_too(commands: Commands, words: tuple[str, ...]) -> None:
    asked = commands("help", *words)
    assert (asked.exit_code, asked.stdout) == (0, commands(*words, "--help").stdout)


def test_examples_in_the_help_are_valid() -> None:
    found = 0
    for path, command in list_commands().items():
        if command.epilog is None:
            continue
        found += 1
        program, *words = shlex.split(command.epilog.removeprefix("Example: "))
        assert (program, tuple(words[: len(path)])) == ("exports", path)
        command.make_context(path[-1], words[len(path) :])  # raises an error for a wrong option or value
    assert found == WITH_EXAMPLE


@pytest.mark.system
@pytest.mark.parametrize(
    ("shell", "program"), [("bash", ("--norc", "-c", BASH)), ("fish", ("-c", FISH)), ("zsh", ("-f", "-c", ZSH))]
)
def test_command_is_completed(tmp_path: Path, shell: str, program: tuple[str, ...]) -> None:
    if shutil.which(shell) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{shell} is not installed")
        pytest.skip(f"{shell} is not installed")
    printed = run_program([shell, *program], tmp_path, PATH=f"{FOLDER_OF_EXPORTS}:{os.environ['PATH']}", TERM="dumb")
    assert "create" in printed
