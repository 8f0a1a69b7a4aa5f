"""The places of a process: how many requests may be in progress, by what they ask for and by who sends them."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.accounts.sessions import find_network
from pipeline.core.errors import Busy, RateLimited
from pipeline.interfaces.api.errors import build_busy, problem_response
from pipeline.interfaces.api.fair_threads import DOOR

_STREAM: Final = "text/event-stream"

#: Probes must get an answer even when the process is busy.
_UNLIMITED_PATHS: Final = frozenset({"/livez", "/readyz"})


@dataclass(frozen=True)
class Door:
    """Addresses that answer before the sender is known. They have their own places and threads: a flood closes no other door.

    A request with the `credential` header takes no place here: its route checks that before it reads a body.
    """

    name: str
    paths: tuple[str, ...]
    credential: str | None = None
    part: int = 20  # of the maximum of the process
    body_seconds: float = 10  # a form has a few kilobytes


#: The first door that has the beginning of the path counts.
DOORS: Final = (
    Door("sign-ins", ("/console/sign-in", "/console/provider/callback")),
    Door("uses of one-time links", ("/console/links/",)),
    Door("uses of portal links", ("/portal/open",)),
    Door("uses of links in messages", ("/documents/", "/answers/", "/calendar/")),
    Door("readings of metrics", ("/metrics",)),
    # A customs broker's program sends many answers at once from one network; they may be large.
    Door("signed calls", ("/api/broker-submissions/",), "authorization", part=5, body_seconds=60),
    Door("signed messages", ("/sandbox/webhooks/",), part=5, body_seconds=60),
    Door("readings of schemas", ("/api/schemas/",)),
    Door("calls without a key", ("/api/", "/sandbox/borderbuddy/", "/sandbox/handoffs"), "authorization"),
    Door("pages without a session", ("/console", "/portal"), "cookie"),
    Door("requests without a key", ("",)),
)
_MIN_PLACES: Final = 4

#: The part of a door's places that one network may take.
_NETWORK_PART: Final = 4
#: The parts of an account's places that one key may take, and one person or portal link.
KEY_PART: Final = 2
PERSON_PART: Final = 8

#: The scope's member that counts the request for its account and caller, who are known only when key or session was read.
COUNT: Final = "exports.count"
#: The scope's member with the seconds in which a body must arrive, if they are fewer than usual.
BODY_SECONDS: Final = "exports.body_seconds"


class RequestLimit:
    """Limits the requests in progress, and separately the live streams, and those of each door.

    An account has at most `max_per_account` of both, so that others have room even if its requests wait long. One key,
    person or network has only a part.
    """

    def __init__(self, app: ASGIApp, max_requests: int, max_per_account: int) -> None:
        self.app = app
        self.max_requests = max_requests
        self.max_per_account = max_per_account
        self._in_progress: Counter[tuple[str, str]] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _UNLIMITED_PATHS:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        door = find_door(scope["path"], headers)
        kind = door.name if door is not None else "live streams" if _is_stream(scope["path"], headers) else "requests"
        taken: list[tuple[str, str]] = []

        def take(holder: str, maximum: int) -> bool:
            place = (kind, holder)
            if self._in_progress[place] >= maximum:
                return False
            self._in_progress[place] += 1
            taken.append(place)
            return True

        def count(account_id: str, actor: str, part: int) -> None:
            least = min(_MIN_PLACES, self.max_per_account)
            for holder, maximum in (
                (f"account {account_id}", self.max_per_account),
                (f"{actor} of account {account_id}", max(least, self.max_per_account // part)),
            ):
                if not take(holder, maximum):
                    why = f"{holder} has {maximum} {kind} in progress here, its maximum"
                    raise RateLimited(f"{why}; try again in 1 s", headers={"Retry-After": "1"})

        scope[COUNT] = count
        try:
            refused = self._enter(door, kind, scope, take)
            answer = self.app if refused is None else problem_response(scope, refused)
            await answer(scope, receive, send)
        finally:
            self._in_progress -= Counter(taken)

    def _enter(
        self, door: Door | None, kind: str, scope: Scope, take: Callable[[str, int], bool]
    ) -> Busy | RateLimited | None:
        """Take the places that need no knowledge of the sender; return why there is none."""
        places = self.max_requests
        if door is not None:
            DOOR.set(door.name)
            scope[BODY_SECONDS] = door.body_seconds
            places = max(_MIN_PLACES, self.max_requests // door.part)
            client, most = scope.get("client"), max(1, places // _NETWORK_PART)
            if client is not None and not take(f"network {find_network(client[0])}", most):
                headers = {"Retry-After": "1", "Connection": "close"}
                return RateLimited(
                    f"your network has {most} {kind} in progress here; try again in 1 s", headers=headers
                )
        if not take("", places):
            return build_busy(f"this process has {places} {kind} in progress", Connection="close")
        return None


def find_door(path: str, headers: Headers) -> Door | None:
    """Return the door that a request comes to; None if it shows a credential that is checked first.

    A wrong credential holds its place only briefly.
    """
    door = next(each for each in DOORS if path.startswith(each.paths))
    return None if door.credential is not None and door.credential in headers else door


def _is_stream(path: str, headers: Headers) -> bool:
    return path == "/console/live" or (path.endswith("/events") and _STREAM in headers.get("accept", ""))
