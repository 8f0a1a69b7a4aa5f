"""The only user of Jinja: a template of the templates room, and facts, become text."""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.core.money import format_plain

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"


def _autoescape(name: str | None) -> bool:
    # Jinja's own select_autoescape looks at the last suffix only; here everything is markup unless it says it is not.
    return name is None or not name.endswith(".txt")


def _exact_digits(value: object) -> Any:
    """Return the digits of a value as they came, for documents that machines read."""
    exact = getattr(value, "exact", value)  # of a Printed
    return format_plain(exact) if isinstance(exact, Decimal) else exact


@cache
def environment() -> Environment:
    """Return the environment: a fact that is missing is an error, and every value is escaped unless the file is `.txt`."""
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
    """Return `template` (a path below templates/) with `facts` put in."""
    return environment().get_template(template).render(facts)
