"""A small typed client of our own HTTP API, for the command line and for scripts."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from pipeline.schemas.execution import ArtifactView, EventPage, EventView, ExportView, PreflightReport
from pipeline.schemas.partners import DeliveryPage, DeliveryView
from pipeline.schemas.problems import Problem
from pipeline.schemas.replays import ReplayReport, ReplayRequest

M = TypeVar("M", bound=BaseModel)

#: How long a stream may be silent before it is opened anew: the service sends a sign of life more often.
SILENCE_SECONDS: Final = 30.0
RECONNECT_SECONDS: Final = 0.5
#: How often in a row a stream may break.
MAX_FAILURES: Final = 10
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class ApiProblem(Exception):
    """The API refused, and `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class ApiUnreachable(Exception):
    """Nobody answers at the address, or something answers that is not our API."""


class Corrupted(Exception):
    """A document's bytes are not those that the export promises."""


class _Settled(Exception):
    """The log says that nothing more is to come."""


class StillRunning(Exception):
    """The time was up before what was waited for came."""


@dataclass(frozen=True)
class Execution:
    """The answer to an execute call; `replayed` tells that it is the first answer to the same key again."""

    export: ExportView
    replayed: bool


class Api:
    """The API at `url`, called with `key`; one connection pool, to be closed.

    Every call raises ApiProblem where the API refuses and ApiUnreachable where nobody answers in time.
    """

    def __init__(self, url: str, key: str | None, *, timeout_seconds: float = 30) -> None:
        base = httpx.URL(url.rstrip("/") + "/")
        self._http = httpx.Client(
            base_url=base,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=timeout_seconds,
            # A proxy of the environment cannot reach this machine's own addresses.
            trust_env=base.host not in LOOPBACK,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._http.close()

    def execute(self, plan: Mapping[str, Any], *, idempotency_key: str) -> Execution:
        """Ask for the execution of an approved plan; the same plan with the same key is the same export."""
        body = {"accountId": plan.get("accountId"), "batchId": plan.get("batchId"), "plan": plan}
        response = self._call("POST", "api/exports/execute", json=body, headers={"Idempotency-Key": idempotency_key})
        return Execution(_parsed(ExportView, response), response.headers.get("Idempotent-Replayed") == "true")

    def amend(
        self, export: str, plan: Mapping[str, Any], *, idempotency_key: str, if_match: str | None = None
    ) -> Execution:
        """Have a changed plan take an export's place; `if_match` is the entity tag of the version it is a change to."""
        body = {"accountId": plan.get("accountId"), "batchId": plan.get("batchId"), "plan": plan}
        headers = {"Idempotency-Key": idempotency_key} | ({"If-Match": if_match} if if_match else {})
        response = self._call("POST", f"api/exports/{_segment(export)}/amend", json=body, headers=headers)
        return Execution(_parsed(ExportView, response), response.headers.get("Idempotent-Replayed") == "true")

    def cancel(self, export: str) -> ExportView:
        """Stop an export that was not handed off yet."""
        return _parsed(ExportView, self._call("POST", f"api/exports/{_segment(export)}/cancel"))

    def retry(self, export: str) -> ExportView:
        """Let a failed export go on from where it failed."""
        return _parsed(ExportView, self._call("POST", f"api/exports/{_segment(export)}/retry"))

    def preflight(self, plan: Mapping[str, Any]) -> PreflightReport:
        """Ask what execution would say, without any effect."""
        return _parsed(PreflightReport, self._call("POST", "api/exports/preflight", json=plan))

    def inspect(self, export: str) -> ExportView:
        """Return an export by its own id or by its batch's."""
        return _parsed(ExportView, self._call("GET", f"api/exports/{_segment(export)}"))

    def entity_tag(self, export: str) -> str:
        """Return what tells the present version of an export's view from any other."""
        return str(self._call("GET", f"api/exports/{_segment(export)}").headers.get("ETag", ""))

    def events(self, export: str, *, after: int = 0) -> Iterator[EventView]:
        """Yield what has happened so far, in order."""
        while True:
            answer = self._call("GET", f"api/exports/{_segment(export)}/events", params={"after": after})
            page = _parsed(EventPage, answer)
            yield from page.items
            if not page.items or page.next_after is None:
                return
            after = page.next_after

    def follow(self, export: str, *, after: int = 0, timeout_seconds: float | None = None) -> Iterator[EventView]:
        """Yield each event as it happens, the past ones first; a broken stream goes on where it broke.

        It ends once the export has ended, everybody was told and the customs broker has answered. Raises StillRunning once `timeout_seconds` are over.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        failures = 0
        while True:
            try:
                for event in self._stream(export, after, deadline):
                    after = event.seq
                    failures = 0
                    yield event
            except _Settled:
                return
            except (httpx.TransportError, ApiUnreachable, ApiProblem) as error:
                if isinstance(error, ApiProblem) and error.problem.status < httpx.codes.INTERNAL_SERVER_ERROR:
                    raise
                failures += not isinstance(error, httpx.ReadTimeout)
                if failures > MAX_FAILURES:
                    raise ApiUnreachable(f"the stream of events broke: {str(error) or type(error).__name__}") from error
            if deadline is not None and time.monotonic() > deadline:
                raise StillRunning(f"{export} was still running after {timeout_seconds:g} s")
            time.sleep(RECONNECT_SECONDS)

    def _stream(self, export: str, after: int, deadline: float | None) -> Iterator[EventView]:
        left = SILENCE_SECONDS if deadline is None else max(0.05, min(SILENCE_SECONDS, deadline - time.monotonic()))
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        timeout = httpx.Timeout(10, read=left)
        path = f"api/exports/{_segment(export)}/events"
        with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
            if not response.is_success:
                response.read()
                raise _error(response)
            if response.status_code == httpx.codes.NO_CONTENT:
                raise _Settled
            if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                raise ApiUnreachable(f"{response.url} answers something else than events")
            data: list[str] = []
            for line in response.iter_lines():
                if deadline is not None and time.monotonic() > deadline:
                    return
                if line.startswith("data:"):
                    data.append(line.removeprefix("data:").removeprefix(" "))
                elif not line and data:
                    yield EventView.model_validate_json("\n".join(data))
                    data.clear()

    def download(self, artifact: ArtifactView) -> bytes:
        """Return a document's bytes.

        Raises Corrupted where they are not those whose hash the export names.
        """
        body = self._call("GET", artifact.download_url.lstrip("/")).content
        if hashlib.sha256(body).hexdigest() != artifact.sha256:
            raise Corrupted(f"{artifact.filename} ({artifact.id}) arrived with other bytes than the export names")
        return body

    def bundle(self, export: ExportView) -> bytes:
        """Return the whole handoff as one zip file."""
        return self._call("GET", export.links.bundle.lstrip("/")).content

    def save(self, export: ExportView, folder: Path, *, bundle: bool) -> list[Path]:
        """Write the export's documents into `folder`, one folder a customs package, and return where they are.

        Raises Corrupted, before anything of that document is written, where the bytes are not those promised, and OSError
        where the folder does not take them.
        """
        names = {package.id: package.package_number or package.id for package in export.customs_packages}
        paths = []
        for artifact in export.artifacts:
            paths.append(folder / safe_name(names[artifact.customs_package_id]) / safe_name(artifact.filename))
            _write(paths[-1], self.download(artifact))
        if bundle:
            paths.append(folder / "bundle.zip")
            _write(paths[-1], self.bundle(export))
        return paths

    def deliveries(self, *, export: str | None = None, state: str | None = None) -> DeliveryPage:
        """Return the newest page of the delivery log."""
        wanted = {"exportId": export, "state": state}
        params = {name: value for name, value in wanted.items() if value is not None}
        return _parsed(DeliveryPage, self._call("GET", "api/deliveries", params=params))

    def resend(self, delivery: str) -> DeliveryView:
        """Owe a delivery again, and return it."""
        return _parsed(DeliveryView, self._call("POST", f"api/deliveries/{_segment(delivery)}/resend"))

    def replay(self, partner: str, wanted: ReplayRequest) -> Iterator[ReplayReport]:
        """Owe a partner's messages of a span of time again, page after page; yield what became of each page."""
        while True:
            body = wanted.model_dump(mode="json", by_alias=True, exclude_none=True)
            report = _parsed(ReplayReport, self._call("POST", f"api/partners/{_segment(partner)}/replay", json=body))
            yield report
            if report.next is None:
                return
            wanted = wanted.model_copy(update={"until": report.until, "after": report.next})

    def ready(self) -> bool:
        """Whether the service answers and says that it is ready."""
        try:
            return self._http.get("readyz", timeout=2).is_success
        except httpx.TransportError:
            return False

    def _call(self, method: str, path: str, **rest: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **rest)
        except httpx.TransportError as error:
            raise ApiUnreachable(
                f"{self._http.base_url} does not answer: {str(error) or type(error).__name__}"
            ) from error
        if not response.is_success:
            raise _error(response)
        return response


def _parsed(model: type[M], response: httpx.Response) -> M:
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise ApiUnreachable(f"{response.url} answers something else than this version's API") from error


def _error(response: httpx.Response) -> ApiProblem | ApiUnreachable:
    try:
        return ApiProblem(Problem.model_validate_json(response.content))
    except ValidationError:
        return ApiUnreachable(f"{response.url} answered {response.status_code}, without saying why")


def _segment(value: str) -> str:
    # An id that holds a slash must not become another path.
    return quote(value, safe="")


def safe_name(text: str) -> str:
    """Return `text` as the name of one file or folder: no name from outside leads out of a folder."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text).lstrip(".") or "_"


def _write(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(body)
    part.replace(path)
