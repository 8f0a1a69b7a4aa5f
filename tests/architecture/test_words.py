"""The word rule of CONTRIBUTING.md: no text in the project has a private or old-fashioned word."""

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT
from tests.architecture.words import FORBIDDEN_WORDS

FORBIDDEN = re.compile(
    rf"\b({'|'.join(FORBIDDEN_WORDS)}|in vain|at the utmost|of which"
    r"|(?<!there )(?:is|are) no (?!longer\b|more\b|later\b|earlier\b)[a-z]+)\b",
    re.IGNORECASE,
)

#: Every forbidden text has one of these between its words, whatever stands around it.
CANDIDATES = [f" {words} " for words in (*FORBIDDEN_WORDS, "in vain", "at the utmost", "of which", "is no", "are no")]

#: What may stand in a module within or between the words of one text: the prefix of a string, an escaped character.
NOTATION = re.compile(r"\b[bfru]{1,2}(?=[\"'])|\\.", re.IGNORECASE)
NO_LETTERS = re.compile(r"[^a-z]+")

#: The files that list the words.
WORD_LISTS = {"tests/architecture/test_words.py", "tests/architecture/words.py"}

SUFFIXES = {
    ".md",
    ".html",
    ".txt",
    ".xml",
    ".j2",
    ".toml",
    ".yaml",
    ".yml",
    ".css",
    ".js",
    ".mjs",
    ".ts",
    ".typ",
    ".mako",
}

#: Texts of others: licences and schemas that we copy, and tariff texts that the rules quote.
COPIED = ("*LICENSE*", "templates/console/vendor/*", "tests/documents/formats/ubl-2.1/*", "config/rules/*.yaml")


def list_files() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    found = [
        name
        for name in listed
        if (name.endswith(".py") or Path(name).suffix in SUFFIXES or name in {"Makefile", ".ci/run", "Procfile"})
        and name not in WORD_LISTS
        and not any(fnmatchcase(name, pattern) for pattern in COPIED)
        and not (ROOT / name).is_symlink()
    ]
    assert len(found) > 500, "there is nothing to read"
    return found


def read_prose(name: str) -> Iterator[tuple[int, str]]:
    """Yield the texts of a file with their lines: of Python its comments and the strings with spaces, of others every line."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if not name.endswith(".py"):
        yield from enumerate(text.splitlines(), 1)
        return
    if not has_candidate(text):
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield node.lineno, node.value
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name.replace("_", " ")


def has_candidate(text: str) -> bool:
    """Return whether the texts of a module may have a forbidden word; to read them all takes seconds."""
    words = NO_LETTERS.sub(" ", f" {text} {NOTATION.sub(' ', text)} ".lower())
    return any(each in words for each in CANDIDATES)


def find_forbidden(name: str) -> list[str]:
    """Return the forbidden words of a file with their places."""
    return [
        f"{name}:{line}: {match.group()}: {' '.join(text[max(0, match.start() - 40) : match.end() + 40].split())}"
        for line, text in read_prose(name)
        for match in FORBIDDEN.finditer(text)
    ]


def test_no_text_has_a_forbidden_word() -> None:
    assert [found for name in list_files() for found in find_forbidden(name)] == []


@pytest.mark.parametrize(
    ("text", "forbidden"),
    [
        ("it was told", True),
        ("whoever calls", True),
        ("that is no plan", True),
        ("two, of which one", True),
        ("it is no longer held", False),
        ("there is no plan", False),
        ("amended, recommended, mending", False),
        ("plain, towed", False),
    ],
)
def test_forbidden_words_are_whole_words(text: str, *, forbidden: bool) -> None:
    assert bool(FORBIDDEN.search(text)) is forbidden


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ('"it was told"', True),
        ("def test_it_was_told(): ...", True),
        (r'"one\ntold"', True),
        ('("that is "\n f"no plan")', True),
        ("# there\n# is no plan", True),
        ("told2 = mended_by = untold", True),
        ('"it is retold"', False),
    ],
)
def test_candidates_include_every_way_to_write_a_text(module: str, *, expected: bool) -> None:
    assert has_candidate(module) is expected
