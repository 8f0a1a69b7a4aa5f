"""Callers who have plans executed as fast as they are, and ask again under the same key whenever no answer came."""

from __future__ import annotations

import copy
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pipeline.client import ApiProblem, ApiUnreachable, Exports
from pipeline.simulation.drill.history import ENDED, Receipt, Submission
from pipeline.simulation.partners.http import Came


class Crowd(ABC):
    """Threads, one a number; what ends one before its time is kept, and raised by `check` in the thread that holds them."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._finished = threading.Event()
        self._abandoned = threading.Event()
        self._broken: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"caller-{number}") for number in numbers
        ]

    @abstractmethod
    def ask(self, number: int) -> None:
        """Ask until `_finished` is set and all that was begun has ended, or at once until `_abandoned` is."""

    def start(self) -> None:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Begin nothing more; what was begun goes on until it has ended."""
        self._finished.set()

    @property
    def working(self) -> bool:
        """Whether anybody still asks."""
        return any(thread.is_alive() for thread in self._threads)

    def check(self) -> None:
        """Raise what ended a thread before its time."""
        if self._broken:
            raise self._broken[0]

    def abandon(self) -> None:
        """Have everybody end, answered or not, and return once they have."""
        self._finished.set()
        self._abandoned.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _run(self, number: int) -> None:
        try:
            self.ask(number)
        except BaseException as error:  # noqa: BLE001 - it is raised by `check`
            self._broken.append(error)


CALLERS: Final = 3
#: So many exports are under way at a time: enough for every process to have work, few enough to see each kill by itself.
UNDER_WAY: Final = 6
#: One in so many answers is not believed to have come: the caller asks once more.
ASKED_TWICE: Final = 10
_PAUSE_SECONDS: Final = 0.05
_LATER: Final = frozenset({"IDEMPOTENCY_IN_PROGRESS", "NOT_READY", "RATE_LIMITED"})


class Log:
    """What callers and partners' endpoints wrote down, by seconds since the drill began; threads share it."""

    def __init__(self) -> None:
        self.submissions: list[Submission] = []
        self.receipts: list[Receipt] = []
        self._began = time.monotonic()
        self._ended: set[str] = set()
        self._lock = threading.Lock()

    def begin_now(self) -> None:
        """Count time from this moment on."""
        self._began = time.monotonic()

    def now(self) -> float:
        """Return the seconds since the drill began."""
        return time.monotonic() - self._began

    def seen(self, came: Came) -> None:
        """Write down a message that a partner's endpoint has taken; what it refused it does not know."""
        if not 200 <= came.status < 300:
            return
        with self._lock:
            self.receipts.append(Receipt(self.now(), came.event_id, came.event_type, came.subject))
            if came.event_type == ENDED:
                self._ended.add(came.subject)

    def begin(self, batch_id: str, packages: int, limit: int) -> Submission | None:
        """Write down that a plan is submitted from now on; None while `limit` are under way already."""
        with self._lock:
            if len(self.submissions) - len(self._ended) >= limit:
                return None
            made = Submission(batch_id, packages, self.now())
            self.submissions.append(made)
            return made

    def under_way(self, at: float) -> int:
        """Return how many of the exports that were under way at that moment have not ended yet."""
        with self._lock:
            return sum(each.began <= at and not self._has_ended(each) for each in self.submissions)

    @property
    def at_rest(self) -> bool:
        """Whether everything that was submitted is known to have ended."""
        with self._lock:
            return all(map(self._has_ended, self.submissions))

    def _has_ended(self, submission: Submission) -> bool:
        return bool(submission.answers) and submission.answers[0] in self._ended


class Callers(Crowd):
    """Submit plans until they are told to `finish`, and ask for what was begun until it is answered; each has a chance of its own."""

    def __init__(self, api: Exports, plans: Sequence[Mapping[str, Any]], log: Log, seed: int) -> None:
        super().__init__(range(1, CALLERS + 1))
        self._api, self._plans, self._log, self._seed = api, plans, log, seed

    def ask(self, number: int) -> None:
        """Submit one plan after another."""
        chance = random.Random(f"{self._seed}/{number}")  # noqa: S311 - repeatable, not unguessable
        count = 0
        while not self._finished.is_set():
            count += 1
            plan = copy.deepcopy(dict(chance.choice(self._plans)))
            plan["batchId"] = f"drill-{number}-{count:05d}"
            packages = sum(len(unit["packages"]) for unit in plan["units"])
            submission = self._begun(plan["batchId"], packages)
            if submission is not None:
                for _ in range(2 if chance.randrange(ASKED_TWICE) == 0 else 1):
                    self._submit(plan, submission)

    def _begun(self, batch_id: str, packages: int) -> Submission | None:
        while not self._finished.is_set():
            submission = self._log.begin(batch_id, packages, UNDER_WAY)
            if submission is not None:
                return submission
            self._finished.wait(_PAUSE_SECONDS)
        return None

    def _submit(self, plan: Mapping[str, Any], submission: Submission) -> None:
        """Ask until an answer comes, always under the same key; raises ApiProblem where the plan is refused."""
        while not self._abandoned.is_set():
            submission.tries += 1
            try:
                answer = self._api.execute(plan, idempotency_key=f"key-{submission.batch_id}")
            except ApiUnreachable:
                pass
            except ApiProblem as problem:
                if problem.code not in _LATER:
                    raise
            else:
                submission.answers.append(answer.export.export_id)
                if submission.answered is None:
                    submission.answered = self._log.now()
                return
            self._abandoned.wait(_PAUSE_SECONDS)
