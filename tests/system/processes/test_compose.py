"""The services of compose.yaml as processes of this machine: their commands, variables and health checks as written."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from kombu import Connection

from tests.conftest import OwnServer, skip_or_fail
from tests.support.compose import DEPLOY, PROCESSES, ROOT, SECRETS, read_services, read_stages, read_variables
from tests.support.mail_server import MailServer
from tests.support.ports import LOOPBACK, accepts, free_port
from tests.support.servers import PostgreSQL, RabbitMQ, Redis, poll

pytestmark = pytest.mark.servers

SECONDS: Final = 60.0
DESK: Final = "desk@maple.example"

#: The addresses by which the containers reach each other.
ADDRESSES: Final = (
    "postgres:5432",
    "rabbitmq:5672",
    "redis:6379",
    "mail:1025",
    "web:8000",
    "worker:9100",
    "large-worker:9100",
    "deliveries:9100",
    "intake:9100",
)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of the image: the steps of the Containerfile's first stage, in an empty folder, with cached packages."""
    uv = shutil.which("uv") or shutil.which(ROOT / ".uv/bin/uv")
    if uv is None:
        skip_or_fail("uv is not installed; `make setup` installs it")
    folder = tmp_path_factory.mktemp("image")
    stage = read_stages()[0]
    environment = {
        **os.environ,
        **read_variables(stage),
        "UV_PROJECT_ENVIRONMENT": str(folder / "opt"),
        "UV_LINK_MODE": "hardlink",
        "UV_OFFLINE": "1",
    }
    del environment["UV_NO_CACHE"]
    for word, rest in stage:
        if word == "COPY":
            *sources, target = shlex.split(rest)
            for source in sources:
                place = folder / "build" / target / (Path(source).name if (ROOT / source).is_file() else "")
                place.parent.mkdir(parents=True, exist_ok=True)
                copy = shutil.copy if (ROOT / source).is_file() else shutil.copytree
                copy(ROOT / source, place)
        elif word == "RUN" and rest.startswith("uv "):
            command = [uv, *shlex.split(rest)[1:], "--python", sys.executable, "--quiet"]
            subprocess.run(command, cwd=folder / "build", env=environment, check=True, timeout=SECONDS)
    return folder / "opt" / "bin"


class ComposeRabbitMQ(RabbitMQ):
    """RabbitMQ with our configuration: no other user than the service's."""

    def __init__(self, service: Mapping[str, Any]) -> None:
        super().__init__()
        self.service = service
        password = service["environment"]["RABBITMQ_DEFAULT_PASS"]
        self.url = f"amqp://exports:{password}@{LOOPBACK}:{self.port}/exports"

    def environment(self) -> Mapping[str, str]:
        given = super().environment()
        with (self.folder / "rabbitmq.conf").open("a") as file:
            file.write((DEPLOY / "compose" / "rabbitmq.conf").read_text(encoding="utf-8"))
        return {**given, **self.service["environment"]}

    def ping(self) -> None:
        with Connection(self.url, connect_timeout=5) as connection:
            connection.connect()


class ComposeRedis(Redis):
    """Redis with our command: no other user than the service's."""

    def __init__(self, service: Mapping[str, Any]) -> None:
        super().__init__()
        self.service = service
        self.url = f"redis://exports:{service['environment']['REDISCLI_AUTH']}@{LOOPBACK}:{self.port}/0"

    def command(self) -> Sequence[str]:
        shell, option, text = self.service["command"]
        places = {
            " /tmp/": f" {self.folder}/",
            " --dir /data": f" --dir {self.folder} --bind {LOOPBACK} --port {self.port}",
        }
        for place, own in places.items():
            assert place in text
            text = text.replace(place, own)
        return [shell, option, text]

    def environment(self) -> Mapping[str, str]:
        return dict(self.service["environment"])


@dataclass
class Topology:
    """The services, and where each address of theirs is on this machine."""

    folder: Path
    image: Path
    services: Mapping[str, Mapping[str, Any]]
    places: dict[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def translate(self, text: str) -> str:
        """Return the text with each address and folder of a container replaced by its place on this machine."""
        for address, place in self.places.items():
            text = re.sub(rf"(?<![\w.-]){re.escape(address)}(?!\d)", place, text)
        return text.replace("0.0.0.0", LOOPBACK).replace("/srv/artifacts", str(self.folder / "artifacts"))  # noqa: S104

    def port(self, name: str) -> int:
        """Return the port of one of our processes."""
        return int(next(place for address, place in self.places.items() if address.split(":")[0] == name).split(":")[1])

    def environment(self, name: str) -> dict[str, str]:
        """Return the variables of a container: those of the image, and its own."""
        own = {key: self.translate(value) for key, value in self.services[name]["environment"].items()}
        # The name of a container that is not mapped would reach a foreign server, or none.
        hosts = {urlsplit(value).hostname for value in own.values() if "://" in value}
        assert hosts <= {LOOPBACK, None}, hosts
        for variable in {"PORT", "EXPORTS_METRICS_PORT"} & own.keys():
            assert f"{name}:{own[variable]}" in self.places
            own[variable] = str(self.port(name))
        given = {**read_variables(read_stages()[-1]), **own}
        (self.folder / "tmp").mkdir(exist_ok=True)
        return {
            **given,
            "PATH": f"{self.image}:{os.defpath}",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
        }

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the command of a container; it dies with the tests even if those are killed."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*([setpriv, "--pdeathsig=KILL", "--"] if (setpriv := shutil.which("setpriv")) else []), *command],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_service(self, name: str) -> None:
        """Start one of our processes, with its own command and variables."""
        self.start(name, self.services[name]["command"], self.environment(name))

    def is_healthy(self, name: str) -> bool:
        """Return whether the health check of one of our containers succeeds."""
        word, *command = self.services[name]["healthcheck"]["test"]
        assert word == "CMD"
        if name in self.running:
            assert self.running[name].poll() is None, self.log(name)
        done = subprocess.run(command, env=self.environment(name), capture_output=True, check=False, timeout=30)
        return done.returncode == 0

    def run(self, *command: str, **variables: str) -> str:
        """Run a command as `docker compose run --rm --workdir /tmp web` does; return what it prints."""
        done = subprocess.run(
            command,
            cwd=self.folder / "tmp",
            env=self.environment("web") | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def log(self, name: str) -> str:
        """Return the end of what a process wrote."""
        return f"{name}:\n" + (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]

    def logs(self) -> str:
        """Return the end of what each process wrote."""
        return "\n".join(map(self.log, self.running))

    def count_threads(self, name: str) -> int:
        """Return the number of threads of a container, which its limit `pids` bounds."""
        process = psutil.Process(self.running[name].pid)
        return sum(each.num_threads() for each in (process, *process.children(recursive=True)))

    def stop(self) -> dict[str, int]:
        """Stop every process as Docker does, all at once; return how each ended."""
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        codes = {}
        for name, process in self.running.items():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the group id is the pid of our own process
            codes[name] = process.wait()
        self.running.clear()
        return codes


def start_database(server: PostgreSQL, service: Mapping[str, Any]) -> str:
    """Create role and database by the script that the container mounts; return the server's address."""
    environment = {**service["environment"], "PATH": os.environ["PATH"]}
    script = ["psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--quiet", "--file", str(DEPLOY / "compose/database.sql")]
    url = server.url.replace("+psycopg", "")
    subprocess.run([*script, url], env=environment, check=True, capture_output=True, timeout=SECONDS)
    with server.connection() as connection:
        query = "SELECT concat(rolsuper, rolbypassrls, rolpassword IS NULL) FROM pg_authid WHERE rolname = 'exports'"
        assert connection.execute(query).fetchone() == ("fff",)
    ready = [word for word in service["healthcheck"]["test"] if word != "CMD"]
    subprocess.run(ready, env=environment | {"PGPORT": str(server.port)}, check=True, timeout=30)
    return f"{LOOPBACK}:{server.port}"


@pytest.fixture(params=["rabbitmq", "redis"])
def topology(
    request: pytest.FixtureRequest, image: Path, own_server: OwnServer, tmp_path: Path
) -> Iterator[tuple[Topology, MailServer]]:
    """The whole topology with one of the message brokers, running; it is stopped after the test."""
    places = {address: f"{LOOPBACK}:{free_port()}" for address in ADDRESSES}
    web = places["web:8000"]
    variables = {"EXPORTS_PUBLIC_URL": f"http://{web}", "WEB_PORT": web.split(":")[1]}
    if request.param == "redis":
        variables["BROKER_URL"] = f"redis://exports:{SECRETS['BROKER_PASSWORD']}@redis:6379/0"
    services = read_services(request.param, **variables)
    if request.param == "redis":
        places["redis:6379"] = f"{LOOPBACK}:{own_server(ComposeRedis, services['redis']).port}"
    else:
        places["rabbitmq:5672"] = f"{LOOPBACK}:{own_server(ComposeRabbitMQ, services['rabbitmq']).port}"
    places["postgres:5432"] = start_database(own_server(PostgreSQL), services["postgres"])
    with MailServer() as mail, ExitStack() as end:
        places["mail:1025"] = f"{LOOPBACK}:{mail.port}"
        started = Topology(tmp_path, image, services, places)
        end.callback(started.stop)
        started.start_service("migrate")
        assert started.running.pop("migrate").wait(SECONDS) == 0, started.log("migrate")
        for name in PROCESSES:
            assert not started.is_healthy(name)
            started.start_service(name)
        for name in PROCESSES:
            # Each look by the container's own check starts a Python.
            poll(lambda name=name: accepts(started.port(name)), SECONDS, f"{name} did not start\n{started.log(name)}")  # type: ignore[misc]
            poll(lambda name=name: started.is_healthy(name), SECONDS, f"{name} is not healthy")  # type: ignore[misc]
        yield started, mail


def start_prometheus(topology: Topology) -> str:
    """Start Prometheus with the container's command and files; return its address."""
    if shutil.which("prometheus") is None:
        skip_or_fail("prometheus is not installed; the package is prometheus")
    folder = topology.folder / "prometheus"
    folder.mkdir()
    service = topology.services["prometheus"]
    for mount in service["volumes"]:
        if mount["type"] == "bind":
            text = topology.translate(Path(mount["source"]).read_text(encoding="utf-8"))
            (folder / Path(mount["target"]).name).write_text(text, encoding="utf-8")
    options = [
        each.replace("=/etc/prometheus/", f"={folder}/").replace("=/prometheus", f"={folder}/data")
        for each in service["command"]
    ]
    address = f"{LOOPBACK}:{free_port()}"
    topology.start(
        "prometheus", ["prometheus", *options, f"--web.listen-address={address}"], {"PATH": os.environ["PATH"]}
    )
    return f"http://{address}"


def ask_prometheus(address: str, path: str) -> Any:
    """Return the data of an answer of Prometheus; None if it does not answer yet."""
    with contextlib.suppress(httpx.HTTPError):
        answer = httpx.get(f"{address}/api/v1/{path}", timeout=5, trust_env=False)
        if answer.is_success:
            return answer.json()["data"]
    return None


def list_targets(address: str) -> dict[str, str]:
    """Return the health of each target that Prometheus reads."""
    found = ask_prometheus(address, "targets") or {"activeTargets": []}
    return {each["labels"]["instance"]: each["health"] for each in found["activeTargets"]}


@pytest.mark.timeout(400)
def test_containers_work_together_as_processes(topology: tuple[Topology, MailServer]) -> None:
    running, mail = topology
    prometheus = start_prometheus(running)

    made = json.loads(running.run("exports", "init", "--json"))
    desk = (
        "--account",
        "acc_1",
        "--kind",
        "operator",
        "--name",
        "Export desk",
        "--email",
        DESK,
        "--test",
        "--live",
        "--json",
    )
    running.run("exports", "partners", "add", "op_desk", *desk)
    caller = {"EXPORTS_API_URL": f"http://{running.places['web:8000']}", "EXPORTS_API_KEY": made["key"]}
    plan = running.run("exports", "plans", "new", "--account", "acc_1", "--broker", "br_sandbox")
    (running.folder / "tmp" / "plan.json").write_text(plan, encoding="utf-8")
    executed = json.loads(running.run("exports", "execute", "plan.json", "--wait", "--json", **caller))

    assert executed["state"] == "executed", running.logs()
    # The worker wrote the documents, web reads them, deliveries sent the e-mail, the sandbox broker answered.
    poll(lambda: bool(mail.mails), SECONDS, f"no e-mail arrived\n{running.logs()}")
    assert mail.mails[0].recipients == [DESK]

    def is_answered() -> bool:
        view = json.loads(running.run("exports", "inspect", executed["exportId"], "--json", **caller))
        return all(each["submission_status"] not in {"pending", "sent"} for each in view["broker_submissions"])

    poll(is_answered, SECONDS, f"the sandbox broker did not answer\n{running.logs()}")

    expected = {running.places[f"{name}:{8000 if name == 'web' else 9100}"]: "up" for name in PROCESSES}
    poll(lambda: list_targets(prometheus) == expected, SECONDS, f"{list_targets(prometheus)}\n{running.logs()}")
    assert ask_prometheus(prometheus, "rules")["groups"]

    for name in PROCESSES:
        limits = running.services[name]["deploy"]["resources"]["limits"]
        assert running.count_threads(name) < limits["pids"], name
    assert set(running.stop().values()) <= {0, -signal.SIGTERM}
