"""Every failpoint of the product, read from its source, and the tests that crash there."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pipeline.workflow.steps import STEPS

ROOT: Final = Path(__file__).resolve().parents[3]
SOURCE_FOLDERS: Final = ("config", "pipeline", "tasks")
MOMENTS: Final = ("before", "mid", "after")
#: How a failpoint of every step begins in the source.
STEP_NAMES: Final = ("{spec.name}.", "{step.context.step}.")

#: The processes at each point: workers at `steps` and `delivery`; at the others the API, the sweeper or the intake.
STEP_POINTS: Final = tuple(f"{spec.name}.{moment}" for spec in STEPS for moment in MOMENTS)
DELIVERY_POINTS: Final = ("delivery.before", "delivery.between", "delivery.sent", "delivery.mid", "delivery.after")
SWEEP_POINTS: Final = tuple(f"sweep.{moment}" for moment in MOMENTS)
ACCEPT_POINTS: Final = tuple(f"accept.{moment}" for moment in MOMENTS)
AMEND_POINTS: Final = tuple(f"amend.{moment}" for moment in MOMENTS)
INTAKE_POINTS: Final = tuple(f"intake.{moment}" for moment in MOMENTS)
HOLD_POINTS: Final = ("hold.mid", "hold.after", "release.mid", "release.after")
ANSWER_POINTS: Final = ("answer.mid", "answer.after")
FILE_POINTS: Final = ("attach.mid", "attach.after")
CLOCK_POINTS: Final = ("clock.mid", "clock.after")
RESET_POINTS: Final = ("clock_reset.mid", "clock_reset.after")
CALENDAR_POINTS: Final = ("calendar.mid", "calendar.after", "calendar_end.mid", "calendar_end.after")
LATE_POINTS: Final = ("overdue.mid", "overdue.after")
FEED_POINTS: Final = ("feed.mid", "feed.after")
WAY_BACK_POINTS: Final = (*ANSWER_POINTS, "reply.mid", "reply.after", "withdraw.mid", "withdraw.after")

ACT_POINTS: Final = (
    *ACCEPT_POINTS,
    *AMEND_POINTS,
    *INTAKE_POINTS,
    *HOLD_POINTS,
    *FILE_POINTS,
    *CLOCK_POINTS,
    *RESET_POINTS,
    *CALENDAR_POINTS,
    *LATE_POINTS,
    *FEED_POINTS,
    *WAY_BACK_POINTS,
)
POINTS: Final = (*STEP_POINTS, *DELIVERY_POINTS, *SWEEP_POINTS, *ACT_POINTS)


def find_points() -> Iterator[tuple[str, str]]:
    """Yield every failpoint that the product calls, and the file; one for each step if it is named after the step."""
    for path in sorted(path for folder in SOURCE_FOLDERS for path in (ROOT / folder).rglob("*.py")):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if "failpoint(" in text else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "failpoint":
                (argument,) = node.args
                for point in _read_argument(argument):
                    yield point, path.relative_to(ROOT).as_posix()


def _read_argument(argument: ast.expr) -> list[str]:
    if isinstance(argument, ast.Constant):
        return [str(argument.value)]
    match ast.unparse(argument).strip("f'"):
        case str(text) if text.startswith(STEP_NAMES):
            return [f"{spec.name}.{text.rpartition('.')[2]}" for spec in STEPS]
        case text:
            raise AssertionError(f"a failpoint must have a literal name or its step's: {text}")
