"""The goals of a run: each has a sentence, the figure of this run, and whether the figure meets it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """One goal; `met` is None if this run did not measure it, and `figure` then says why."""

    id: str
    goal: str
    figure: str
    met: bool | None


@dataclass(frozen=True)
class Extent:
    """How much to measure."""

    rounds: int = 5
    exports: int = 12  # whole exports in a round
    short_exports: int = 60  # exports without documents in a round
    accept_seconds: float = 3.0
    accepted: int = 40  # plans that one client accepts in a round
    documents: int = 20  # units whose documents are made in a round
    invoice_lines: Sequence[int] = (5, 50, 500)
    invoices: int = 0  # in a round; 0: enough for the clock of the processor
    memory_lines: Sequence[tuple[int, float]] = ((500, 250), (5_000, 300))
    latencies: int = 100
    warm_up: int = 12  # exports before those that are measured; a database prepares a statement at its fifth use
    calls: int = 15  # of each probe
    stored: int = 1_000_000
    queued: int = 100_000
    numbered: int = 15_000  # units that one account has numbered; more than any machine does in all rounds
    numbering_seconds: float = 4.0
    waiting: int = 1_000
    waiting_for: int = 20  # exports of the other account
    starts: int = 5
    settle_seconds: float = 5.0  # until the first sweeps are over
    idle_seconds: float = 20.0
    demo: bool = True


#: A check that every part still runs: one short round.
QUICK = Extent(
    rounds=1,
    exports=2,
    short_exports=2,
    accept_seconds=0.3,
    accepted=5,
    documents=2,
    invoice_lines=(5,),
    invoices=2,
    memory_lines=((5, 250),),
    latencies=2,
    warm_up=1,
    calls=2,
    stored=2_000,
    queued=100,
    numbered=3_000,
    numbering_seconds=0.1,
    waiting=4,
    waiting_for=2,
    starts=1,
    settle_seconds=0,
    idle_seconds=2,
    demo=False,
)


def at_least(id: str, goal: str, least: float, figure: float, note: str = "") -> Goal:  # noqa: A002 - the name in the report
    """Return a goal that is met by `least` or more."""
    return Goal(id, f"{goal} >= {least:g}", _show(figure, note), round(figure, 3) >= least)


def at_most(id: str, goal: str, most: float, figure: float, note: str = "") -> Goal:  # noqa: A002 - as above
    """Return a goal that is met by `most` or less."""
    return Goal(id, f"{goal} <= {most:g}", _show(figure, note), round(figure, 3) <= most)


def unmeasured(id: str, goal: str, reason: str) -> Goal:  # noqa: A002 - as above
    """Return a goal without a figure."""
    return Goal(id, goal, f"not measured: {reason}", None)


def _show(figure: float, note: str) -> str:
    # Three digits say more than the machine's noise allows.
    shown = f"{figure:.0f}" if abs(figure) >= 100 else f"{figure:.3g}"
    return f"{shown} ({note})" if note else shown
