"""The threads of the process that serves requests: accounts share them fairly, and a wait for one ends with its request."""

import asyncio
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, Self

import anyio
from anyio._backends import _asyncio  # anyio has no public name for its limiter of threads

from pipeline.core import deadline, tenancy
from pipeline.core.deadline import ServiceBusy
from pipeline.core.tenancy import NO_ACCOUNT

THREADS: Final = 40
#: An account's threads while another account uses some. More of them would only take turns in the interpreter, and each
#: turn delays the others.
SHARE: Final = 4
#: So long after its last use of a thread, an account still counts as one that uses some.
SHARED_SECONDS: Final = 10.0

#: The door that the request came to. A request that shows a credential came to none.
DOOR: Final[ContextVar[str]] = ContextVar("DOOR", default=NO_ACCOUNT)


class FairThreads(_asyncio.CapacityLimiter):
    """Gives a free thread to the account that has the fewest; among equals, to the one that got none for longest.

    So what counts is how long an account keeps threads: a large plan costs it more than a short question. One account never
    has all threads, even if it is alone. Before the account is known, the requests of each door have a share together.
    """

    __slots__ = "_clock", "_running", "_share", "_sharer_of", "_used_at", "_waiting"

    def __new__(cls, *_: object) -> Self:
        """Return a limiter without what `__init__` sets; the one of the base class takes no more arguments."""
        return object.__new__(cls)

    def __init__(self, threads: int = THREADS, share: int = SHARE, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(threads)
        self._share = share
        self._clock = clock
        self._running: Counter[str] = Counter()
        self._sharer_of: dict[object, str] = {}
        self._waiting: dict[str, OrderedDict[object, asyncio.Event]] = {}
        self._used_at: OrderedDict[str, float] = OrderedDict()

    def acquire_on_behalf_of_nowait(self, borrower: object) -> None:
        """Take a thread for the current account; raises WouldBlock if none is free for it."""
        sharer = _find_sharer()
        self._note_use()
        if sharer in self._waiting or not self._may_run(sharer):
            raise anyio.WouldBlock
        self._start(borrower, sharer)

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        """Wait for a thread for the current account. Raises ServiceBusy at the deadline of the request."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        try:
            self.acquire_on_behalf_of_nowait(borrower)
        except anyio.WouldBlock:
            await self._wait(borrower, _find_sharer())

    def release_on_behalf_of(self, borrower: object) -> None:
        """Return a thread; another account may get it."""
        self._borrowers.remove(borrower)
        sharer = self._sharer_of.pop(borrower)
        self._note_use()
        self._running[sharer] -= 1
        if not self._running[sharer]:
            del self._running[sharer]
        self._pass_on()

    async def _wait(self, borrower: object, sharer: str) -> None:
        given = asyncio.Event()
        self._waiting.setdefault(sharer, OrderedDict())[borrower] = given
        try:
            with anyio.move_on_after(deadline.seconds_left(math.inf)):
                await given.wait()
        except BaseException:
            if given.is_set():
                self.release_on_behalf_of(borrower)
            else:
                self._leave(borrower, sharer)
            raise
        if not given.is_set():
            self._leave(borrower, sharer)
            raise ServiceBusy("this process is busy with other requests")

    def _leave(self, borrower: object, sharer: str) -> None:
        del self._waiting[sharer][borrower]
        if not self._waiting[sharer]:
            del self._waiting[sharer]

    def _pass_on(self) -> None:
        while ready := [sharer for sharer in self._waiting if self._may_run(sharer)]:
            sharer = min(ready, key=lambda each: self._running[each])
            borrowers = self._waiting.pop(sharer)
            borrower, given = borrowers.popitem(last=False)
            if borrowers:
                self._waiting[sharer] = borrowers  # the last one in turn now
            self._start(borrower, sharer)
            given.set()

    def _start(self, borrower: object, sharer: str) -> None:
        self._borrowers.add(borrower)
        self._sharer_of[borrower] = sharer
        self._running[sharer] += 1

    def _may_run(self, sharer: str) -> bool:
        is_shared = any(account != sharer for account in self._used_at)
        most = self._share if is_shared else self.total_tokens - self._share
        return self._running[sharer] < most and len(self._borrowers) < self.total_tokens

    def _note_use(self) -> None:
        now, account = self._clock(), tenancy.current_account()
        if account != NO_ACCOUNT:
            self._used_at[account] = now
            self._used_at.move_to_end(account)
        while self._used_at and next(iter(self._used_at.values())) <= now - SHARED_SECONDS:
            self._used_at.popitem(last=False)


def _find_sharer() -> str:
    return tenancy.current_account() or DOOR.get()


def share_threads() -> None:
    """Let the threads of this event loop be shared fairly."""
    _asyncio._default_thread_limiter.set(FairThreads())  # noqa: SLF001
