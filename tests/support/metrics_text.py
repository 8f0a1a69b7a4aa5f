"""The text of a metrics page: its families, read by the parser of prometheus_client, and checked by promtool."""

import shutil
import subprocess

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import skip_or_fail


def parse(text: str) -> dict[str, Metric]:
    """Return the families of a page by their names; a counter's name ends with `_total`."""
    families = list(text_string_to_metric_families(text))
    named = {family.name + ("_total" if family.type == "counter" else ""): family for family in families}
    assert len(named) == len(families), "a family stands twice on the page"
    return named


def scrape(port: int) -> dict[str, Metric]:
    """Return the families of a process's page."""
    answer = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30, trust_env=False)
    return parse(answer.raise_for_status().text)


def value(families: dict[str, Metric], sample: str, **labels: str) -> float:
    """Return the sum of the samples of this name that have these labels."""
    return sum(
        each.value
        for family in families.values()
        for each in family.samples
        if each.name == sample and labels.items() <= each.labels.items()
    )


def check_by_promtool(text: str) -> str:
    """Return what promtool criticizes; empty if nothing."""
    promtool = shutil.which("promtool")
    if promtool is None:
        skip_or_fail("promtool is not installed; the Debian package is prometheus")
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    return checked.stdout + checked.stderr if checked.returncode else ""
