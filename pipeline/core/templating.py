"""Rendering of the templates in templates/; the only file that uses Jinja."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.core.money import format_plain

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"


def _autoescape(name: str | None) -> bool:
    # Jinja's select_autoescape looks only at the last suffix; here every template is markup unless it ends in .txt.
    return name is None or not name.endswith(".txt")


def _exact_digits(value: object) -> Any:
    """Return a value with its original digits, for documents that machines read."""
    exact = getattr(value, "exact", value)  # `exact` is a member of Printed
    return format_plain(exact) if isinstance(exact, Decimal) else exact


@cache
def environment() -> Environment:
    """Return the environment: a missing value is an error, and every value is escaped except in `.txt` files."""
    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=_autoescape,  # noqa: S701 - on for all but .txt
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters["exact"] = _exact_digits
    return env


def render(template: str, **facts: object) -> str:
    """Return the text of `template` (a path below templates/) with `facts` as its values."""
    return environment().get_template(template).render(facts)


def render_pieces(template: str, **facts: object) -> Iterator[str]:
    """Yield the text of `template` in pieces; it waits where a loop over an iterator of `facts` waits."""
    return environment().get_template(template).generate(facts)
