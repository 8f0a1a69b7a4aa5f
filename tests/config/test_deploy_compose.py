"""config/deploy: the image and the compose file, as linters and Docker Compose read them."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from uvicorn.middleware.proxy_headers import _TrustedHosts

from config.settings import Settings
from tests.conftest import skip_or_fail
from tests.support.compose import (
    COMPOSE,
    CONTAINERFILE,
    DEPLOY,
    PROCESSES,
    ROOT,
    SECRETS,
    WEB_VARIABLES,
    list_variables,
    read_services,
    read_stages,
    run_compose,
)
from tests.support.monitoring import run_promtool
from tests.system.acceptance.programs import read_procfile

pytestmark = pytest.mark.system

BROKERS = ("rabbitmq", "redis")
REDIS_URL = f"redis://exports:{SECRETS['BROKER_PASSWORD']}@redis:6379/0"

#: The grace period of docs/deployment.md.
STOP_SECONDS = 60


@pytest.fixture(scope="module", params=BROKERS)
def services(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    """The services with each message broker."""
    return read_services(request.param, **({"BROKER_URL": REDIS_URL} if request.param == "redis" else {}))


def lint_containerfile(path: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which(Path(sys.executable).with_name("hadolint"))
    if program is None:
        skip_or_fail("hadolint is not installed; run make setup")
    return subprocess.run([program, path], capture_output=True, text=True, check=False, timeout=60)


# Image


def test_hadolint_accepts_the_containerfile() -> None:
    done = lint_containerfile(CONTAINERFILE)
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_refuses_an_image_without_a_version(tmp_path: Path) -> None:
    changed = tmp_path / "Containerfile"
    changed.write_text(re.sub(r"(python):\S+", r"\1", CONTAINERFILE.read_text(encoding="utf-8")), encoding="utf-8")
    assert "DL3006" in lint_containerfile(changed).stdout


def test_build_context_has_what_the_image_copies_and_nothing_else() -> None:
    copied = {source for word, rest in read_stages()[0] if word == "COPY" for source in shlex.split(rest)[:-1]}
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignore.index("*") == min(index for index, line in enumerate(ignore) if not line.startswith("#"))
    assert {line.removeprefix("!") for line in ignore if line.startswith("!")} == copied
    assert all((ROOT / each).exists() for each in copied)


def test_image_runs_as_a_user_without_rights() -> None:
    words = dict(read_stages()[-1])
    assert words["USER"] == "10001:10001"
    assert words["HEALTHCHECK"]


# Compose


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_secret_has_no_default(name: str) -> None:
    given = {each: value for each, value in SECRETS.items() if each != name}
    done = run_compose("config", **given)
    assert done.returncode != 0
    assert f"required variable {name} is missing a value: set it to" in done.stderr


def test_each_variable_is_a_setting_and_the_settings_are_sound(
    services: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("migrate", *PROCESSES):
        environment = services[name]["environment"]
        assert environment.keys() <= list_variables() | WEB_VARIABLES, name
        with monkeypatch.context() as patch:
            for variable, value in environment.items():
                patch.setenv(variable, value)
            settings = Settings()
        assert settings.weak_secret_key is None
        assert settings.weak_credentials is None
        assert settings.message_broker == ("amqp" if "rabbitmq" in services else "redis")


def test_documented_file_of_variables_starts_it(tmp_path: Path) -> None:
    """The commands of docs/deployment.md that write `.env`, for each message broker."""
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    (writing,) = re.findall(r"^\$ (for name in EXPORTS_SECRET_KEY .* > \.env)$", page, re.MULTILINE)
    (choosing,) = re.findall(r"^\$ (echo COMPOSE_PROFILES=rabbitmq >> \.env)$", page, re.MULTILINE)
    (changing,) = re.findall(r"^  `(COMPOSE_PROFILES=redis)` and `(BROKER_URL=redis:.*)`", page, re.MULTILINE)
    subprocess.run(["bash", "-c", f"{writing} && {choosing}"], cwd=tmp_path, check=True, timeout=30)
    for lines, broker in (((), "rabbitmq"), (changing, "redis")):
        with (tmp_path / ".env").open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
        done = run_compose("--env-file", str(tmp_path / ".env"), "config", "--format", "json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)["services"]
        url = urlsplit(found["worker"]["environment"]["BROKER_URL"])
        assert (url.hostname, len(url.password or "")) == (broker, 64)
        assert {broker} == found.keys() & {*BROKERS}


def test_web_believes_a_proxy_of_a_container_network(services: dict[str, dict[str, Any]]) -> None:
    trusted = _TrustedHosts(services["web"]["environment"]["FORWARDED_ALLOW_IPS"])
    assert "172.18.0.1" in trusted
    assert "203.0.113.7" not in trusted


def test_processes_are_those_of_the_procfile(services: dict[str, dict[str, Any]]) -> None:
    commands = read_procfile()
    commands["migrate"] = commands.pop("release")
    assert commands.keys() == {"migrate", *PROCESSES}
    for name, command in commands.items():
        words = command.split()
        assert services[name]["command"][: len(words)] == words
        assert (
            services[name]["image"]
            == f"exports:{tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']}"
        )


def test_each_container_is_restricted_limited_and_checked(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["ulimits"] == {"core": {}}, name  # Compose prints no zero
        assert {"cpus", "memory", "pids"} <= service["deploy"]["resources"]["limits"].keys(), name
        assert any(each.split(":")[0] == "/tmp" for each in service["tmpfs"]), name  # noqa: S108
        assert all(each["host_ip"] == "127.0.0.1" for each in service.get("ports", [])), name
        # Compose cannot write a file into a container whose root is read-only.
        assert not {"configs", "secrets"} & service.keys(), name
        if name == "migrate":
            assert service["restart"].startswith("on-failure")
        else:
            assert (service["restart"], bool(service["healthcheck"]["test"])) == ("always", True), name


def test_each_image_has_a_version(services: dict[str, dict[str, Any]]) -> None:
    images = {service["image"] for service in services.values()}
    assert all(re.search(r":v?\d+\.\d+(\.\d+)?(-\w+)?$", image) for image in images), images
    bases = [rest.split()[0] for stage in read_stages() for word, rest in stage if word == "FROM"]
    assert len(set(bases)) == 1
    assert re.search(r":\d+\.\d+\.\d+-slim-\w+$", bases[0])


def test_processes_have_the_documented_time_to_stop(services: dict[str, dict[str, Any]]) -> None:
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    assert f"Send SIGTERM and allow {STOP_SECONDS} seconds" in page
    assert {services[name]["stop_grace_period"] for name in PROCESSES} == {"1m0s"}


def test_databases_have_no_way_out(services: dict[str, dict[str, Any]]) -> None:
    assert yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["networks"]["data"] == {"internal": True}
    for name in {"postgres", *BROKERS} & services.keys():
        assert [*services[name]["networks"]] == ["data"]
        assert "ports" not in services[name]


def test_mounted_files_exist(services: dict[str, dict[str, Any]]) -> None:
    mounts = [mount for service in services.values() for mount in service.get("volumes", []) if mount["type"] == "bind"]
    assert len(mounts) >= 5
    assert all(Path(mount["source"]).exists() and mount["read_only"] for mount in mounts)


def test_message_broker_users_have_the_documented_rights() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^ACL SETUSER exports on >PASSWORD (.*)$", page, re.MULTILINE)
    redis = " ".join(read_services("redis")["redis"]["command"][-1].replace('" \\\n', "").split())
    assert line in redis.replace(' "-@all', " -@all")
    (line,) = re.findall(r"^rabbitmqctl set_permissions --vhost exports exports (.*)$", page, re.MULTILINE)
    conf = dict(
        line.split(" = ", 1)
        for line in (DEPLOY / "compose" / "rabbitmq.conf").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    )
    configure, write, _ = shlex.split(line)
    assert (conf["default_permissions.configure"], conf["default_permissions.write"]) == (configure, write)
    # RabbitMQ 4.0 exchanges the two; see the file.
    assert conf["default_permissions.read"] == conf["default_permissions.write"]


def test_prometheus_reads_every_process(services: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    for mount in services["prometheus"]["volumes"]:
        if mount["type"] == "bind":
            shutil.copy(mount["source"], tmp_path / Path(mount["target"]).name)
    run_promtool("check", "config", tmp_path / "prometheus.yml")
    jobs = yaml.safe_load((tmp_path / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    targets = {target for job in jobs for config in job["static_configs"] for target in config["targets"]}
    ports = {
        name: services[name]["environment"].get("EXPORTS_METRICS_PORT") or services[name]["environment"]["PORT"]
        for name in PROCESSES
    }
    assert targets == {f"{name}:{port}" for name, port in ports.items()}
    example = yaml.safe_load((ROOT / "config/monitoring/prometheus.yml").read_text(encoding="utf-8"))
    assert [job["job_name"] for job in jobs] == [job["job_name"] for job in example["scrape_configs"]]


def test_grafana_finds_prometheus_and_the_dashboards(services: dict[str, dict[str, Any]]) -> None:
    mounts = {mount["target"]: mount["source"] for mount in services["grafana"]["volumes"] if mount["type"] == "bind"}
    provisioned = "/etc/grafana/provisioning"
    (source,) = yaml.safe_load(Path(mounts[f"{provisioned}/datasources/exports.yaml"]).read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = yaml.safe_load(Path(mounts[f"{provisioned}/dashboards/exports.yaml"]).read_text())["providers"]
    assert Path(mounts[provider["options"]["path"]]) == ROOT / "config/monitoring/dashboards"
