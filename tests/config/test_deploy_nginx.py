"""config/deploy/nginx.conf in front of a real service: TLS, limits, live streams, and who the service sees."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import httpx
import pytest
from sqlalchemy import select
from sqlmodel import col

from config.settings import Settings
from pipeline.accounts.models import SignedInSession
from pipeline.core.errors import PayloadTooLarge
from pipeline.core.problems import Problem, problem_document
from pipeline.core.runtime import open_runtime
from tests.conftest import SECRET_KEY, _start_own_server
from tests.support import factories
from tests.support.command_line import Commands, run_service
from tests.support.nginx import NAME, TEXT, Nginx
from tests.support.people import PASSWORD, add_person
from tests.support.ports import LOOPBACK, free_port
from tests.support.servers import poll

pytestmark = pytest.mark.system

#: Another address of this machine than the one that may read the metrics.
STRANGER: Final = "127.7.7.7"
MEGABYTE: Final = 1 << 20


@dataclass(frozen=True)
class Site:
    """A service with an account; nginx stands in front of it."""

    nginx: Nginx
    settings: Settings
    port: int
    key: str
    export: str  #: Its customs broker never answers, so its live stream stays open.

    @property
    def stream_path(self) -> str:
        """The path of that stream."""
        return f"/api/exports/{self.export}/events"

    @property
    def stream_headers(self) -> dict[str, str]:
        """The headers of a client of that stream."""
        return {"Authorization": f"Bearer {self.key}", "Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The service in a process of its own, behind nginx."""
    folder = tmp_path_factory.mktemp("site")
    environment = {
        "DATABASE_URL": f"sqlite:///{folder / 'exports.db'}",
        "ARTIFACTS_URL": f"file:{folder / 'artifacts'}",
        "EXPORTS_SECRET_KEY": SECRET_KEY,
        "EXPORTS_PUBLIC_URL": f"https://{NAME}",
        "EXPORTS_LOG_LEVEL": "ERROR",
    }
    commands = Commands(environment)
    commands.json("accounts", "create", factories.ACCOUNT, "--name", "Maple Goods Ltd")
    for partner, kind in ((factories.BROKER, "customs_broker"), (factories.WAREHOUSE, "warehouse")):
        commands.json(
            "partners", "add", partner, "--account", factories.ACCOUNT, "--kind", kind, "--name", partner, "--live"
        )
    key = commands.json("keys", "create", "--account", factories.ACCOUNT, "--role", "admin")["key"]
    settings = Settings.model_validate(
        {"database_url": environment["DATABASE_URL"], "artifacts_url": f"file:{folder}", "secret_key": SECRET_KEY}
    )
    port = free_port()
    with run_service(environment, folder, port), _start_own_server(Nginx, [port]) as nginx:
        with nginx.client() as client:
            answer = execute(client, key, "batch_live")
        yield Site(nginx, settings, port, key, answer.json()["exportId"])


def execute(client: httpx.Client, key: str, batch: str) -> httpx.Response:
    """Execute a plan."""
    plan = factories.plan(batch=batch)
    body = {"accountId": factories.ACCOUNT, "batchId": plan["batchId"], "plan": plan}
    answer = client.post("/api/exports/execute", json=body, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 202, answer.text
    return answer


@contextmanager
def changed_nginx(site: Site, *changes: tuple[str, str]) -> Iterator[Nginx]:
    """Yield another nginx in front of the same service, with a changed file."""
    with Nginx([site.port], changes) as nginx:
        yield nginx


def test_plans_pass_and_other_paths_do_not(site: Site) -> None:
    with site.nginx.client() as client:
        answer = execute(client, site.key, "batch_behind_nginx")
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        assert client.get("/console/sign-in").status_code == 200
        assert client.get("/portal/open").status_code == 200
        for path in ("/", "/apiary", "/consoles", "/.env"):
            assert client.get(path).status_code == 404
    plain = httpx.get(f"http://{LOOPBACK}:{site.nginx.plain_port}/api/exports?a=b", headers={"Host": NAME})
    assert (plain.status_code, plain.headers["location"]) == (308, f"https://{NAME}/api/exports?a=b")


def test_only_own_networks_read_metrics_and_readiness(site: Site) -> None:
    with site.nginx.client() as inside, site.nginx.client(STRANGER) as stranger:
        for path in ("/metrics", "/readyz", "/livez", "/docs", "/openapi.json"):
            assert inside.get(path).status_code == 200, path
            assert stranger.get(path).status_code == 403, path


def test_large_body_is_refused_as_the_service_would(site: Site) -> None:
    body = b" " * (32 * MEGABYTE + 1)
    headers = {"Authorization": f"Bearer {site.key}", "Content-Type": "application/json"}
    with site.nginx.client() as client:
        refused = client.post("/api/exports/execute", content=body, headers=headers)
    assert (refused.status_code, refused.headers["content-type"]) == (413, "application/problem+json")
    given = Problem.model_validate(refused.json())
    own = problem_document(PayloadTooLarge("the body is larger than 32 MB"), given.request_id)
    assert given.model_dump(exclude={"detail", "message"}) == own.model_dump(exclude={"detail", "message"})


def test_live_stream_arrives_while_it_is_open(site: Site) -> None:
    with (
        site.nginx.client() as client,
        client.stream("GET", site.stream_path, headers=site.stream_headers, timeout=10) as stream,
    ):
        assert next(stream.iter_text()).startswith(": the log of an export")


def test_live_stream_needs_the_word_of_the_service(site: Site) -> None:
    """The test above would fail if nginx collected the answer."""
    ignored = ("keepalive_timeout 65s;", "keepalive_timeout 65s; proxy_ignore_headers X-Accel-Buffering;")
    with (
        changed_nginx(site, ignored) as nginx,
        nginx.client() as client,
        pytest.raises(httpx.ReadTimeout),
        client.stream("GET", site.stream_path, headers=site.stream_headers, timeout=3) as stream,
    ):
        next(stream.iter_text())


def test_service_sees_the_address_that_nginx_saw(site: Site) -> None:
    runtime = open_runtime(site.settings)
    try:
        person = add_person(runtime, "read")
        form = {"email": person.email, "password": PASSWORD, "code": person.code(runtime)}
        with site.nginx.client(STRANGER) as stranger:
            # A client cannot choose its address.
            answer = stranger.post("/console/sign-in", data=form, headers={"X-Forwarded-For": "203.0.113.7"})
            assert answer.status_code == 303, answer.text
            assert "Secure" in answer.headers["set-cookie"]
        with runtime.db.read() as session:
            addresses = set(session.scalars(select(col(SignedInSession.address))))
        assert "127.7.7.0/24" in addresses
        assert "203.0.113.0/24" not in addresses
    finally:
        runtime.close()


def test_links_stay_out_of_the_log(site: Site) -> None:
    hidden = (
        "/documents/secret-token",
        "/answers/secret-token",
        "/calendar/secret-token.ics",
        "/portal/open",
        "/console/links/secret-token",
    )
    with site.nginx.client() as client:
        for path in (*hidden, "/api/exports?shown=1"):
            client.get(path)
    poll(lambda: "shown=1" in site.nginx.read_log(), 10, "nginx writes no log")
    assert not re.search("secret-token|/portal/open", site.nginx.read_log())


def test_many_pages_at_once_are_slowed_down(site: Site) -> None:
    with changed_nginx(site, ("rate=20r/s", "rate=1r/s"), ("burst=100", "burst=5")) as nginx, nginx.client() as client:
        statuses = [client.get("/console/sign-in").status_code for _ in range(12)]
    assert (statuses[0], statuses[-1]) == (200, 429)


def test_connections_of_an_address_are_limited(site: Site) -> None:
    with (
        changed_nginx(site, ("exports_connections 100", "exports_connections 1")) as nginx,
        nginx.client() as client,
        client.stream("GET", site.stream_path, headers=site.stream_headers) as stream,
        nginx.client() as second,
    ):
        pieces = stream.iter_text()
        next(pieces)
        assert second.get("/api/exports").status_code == 429


def test_client_that_sends_its_head_slowly_is_cut_off(site: Site) -> None:
    with changed_nginx(site, ("client_header_timeout 10s", "client_header_timeout 1s")) as nginx:
        began = time.monotonic()
        with (
            socket.create_connection((LOOPBACK, nginx.port), timeout=20) as raw,
            nginx.trusted.wrap_socket(raw, server_hostname=LOOPBACK) as slow,
        ):
            slow.sendall(b"GET /api/exports HTTP/1.1\r\n")
            assert slow.recv(1024) == b""
        assert time.monotonic() - began < 15


def test_times_fit_those_of_the_service() -> None:
    given = dict(re.findall(r"^ +(\w+) (\d+)[sm];", TEXT, re.MULTILINE))
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    assert int(given["proxy_read_timeout"]) > defaults["max_wait_seconds"] + 15  # the pauses of a live stream
    assert int(given["client_max_body_size"]) * MEGABYTE == defaults["max_body_bytes"]
