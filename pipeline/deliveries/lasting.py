"""How long the links in a letter are good: the same end on every try, and time enough when it is sent again much later."""

from __future__ import annotations

import math
from datetime import datetime, timedelta


def until(written_at: datetime, days: int, sent_at: datetime) -> datetime:
    """Return when links end in a letter about what was written at `written_at`: after `days`, or as many times that as it takes.

    At least half of `days` is left when it is sent. So all tries of one sending say the same, as far as they lie within the
    other half, and a letter that a person has sent again after weeks is one that can be answered.
    """
    age = (sent_at - written_at) / timedelta(days=days)
    return (written_at + max(1, math.ceil(age + 0.5)) * timedelta(days=days)).replace(microsecond=0)
