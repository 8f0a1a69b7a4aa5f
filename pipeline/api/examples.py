"""Bodies for the OpenAPI document: a small approved plan that passes every check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

PLAN: Final[dict[str, Any]] = json.loads((Path(__file__).parent / "plan.example.json").read_text(encoding="utf-8"))

EXECUTE: Final[dict[str, Any]] = {"accountId": PLAN["accountId"], "batchId": PLAN["batchId"], "plan": PLAN}
