"""Figures of a comparison: its sides take turns, so that other load on the machine affects all of them alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

Round = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class Figure:
    """The median of one measure of one side, and of its ratios to the yardstick, round by round."""

    part: str
    side: str
    measure: str
    median: float
    lowest: float
    highest: float
    ratio: float | None = None
    yardstick: str | None = None


@dataclass(frozen=True)
class Skipped:
    """A part that was not measured, and why."""

    part: str
    reason: str


def compare(part: str, sides: Mapping[str, Round], rounds: int) -> list[Figure]:
    """Run each side once in every round, in alternating order; the first side is the yardstick.

    A run returns its measures by name. The first round is a warm-up and does not count.
    """
    played: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(rounds + 1):
        for side in list(sides)[:: 1 if number % 2 else -1]:
            for measure, value in sides[side]().items():
                if number:
                    played[side, measure].append(value)
    yardstick = next(iter(sides))
    figures = []
    for (side, measure), values in sorted(played.items(), key=lambda item: list(sides).index(item[0][0])):
        against = played[yardstick, measure]
        ratio = None if side == yardstick else median(a / b for a, b in zip(values, against, strict=True))
        figures.append(
            Figure(
                part,
                side,
                measure,
                median(values),
                min(values),
                max(values),
                ratio,
                None if ratio is None else yardstick,
            )
        )
    return figures
