"""Reads the metrics of running processes before and during a fault, and lets promtool continue them for an hour."""

import json
import math
import re
import shutil
import subprocess
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.monitoring import FOLDER, find_selectors, read_rules
from tests.support.ports import LOOPBACK

#: The healthy page lasts so many minutes; then the fault begins, and lasts until the last minute.
HEALTHY_MINUTES, LAST_MINUTE = 20, 90  # long enough for each rule
_LAST_SWEEP: Final = "exports_sweep_last_success_timestamp_seconds"
#: What rises while a fault lasts: counters, ages and instants. Other gauges keep their value.
_RISING: Final = ("_seconds", "_total", "_count", "_sum", "_bucket")
#: The metrics that the rules read.
_READ: Final = {selector.metric for rule in read_rules() for selector in find_selectors(rule["expr"])}


@dataclass(frozen=True)
class Page:
    """The samples of all processes, by their series, and the time of this machine at which they were read."""

    at: float
    samples: Mapping[str, float]


class AlertHistory:
    """The pages of the service's processes: port by instance. Web processes have names that begin with `web`."""

    def __init__(self, ports: Mapping[str, int]) -> None:
        self._ports, self._client = ports, httpx.Client(trust_env=False, timeout=30)
        self.healthy = self.read()

    def read(self) -> Page:
        """Read all processes, as Prometheus does: `up` is 0 for one that does not answer."""
        samples: dict[str, float] = {}
        for instance, port in self._ports.items():
            job = "exports-web" if instance.startswith("web") else "exports-processes"
            target = {"job": job, "instance": instance}
            try:
                answer = self._client.get(f"http://{LOOPBACK}:{port}/metrics").raise_for_status()
            except httpx.HTTPError:
                samples[_write_series("up", target)] = 0
                continue
            samples[_write_series("up", target)] = 1
            lines = [line for line in answer.text.splitlines() if re.split("[{ ]", line)[0] in _READ]
            for family in text_string_to_metric_families("\n".join(lines) + "\n"):
                for sample in family.samples:
                    if math.isfinite(sample.value):
                        samples[_write_series(sample.name, {**sample.labels, **target})] = sample.value
        return Page(time.time(), samples)

    def value(self, metric: str, *labels: str) -> float:
        """Return the sum of the samples of a metric now, of those with all these texts in their labels."""
        texts = (f"{metric}{{", *labels)
        return sum(value for series, value in self.read().samples.items() if all(each in series for each in texts))

    def find_wrong(self, first: Page, expected: Collection[str], folder: Path) -> list[str]:
        """Return the expected alerts that fire while the service is healthy, or do not if the fault goes on.

        What has risen since the page `first`, which was read before the fault, goes on rising.
        """
        second = self.read()
        series = {*self.healthy.samples, *second.samples}
        inputs = [{"series": each, "values": self._continue(each, first, second)} for each in sorted(series)]
        tests = [
            {
                "expr": f'group(ALERTS{{alertname="{name}", alertstate="firing"}})',
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": "{}", "value": 1}] * fires,
            }
            for name in expected
            for minute, fires in ((HEALTHY_MINUTES - 1, False), (LAST_MINUTE, True))
        ]
        content = {
            "rule_files": [str(FOLDER / "alerts.yml")],
            "evaluation_interval": "1m",
            "tests": [{"interval": "1m", "input_series": inputs, "promql_expr_test": tests}],
        }
        (folder / "history.yml").write_text(json.dumps(content), encoding="utf-8")
        checked = subprocess.run(
            [str(shutil.which("promtool")), "test", "rules", str(folder / "history.yml")],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        written = checked.stdout + checked.stderr
        wrong = [name for name in expected if re.search(rf"\b{name}\b", written)]
        assert bool(wrong) == bool(checked.returncode), written
        return wrong

    def _continue(self, series: str, first: Page, second: Page) -> str:
        """Return the values of a series, in promtool's words."""
        name = series.partition("{")[0]
        healthy, later = _read_value(series, self.healthy, minute=0), second.samples.get(series, 0)
        before = first.samples.get(series, later if name.endswith("_seconds") else 0)  # only a counter begins at 0
        rise = max(0.0, (later - before) / (second.at - first.at) * 60) if name.endswith(_RISING) else 0
        begun = _write_values(healthy, 60 if name == _LAST_SWEEP else 0, HEALTHY_MINUTES)
        going_on = _read_value(series, second, minute=HEALTHY_MINUTES)
        return f"{begun} {_write_values(going_on, rise, LAST_MINUTE - HEALTHY_MINUTES + 1)}"


def _write_values(value: float | None, rise: float, minutes: int) -> str:
    return f"_x{minutes}" if value is None else f"{value:.6f}+{rise:.6f}x{minutes - 1}"


def _read_value(series: str, page: Page, *, minute: int) -> float | None:
    """Return the value in a page; an instant is moved, so that the page was read at this minute of promtool's time."""
    value = page.samples.get(series)
    is_instant = series.partition("{")[0].endswith(("_timestamp_seconds", "_start_time_seconds"))
    return value - page.at + minute * 60 if value is not None and is_instant else value


def _write_series(name: str, labels: Mapping[str, str]) -> str:
    return name + "{" + ",".join(f"{label}={json.dumps(text)}" for label, text in sorted(labels.items())) + "}"
