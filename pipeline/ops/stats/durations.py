"""Durations in logarithmic bins: counts of several periods add up, and give percentiles within a tenth."""

import math
from collections.abc import Mapping
from typing import Final

#: Each bin is a fifth longer than the one before; bin 0 is a millisecond.
_FACTOR: Final = 1.2


def bin_of(seconds: float) -> int:
    """Return the bin of a duration."""
    return round(math.log(max(seconds * 1000, 1), _FACTOR))


def percentile(counts: Mapping[int, int], share: float) -> float | None:
    """Return the duration in seconds within which this share of the counted ones stayed; None if none was counted."""
    wanted = share * sum(counts.values())
    for number in sorted(counts):
        wanted -= counts[number]
        if wanted <= 0 and counts[number]:
            return _FACTOR**number / 1000
    return None
