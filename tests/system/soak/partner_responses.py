"""Partners' endpoints as they are: most take what comes, some fail, some dawdle, some redirect, some hang up."""

from __future__ import annotations

import itertools
import random
import threading
import time
from typing import Final

FAILS, DISCONNECTS, STALLS, REDIRECTS = 0.10, 0.03, 0.02, 0.01
STALL_SECONDS: Final = 2.0


class RandomResponses:
    """How each request is answered; the threads of the endpoint each have a chance of their own."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._numbers = itertools.count()
        self._own = threading.local()

    def __call__(self) -> int | None:
        """Return a status, or None to hang up; it may take a while."""
        if not hasattr(self._own, "chance"):
            self._own.chance = random.Random(f"{self._seed}/partner/{next(self._numbers)}")
        drawn = self._own.chance.random()
        for share, answer in ((FAILS, 500), (DISCONNECTS, None), (REDIRECTS, 307)):
            if drawn < share:
                return answer
            drawn -= share
        if drawn < STALLS:
            time.sleep(STALL_SECONDS)  # it is the fault itself
        return 204
