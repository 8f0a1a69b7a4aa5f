"""Two web processes behind nginx are restarted one after the other while callers execute plans: no request is lost."""

import json
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Self

import httpx
import pytest
from sqlalchemy import create_engine, text

from pipeline.core.errors import NotReady
from pipeline.core.problems import problem_document
from tests.conftest import SECRET_KEY, _start_own_server
from tests.support import factories
from tests.support.command_line import Commands, exports
from tests.support.nginx import Nginx
from tests.support.ports import LOOPBACK, free_port
from tests.support.servers import PostgreSQL, Redis, poll

CALLERS: Final = 2
#: The accepted plans between two steps of the restart.
BETWEEN: Final = 5


class Web:
    """A web process on its own port."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment, self._folder = environment, folder
        self.port = free_port()
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the process and wait until it listens."""
        options = ["web", "--host", LOOPBACK, "--port", str(self.port), "--json"]
        self._process = exports(options, self._environment, self._folder)
        assert self._process.stdout is not None
        assert json.loads(self._process.stdout.readline())["process"] == "web"

    def stop(self) -> None:
        """Stop the process as a supervisor does."""
        if self._process is not None:
            self._process.terminate()
            self._process.communicate(timeout=60)
            self._process = None


class Load:
    """Callers that execute plans, each again and again; a refused request is repeated as its answer says."""

    def __init__(self, nginx: Nginx, key: str) -> None:
        self._nginx, self._key = nginx, key
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(CALLERS)]
        self.accepted: list[str] = []
        self.answers: Counter[str] = Counter()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _call(self, number: int) -> None:
        with self._nginx.client() as client:
            turn = 0
            while not self._ended.is_set():
                turn += 1
                batch = f"batch_{number}_{turn}"
                while (answer := execute(client, self._key, batch)).status_code == 503:
                    self.answers[f"503 {answer.headers['content-type']} {answer.json()['errorCode']}"] += 1
                    self._ended.wait(float(answer.headers["retry-after"]))
                self.answers[str(answer.status_code)] += 1
                self.accepted.append(batch)

    def pass_more(self) -> None:
        """Wait until the callers have executed some more plans."""
        goal = len(self.accepted) + BETWEEN
        poll(lambda: len(self.accepted) >= goal, 120, f"no plan passes: {self.answers}")


def execute(client: httpx.Client, key: str, batch: str) -> httpx.Response:
    plan = factories.plan(batch=batch)
    body = {"accountId": factories.ACCOUNT, "batchId": plan["batchId"], "plan": plan}
    return client.post("/api/exports/execute", json=body, headers={"Authorization": f"Bearer {key}"})


@pytest.fixture
def environment(postgres_server: PostgreSQL, redis_server: Redis, tmp_path: Path) -> dict[str, str]:
    return {
        "DATABASE_URL": postgres_server.fresh_url(),
        "BROKER_URL": redis_server.fresh_url(),
        "ARTIFACTS_URL": f"file:{tmp_path / 'artifacts'}",
        "EXPORTS_SECRET_KEY": SECRET_KEY,
        "EXPORTS_LOG_LEVEL": "ERROR",
    }


@pytest.fixture
def webs(environment: dict[str, str], tmp_path: Path) -> Iterator[Sequence[Web]]:
    """Two processes that do not run yet."""
    made = [Web(environment, tmp_path) for _ in range(2)]
    yield made
    for web in made:
        web.stop()


@pytest.mark.timeout(600)
def test_rolling_restart_behind_nginx_loses_no_request(environment: dict[str, str], webs: Sequence[Web]) -> None:
    commands = Commands(environment)
    commands.json("migrate")
    commands.json("accounts", "create", factories.ACCOUNT, "--name", "Maple Goods Ltd")
    for partner, kind in ((factories.BROKER, "customs_broker"), (factories.WAREHOUSE, "warehouse")):
        commands.json("partners", "add", partner, "--account", factories.ACCOUNT, "--kind", kind, "--name", partner, "--live")  # fmt: skip
    key = commands.json("keys", "create", "--account", factories.ACCOUNT, "--role", "admin")["key"]
    for web in webs:
        web.start()
    with _start_own_server(Nginx, [web.port for web in webs]) as nginx:
        with Load(nginx, key) as load:
            load.pass_more()
            for web in webs:
                web.stop()
                load.pass_more()
                web.start()
                load.pass_more()
        assert load.answers.keys() <= {"202", "503 application/problem+json NOT_READY"}
        engine = create_engine(environment["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect() as connection:
            connection.execute(text("SET exports.account = '*'"))
            stored = [*connection.scalars(text("SELECT batch_id FROM exports"))]
        engine.dispose()
        assert sorted(stored) == sorted(load.accepted)

        for web in webs:
            web.stop()
        with nginx.client() as client:
            refused = execute(client, key, "batch_refused")
            assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
            assert refused.headers["retry-after"] == "2"
            problem = refused.json()
            own = problem_document(NotReady(problem["message"]), problem["requestId"])
            assert problem == own.model_dump(by_alias=True, exclude_none=True)
            # nginx asks again at once: it does not avoid a process that refused connections.
            for web in webs:
                web.start()
            assert execute(client, key, "batch_refused").status_code == 202
