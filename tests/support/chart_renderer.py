"""Lint and render a Helm chart in a process of its own, without a cluster: Helm's library starts threads that stay.

It reads one JSON list from standard input, of values to render the chart with, and prints a list of the results.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import helm_python

RELEASE: Final = "shop"
NAMESPACE: Final = "trade"


def render(folder: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rendered files by name as `files`, or as `error` why Helm refuses the values; and what lint finds."""
    lint = helm_python.lint(folder, values, strict=True)["messages"]
    try:
        with helm_python.Chart.load(folder) as chart:
            chart.validate_schema(values)
            return {"files": chart.render(values, name=RELEASE, namespace=NAMESPACE), "lint": lint}
    except helm_python.HelmError as error:
        return {"error": str(error), "lint": lint}


if __name__ == "__main__":
    chosen = Path(sys.argv[1])
    json.dump([render(chosen, values) for values in json.load(sys.stdin)], sys.stdout)
