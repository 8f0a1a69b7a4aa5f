"""Realistic answers of partners' endpoints: most accept, some fail, some are slow, some redirect, some hang up."""

import itertools
import random
import threading
import time
from typing import Final

FAILS, DISCONNECTS, STALLS, REDIRECTS = 0.10, 0.03, 0.02, 0.01
STALL_SECONDS: Final = 2.0


class RandomResponses:
    """The answers to requests; each thread of the endpoint has its own random numbers."""

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
            time.sleep(STALL_SECONDS)  # the pause is the fault
        return 204
