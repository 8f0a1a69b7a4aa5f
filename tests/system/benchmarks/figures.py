"""Comparisons: the sides take turns, so that other load on the machine affects all of them alike."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

#: Runs one round of a side; returns its measures by name.
Round = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class Comparison:
    """The measures of every round, by side and name."""

    rounds: Mapping[str, Mapping[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def median(self, side: str, measure: str) -> float:
        """Return the median of one measure of one side."""
        return median(self.rounds[side][measure])

    def ratio(self, measure: str, side: str, against: str) -> float:
        """Return the median of the ratios between two sides, round by round."""
        pairs = zip(self.rounds[side][measure], self.rounds[against][measure], strict=True)
        return median(one / other for one, other in pairs)


def compare(sides: Mapping[str, Round], rounds: int) -> Comparison:
    """Run each side once in every round, in alternating order. The first round is a warm-up and does not count."""
    found = Comparison()
    for number in range(rounds + 1):
        for side in list(sides)[:: 1 if number % 2 else -1]:
            for measure, value in sides[side]().items():
                if number:
                    found.rounds[side][measure].append(value)
    return found
