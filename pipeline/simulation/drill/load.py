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
from pipeline.simulation.drill.history import EXPORT_EXECUTED, PartnerMessage, SubmittedPlan
from pipeline.simulation.partners.http import ReceivedRequest


class ClientThreads(ABC):
    """Threads, one a number; what ends one before its time is kept, and raised by `raise_errors` in the thread that holds them."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._finished = threading.Event()
        self._stopped = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"caller-{number}") for number in numbers
        ]

    @abstractmethod
    def run_client(self, number: int) -> None:
        """Ask until `_finished` is set and all that was begun has ended, or at once until `_stopped` is."""

    def start(self) -> None:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()

    def finish_submitting(self) -> None:
        """Begin nothing more; what was begun goes on until it has ended."""
        self._finished.set()

    @property
    def is_running(self) -> bool:
        """Whether anybody still asks."""
        return any(thread.is_alive() for thread in self._threads)

    def raise_errors(self) -> None:
        """Raise what ended a thread before its time."""
        if self._errors:
            raise self._errors[0]

    def stop(self) -> None:
        """Have everybody end, answered or not, and return once they have."""
        self._finished.set()
        self._stopped.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _run(self, number: int) -> None:
        try:
            self.run_client(number)
        except BaseException as error:  # noqa: BLE001 - it is raised by `raise_errors`
            self._errors.append(error)


CLIENT_COUNT: Final = 3
#: So many exports are under way at a time: enough for every process to have work, few enough to see each kill by itself.
MAX_IN_PROGRESS: Final = 6
#: One in so many answers is not believed to have come: the caller asks once more.
REPEAT_ONE_IN: Final = 10
_PAUSE_SECONDS: Final = 0.05
_RETRYABLE_CODES: Final = frozenset({"IDEMPOTENCY_IN_PROGRESS", "NOT_READY", "RATE_LIMITED"})


class DrillLog:
    """What callers and partners' endpoints wrote down, by seconds since the drill began; threads share it."""

    def __init__(self) -> None:
        self.submissions: list[SubmittedPlan] = []
        self.receipts: list[PartnerMessage] = []
        self._started_at = time.monotonic()
        self._executed: set[str] = set()
        self._lock = threading.Lock()

    def restart_clock(self) -> None:
        """Count time from this moment on."""
        self._started_at = time.monotonic()

    def elapsed(self) -> float:
        """Return the seconds since the drill began."""
        return time.monotonic() - self._started_at

    def record_request(self, request: ReceivedRequest) -> None:
        """Write down a message that a partner's endpoint has taken; what it refused it does not know."""
        if not 200 <= request.status < 300:
            return
        with self._lock:
            self.receipts.append(PartnerMessage(self.elapsed(), request.event_id, request.event_type, request.subject))
            if request.event_type == EXPORT_EXECUTED:
                self._executed.add(request.subject)

    def start_submission(self, batch_id: str, packages: int, limit: int) -> SubmittedPlan | None:
        """Write down that a plan is submitted from now on; None while `limit` are under way already."""
        with self._lock:
            if len(self.submissions) - len(self._executed) >= limit:
                return None
            submission = SubmittedPlan(batch_id, packages, self.elapsed())
            self.submissions.append(submission)
            return submission

    def count_in_progress(self, moment: float) -> int:
        """Return how many of the exports that were under way at that moment have not ended yet."""
        with self._lock:
            return sum(each.started_at <= moment and not self._has_ended(each) for each in self.submissions)

    @property
    def is_idle(self) -> bool:
        """Whether everything that was submitted is known to have ended."""
        with self._lock:
            return all(map(self._has_ended, self.submissions))

    def _has_ended(self, submission: SubmittedPlan) -> bool:
        return bool(submission.export_ids) and submission.export_ids[0] in self._executed


class LoadGenerator(ClientThreads):
    """Submit plans until they are told to `finish_submitting`, and ask for what was begun until it is answered; each has a chance of its own."""

    def __init__(self, api: Exports, plans: Sequence[Mapping[str, Any]], log: DrillLog, seed: int) -> None:
        super().__init__(range(1, CLIENT_COUNT + 1))
        self._api, self._plans, self._log, self._seed = api, plans, log, seed

    def run_client(self, number: int) -> None:
        """Submit one plan after another."""
        rng = random.Random(f"{self._seed}/{number}")  # noqa: S311 - repeatable, not unguessable
        count = 0
        while not self._finished.is_set():
            count += 1
            plan = copy.deepcopy(dict(rng.choice(self._plans)))
            plan["batchId"] = f"drill-{number}-{count:05d}"
            packages = sum(len(unit["packages"]) for unit in plan["units"])
            submission = self._start_submission(plan["batchId"], packages)
            if submission is not None:
                for _ in range(2 if rng.randrange(REPEAT_ONE_IN) == 0 else 1):
                    self._submit(plan, submission)

    def _start_submission(self, batch_id: str, packages: int) -> SubmittedPlan | None:
        while not self._finished.is_set():
            submission = self._log.start_submission(batch_id, packages, MAX_IN_PROGRESS)
            if submission is not None:
                return submission
            self._finished.wait(_PAUSE_SECONDS)
        return None

    def _submit(self, plan: Mapping[str, Any], submission: SubmittedPlan) -> None:
        """Ask until an answer comes, always under the same key; raises ApiProblem where the plan is refused."""
        while not self._stopped.is_set():
            submission.requests += 1
            try:
                answer = self._api.execute(plan, idempotency_key=f"key-{submission.batch_id}")
            except ApiUnreachable:
                pass
            except ApiProblem as problem:
                if problem.code not in _RETRYABLE_CODES:
                    raise
            else:
                submission.export_ids.append(answer.export.export_id)
                if submission.answered_at is None:
                    submission.answered_at = self._log.elapsed()
                return
            self._stopped.wait(_PAUSE_SECONDS)
