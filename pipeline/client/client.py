"""The two clients: the same calls over a connection pool, one blocking and one for asyncio."""

import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import anyio
import httpx

from pipeline.client import export_requests, operator_requests
from pipeline.client.errors import ApiProblem, ApiUnreachable, InvalidArgument
from pipeline.client.event_stream import E, EventFollower, build_export_follower, build_feed_follower
from pipeline.client.files import write_file
from pipeline.client.methods import ApiMethods, ApiTransport, AsyncApiTransport
from pipeline.client.request import Call, ResultPage, check_header
from pipeline.client.retry import Retries, RetryState
from pipeline.exports.schemas.export import EventView, ExportView
from pipeline.exports.schemas.feed import FeedEventView

T = TypeVar("T")

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_STREAM_ERRORS: Final = (httpx.RequestError, ApiProblem, ApiUnreachable)
_SCHEMES: Final = frozenset({"http", "https"})
_MAX_PORT: Final = 65_535


class Exports(ApiMethods, ApiTransport):
    """The API at `url`, called with `key`; close it to close its connection pool. Threads may share it.

    Every call raises ApiProblem if the API rejects it, and ApiUnreachable if the API does not respond in time. A value
    that cannot be sent, also `url` or `key`, raises InvalidArgument.
    """

    def __init__(
        self, url: str, key: str | None, *, timeout_seconds: float = 30, retries: Retries | None = None
    ) -> None:
        self._http = httpx.Client(**_http_options(url, key))
        self._timeout_seconds = timeout_seconds
        self._retries = retries or Retries()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def perform(self, call: Call[T]) -> T:
        """Make the call, with retries if they may help, and return the parsed answer."""
        retry_state = RetryState(call, self._retries)
        while True:
            try:
                response = self._http.request(call.method, call.path, **call.request_options(self._timeout_seconds))
            except httpx.RequestError as error:
                pause = retry_state.on_error(error)
            else:
                if call.accepts(response):
                    return call.parse(response)
                pause = retry_state.on_response(response)
            time.sleep(pause)

    def iterate(self, page: ResultPage[T]) -> Iterator[T]:
        """Yield the items of all pages, calling for each next page."""
        yield from page.items
        while page.next_call is not None:
            page = self.perform(page.next_call)
            yield from page.items

    def follow(self, export: str, *, after: int = 0, timeout_seconds: float | None = None) -> Iterator[EventView]:
        """Yield each event as it happens, past ones first; a broken stream continues after the last event.

        It ends when the export has ended, its deliveries are done and the customs broker has answered or is overdue. Raises
        StillRunning after `timeout_seconds`.
        """
        return self._follow(build_export_follower(export, after, timeout_seconds))

    def follow_account(self, *, after: str | None = None, types: Sequence[str] = ()) -> Iterator[FeedEventView]:
        """Yield each event of all exports as it happens, past ones first, after the event with the id `after`.

        It never ends; a broken stream continues after the last event. `types` leaves out other events.
        """
        return self._follow(build_feed_follower(after, types))

    def _follow(self, follower: EventFollower[E]) -> Iterator[E]:
        while True:
            try:
                with self._http.stream("GET", follower.path, **follower.request_options()) as response:
                    if not response.is_success:
                        response.read()
                    follower.on_response(response)
                    for line in response.iter_lines():
                        event = follower.feed_line(line)
                        if event is not None:
                            yield event
            except _STREAM_ERRORS as error:
                follower.on_error(error)
            if follower.finished:
                return
            time.sleep(follower.next_pause())

    def save(self, export: ExportView, folder: Path, *, with_bundle: bool = False) -> list[Path]:
        """Write the export's documents into `folder`, one folder a customs package, and return their paths.

        Raises Corrupted if a document's bytes do not have the expected hash; that document is not written. Raises OSError
        if the folder cannot be written.
        """
        found = self.iterate(export_requests.files(export, with_bundle=with_bundle))
        return [write_file(folder / file.path, file.content) for file in found]

    def ready(self) -> bool:
        """Return whether the service responds and says that it is ready."""
        try:
            self.perform(operator_requests.readiness())
        except (ApiProblem, ApiUnreachable):
            return False
        return True


class AsyncExports(ApiMethods, AsyncApiTransport):
    """The same client for asyncio: await calls, and read lists and events with `async for`."""

    def __init__(
        self, url: str, key: str | None, *, timeout_seconds: float = 30, retries: Retries | None = None
    ) -> None:
        self._http = httpx.AsyncClient(**_http_options(url, key))
        self._timeout_seconds = timeout_seconds
        self._retries = retries or Retries()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def perform(self, call: Call[T]) -> T:
        """Make the call, with retries if they may help, and return the parsed answer."""
        retry_state = RetryState(call, self._retries)
        while True:
            try:
                response = await self._http.request(
                    call.method, call.path, **call.request_options(self._timeout_seconds)
                )
            except httpx.RequestError as error:
                pause = retry_state.on_error(error)
            else:
                if call.accepts(response):
                    return call.parse(response)
                pause = retry_state.on_response(response)
            await anyio.sleep(pause)

    async def iterate(self, page: ResultPage[T]) -> AsyncIterator[T]:
        """Yield the items of all pages, calling for each next page."""
        for item in page.items:
            yield item
        while page.next_call is not None:
            page = await self.perform(page.next_call)
            for item in page.items:
                yield item

    def follow(
        self, export: str, *, after: int = 0, timeout_seconds: float | None = None
    ) -> AsyncGenerator[EventView, None]:
        """Yield each event as it happens, as Exports.follow does; to leave early, close it with contextlib.aclosing."""
        return self._follow(build_export_follower(export, after, timeout_seconds))

    def follow_account(
        self, *, after: str | None = None, types: Sequence[str] = ()
    ) -> AsyncGenerator[FeedEventView, None]:
        """Yield each event of all exports as it happens, as Exports.follow_account does; leave early as with `follow`."""
        return self._follow(build_feed_follower(after, types))

    async def _follow(self, follower: EventFollower[E]) -> AsyncGenerator[E, None]:
        while True:
            try:
                async with self._http.stream("GET", follower.path, **follower.request_options()) as response:
                    if not response.is_success:
                        await response.aread()
                    follower.on_response(response)
                    async for line in response.aiter_lines():
                        event = follower.feed_line(line)
                        if event is not None:
                            yield event
            except _STREAM_ERRORS as error:
                follower.on_error(error)
            if follower.finished:
                return
            await anyio.sleep(follower.next_pause())

    async def save(self, export: ExportView, folder: Path, *, with_bundle: bool = False) -> list[Path]:
        """Write the export's documents into `folder`, as Exports.save does; a thread writes them."""
        found = self.iterate(export_requests.files(export, with_bundle=with_bundle))
        return [await anyio.to_thread.run_sync(write_file, folder / file.path, file.content) async for file in found]

    async def ready(self) -> bool:
        """Return whether the service responds and says that it is ready."""
        try:
            await self.perform(operator_requests.readiness())
        except (ApiProblem, ApiUnreachable):
            return False
        return True


def _http_options(url: str, key: str | None) -> dict[str, Any]:
    base = _parse_base_url(url)
    # A proxy from the environment cannot reach this machine's own addresses.
    trust_env = base.host not in _LOOPBACK
    return {
        "base_url": base,
        "headers": {"Authorization": f"Bearer {check_header('key', key)}"} if key else {},
        "trust_env": trust_env,
        "verify": _load_tls_settings(certificates=trust_env or base.scheme == "https", trust_env=trust_env),
    }


@cache
def _load_tls_settings(*, certificates: bool, trust_env: bool) -> ssl.SSLContext:
    """Return httpx's default TLS settings, one object for all clients: loading the certificates takes longer than a call.

    Without `certificates` they trust no server. A client of http:// on this machine meets no TLS, also at no proxy.
    """
    return httpx.create_ssl_context(trust_env=trust_env) if certificates else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _parse_base_url(url: str) -> httpx.URL:
    try:
        found = httpx.URL(url.rstrip("/") + "/")
    except httpx.InvalidURL:
        found = httpx.URL()
    if found.scheme not in _SCHEMES or not found.host or not 0 <= (found.port or 0) <= _MAX_PORT:
        raise InvalidArgument("url", "must be an address such as http://127.0.0.1:8000")
    if found.userinfo:
        # It would replace the key in the request, and appear in messages with the address.
        raise InvalidArgument("url", "must not hold a user or a password; the API only needs the key")
    return found
