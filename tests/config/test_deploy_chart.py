"""config/deploy/chart: Helm lints and renders it with each option, and each manifest matches the schemas of Kubernetes."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from pydantic import AliasChoices

from config.settings import Settings
from tests.conftest import skip_or_fail
from tests.support.compose import DEPLOY, PROCESSES, ROOT, WEB_VARIABLES, list_variables
from tests.support.monitoring import check_expressions
from tests.system.acceptance.programs import read_procfile

pytestmark = pytest.mark.system

CHART: Final = DEPLOY / "chart"
RENDERER: Final = ROOT / "tests" / "support" / "chart_renderer.py"
KUBERNETES: Final = ("1.30", "1.37")  # the oldest of Chart.yaml, and the newest that the schemas know

Json = dict[str, Any]

BASE: Final[Json] = {
    "image": {"repository": "registry.example/exports"},
    "publicUrl": "https://exports.example",
    "existingSecret": "exports",
    "artifacts": {"url": "s3://documents/exports"},
}
INGRESS: Final[Json] = {"enabled": True, "className": "nginx", "host": "exports.example", "tlsSecret": "exports-tls"}
PEER: Final[Json] = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}

#: name -> values beside those of BASE. Together they turn on each option.
OPTIONS: Final[Mapping[str, Json]] = {
    "none": {},
    "claim": {"artifacts": {"existingClaim": "documents"}},
    "ingress": {"ingress": {**INGRESS, "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "32m"}}},
    "hpa": {"autoscaling": {"enabled": True}},
    "keda": {"autoscaling": {"enabled": True, "kind": "keda", "prometheusUrl": "http://prometheus:9090"}},
    "monitor": {"podMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
    "peers": {"networkPolicy": {"webFrom": [PEER], "metricsFrom": [PEER], "extraEgress": [{"to": [PEER]}]}},
    "open": {"networkPolicy": {"enabled": False}, "podDisruptionBudget": {"enabled": False}},
    "owner": {"migrate": {"existingSecret": "exports-owner"}},
    "settings": {"settings": {"EXPORTS_MAIL_FROM": "Export desk <exports@exports.example>", "EXPORTS_DOCS": "false"}},
    "placed": {
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "trade", "operator": "Exists"}],
        "podAnnotations": {"example.com/team": "exports"},
        "serviceAccountName": "exports-s3",
        "image": {"repository": "registry.example/exports", "tag": "0.1.1", "pullSecrets": ["registry"]},
        "worker": {"replicas": 4, "concurrency": 2},
    },
}

#: values beside those of BASE -> words of the refusal.
REFUSED: Final = (
    ({"image": {"repository": ""}}, "image.repository is missing: set it to"),
    ({"publicUrl": ""}, "publicUrl is missing: set it to"),
    ({"publicUrl": "exports.example"}, "/publicUrl"),
    ({"existingSecret": ""}, "existingSecret is missing: set it to"),
    ({"artifacts": {"url": ""}}, "set either artifacts.url or artifacts.existingClaim"),
    ({"artifacts": {"url": "s3://a/b", "existingClaim": "c"}}, "set either artifacts.url or artifacts.existingClaim"),
    ({"artifacts": {"url": "file:///srv"}}, "/artifacts/url"),
    ({"image": {"repository": "a", "tag": "latest"}}, "/image/tag"),
    ({"ingress": {"enabled": True}}, "set ingress.host"),
    ({"autoscaling": {"enabled": True, "kind": "keda"}}, "autoscaling.prometheusUrl is missing"),
    ({"autoscaling": {"enabled": True, "maxReplicas": 1}}, "maxReplicas must not be below worker.replicas"),
    ({"settings": {"EXPORTS_SECRET_KEY": "k" * 40}}, "EXPORTS_SECRET_KEY"),
    ({"secretKey": "k" * 40}, "secretKey"),
    ({"web": {"replicas": 0}}, "/web/replicas"),
)


def render_all(values: list[Json]) -> list[Json]:
    if importlib.util.find_spec("helm_python") is None or importlib.util.find_spec("kubernetes_validate") is None:
        skip_or_fail("Helm's library is not installed; run `uv sync --locked --group charts`")
    command = [sys.executable, str(RENDERER), str(CHART)]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=True, timeout=120)
    rendered: list[Json] = json.loads(done.stdout)
    return rendered


@pytest.fixture(scope="module")
def rendered() -> dict[str, Json]:
    """The result of Helm by the name of the option."""
    return dict(zip(OPTIONS, render_all([BASE | each for each in OPTIONS.values()]), strict=True))


@pytest.fixture(scope="module")
def manifests(rendered: dict[str, Json]) -> dict[str, list[Json]]:
    """The manifests by the name of the option."""
    return {name: [*read_manifests(result)] for name, result in rendered.items()}


def read_manifests(result: Json) -> Iterator[Json]:
    assert "files" in result, result
    for name, text in result["files"].items():
        if name.endswith(".yaml"):
            yield from filter(None, yaml.safe_load_all(text))


def list_pods(found: list[Json]) -> Iterator[tuple[str, Json]]:
    """Yield each pod's name and spec."""
    for each in found:
        if each["kind"] == "Pod":
            yield each["metadata"]["name"], each["spec"]
        elif each["kind"] in {"Deployment", "Job"}:
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


def find(found: list[Json], kind: str, name: str = "") -> Json:
    (one,) = [each for each in found if each["kind"] == kind and f"-exports{name}" in each["metadata"]["name"]]
    return one


def test_lint_finds_nothing(rendered: dict[str, Json]) -> None:
    (bare,) = render_all([{}])
    for result in (*rendered.values(), bare):
        assert [each["error"] for each in result["lint"]] == ["icon is recommended"]


def test_documented_command_gives_what_the_chart_needs() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8").replace("\\\n", " ")
    (command,) = re.findall(r"^\$ (helm install .*)$", page, re.MULTILINE)
    words = shlex.split(command)
    assert (ROOT / words[3]) == CHART
    values: Json = {}
    for name, value in (each.split("=", 1) for each in words if "=" in each):
        *path, last = name.split(".")
        place = values
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    (result,) = render_all([values])
    assert result["files"]


@pytest.mark.parametrize("version", KUBERNETES)
def test_each_manifest_matches_the_schema_of_kubernetes(manifests: dict[str, list[Json]], version: str) -> None:
    import kubernetes_validate  # noqa: PLC0415 - CI and few others have it

    unknown, kinds = set(), set()
    for text in {json.dumps(each) for found in manifests.values() for each in found}:
        each = json.loads(text)
        kinds.add(each["kind"])
        try:
            kubernetes_validate.validate(each, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            unknown.add(each["apiVersion"])
    assert unknown == {"keda.sh/v1alpha1", "monitoring.coreos.com/v1"}
    assert {"Deployment", "Job", "Service", "PodDisruptionBudget", "NetworkPolicy", "HorizontalPodAutoscaler"} <= kinds


def test_schema_of_kubernetes_refuses_an_unknown_field(manifests: dict[str, list[Json]]) -> None:
    import kubernetes_validate  # noqa: PLC0415

    changed = json.loads(json.dumps(find(manifests["none"], "Deployment", "-web")))
    changed["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenessProb"):
        kubernetes_validate.validate(changed, KUBERNETES[-1], strict=True)


def test_values_that_cannot_work_are_refused_with_the_remedy() -> None:
    results = render_all([BASE | values for values, _ in REFUSED])
    for (values, words), result in zip(REFUSED, results, strict=True):
        assert words in result.get("error", ""), (values, result)


def test_pods_are_restricted_and_have_no_token(manifests: dict[str, list[Json]]) -> None:
    """The rules of the Pod Security Standard `restricted`, and a read-only root."""
    seen = 0
    for found in manifests.values():
        for name, pod in list_pods(found):
            seen += 1
            assert pod["automountServiceAccountToken"] is False, name
            assert pod["enableServiceLinks"] is False, name
            assert pod["securityContext"]["runAsNonRoot"] is True, name
            assert pod["securityContext"]["runAsUser"] == 10001, name
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
            assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), name
            assert all({"emptyDir", "persistentVolumeClaim"} & volume.keys() for volume in pod["volumes"]), name
            (container,) = pod["containers"]
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["limits"]["memory"], name
            variables = {each["name"] for each in container.get("env", [])}
            assert name.endswith("-readyz") or variables <= list_variables() | WEB_VARIABLES, name
            assert container["volumeMounts"][0] == {"name": "tmp", "mountPath": "/tmp"}, name  # noqa: S108
    assert seen == len(OPTIONS) * (len(PROCESSES) + 2)


def test_secrets_come_from_the_existing_secret_only(manifests: dict[str, list[Json]]) -> None:
    assert not [each for found in manifests.values() for each in found if each["kind"] in {"Secret", "ConfigMap"}]
    for name, pod in list_pods(manifests["owner"]):
        given = [each["secretRef"]["name"] for each in pod["containers"][0].get("envFrom", [])]
        if name.endswith("-readyz"):
            assert given == []
        else:
            assert given == ["exports", "exports-owner"] if name.endswith("-migrate") else ["exports"]


def test_values_take_no_secret_setting() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    forbidden = set(schema["properties"]["settings"]["propertyNames"]["not"]["enum"])
    secret = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
    for name in (*secret, "database_url"):
        alias = Settings.model_fields[name].validation_alias
        choices = alias.choices if isinstance(alias, AliasChoices) else [f"EXPORTS_{name.upper()}"]
        assert {str(each) for each in choices if str(each).isupper()} <= forbidden, name


def test_variables_of_the_processes_are_settings(
    manifests: dict[str, list[Json]], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = {
        "DATABASE_URL": "postgresql://exports:a-password@db.example/exports",
        "BROKER_URL": "amqp://exports:another-password@mq.example/exports",
        "EXPORTS_SECRET_KEY": "k" * 40,
    }
    for found in manifests.values():
        for name, pod in list_pods(found):
            (container,) = pod["containers"]
            variables = {each["name"]: each["value"] for each in container.get("env", [])}
            with monkeypatch.context() as patch:
                for variable, value in {**secret, **variables}.items():
                    patch.setenv(variable, value)
                settings = Settings()
            if not name.endswith("-readyz"):
                assert settings.public_url == "https://exports.example"
                assert settings.own_url == "http://shop-exports:8000"
            if name.endswith(("worker", "-deliveries", "-intake")):
                ports = {each["name"]: each["containerPort"] for each in container["ports"]}
                assert ports == {"metrics": settings.metrics_port}


def test_processes_are_those_of_the_procfile(manifests: dict[str, list[Json]]) -> None:
    commands = {name: command.split() for name, command in read_procfile().items()}
    for process in PROCESSES:
        (container,) = find(manifests["none"], "Deployment", f"-{process}")["spec"]["template"]["spec"]["containers"]
        assert container["command"][: len(commands[process])] == commands[process]
        assert {"startupProbe", "livenessProbe"} <= container.keys()
    (container,) = find(manifests["none"], "Job")["spec"]["template"]["spec"]["containers"]
    assert container["command"] == commands["release"]


def test_migration_runs_before_each_release(manifests: dict[str, list[Json]]) -> None:
    annotations = find(manifests["none"], "Job")["metadata"]["annotations"]
    assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
    # The hook runs before the other objects exist, so it may need none of them.
    (container,) = find(manifests["none"], "Job")["spec"]["template"]["spec"]["containers"]
    assert all("value" in each for each in container["env"])


def test_pods_have_the_documented_time_to_stop(manifests: dict[str, list[Json]]) -> None:
    for process in PROCESSES:
        pod = find(manifests["none"], "Deployment", f"-{process}")["spec"]["template"]["spec"]
        pause = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert pod["terminationGracePeriodSeconds"] - pause >= 60


def test_web_is_not_closed_because_workers_are_stuck(manifests: dict[str, list[Json]]) -> None:
    (container,) = find(manifests["none"], "Deployment", "-web")["spec"]["template"]["spec"]["containers"]
    probes = {container[each]["httpGet"]["path"] for each in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert probes == {"/livez"}
    assert '"/readyz"' in find(manifests["none"], "Pod", "-readyz")["spec"]["containers"][0]["command"][-1]


def test_selectors_match_their_pods(manifests: dict[str, list[Json]]) -> None:
    found = manifests["monitor"]
    labels = {
        process: find(found, "Deployment", f"-{process}")["spec"]["template"]["metadata"]["labels"]
        for process in PROCESSES
    }

    def select(wanted: Mapping[str, str]) -> set[str]:
        return {process for process, own in labels.items() if wanted.items() <= own.items()}

    for process in PROCESSES:
        assert select(find(found, "Deployment", f"-{process}")["spec"]["selector"]["matchLabels"]) == {process}
        assert select(find(found, "PodDisruptionBudget", f"-{process}")["spec"]["selector"]["matchLabels"]) == {process}
    assert select(find(found, "Service")["spec"]["selector"]) == {"web"}
    assert select(find(found, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]) == set(PROCESSES)
    assert select(find(found, "PodMonitor")["spec"]["selector"]["matchLabels"]) == set(PROCESSES)


def test_network_policy_lets_out_what_the_service_needs(manifests: dict[str, list[Json]]) -> None:
    spec = find(manifests["none"], "NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    dns, servers, web, partners = spec["egress"]
    assert {(each["port"], each["protocol"]) for each in dns["ports"]} == {(53, "UDP"), (53, "TCP")}
    assert {each["port"] for each in servers["ports"]} == {5432, 5671, 5672}
    assert web["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "web"
    allowed = {each["port"] for each in partners["ports"]}
    assert set(Settings.model_fields["destination_ports"].default) <= allowed
    assert {465, 587} <= allowed  # the mail server
    assert "10.0.0.0/8" in partners["to"][0]["ipBlock"]["except"]
    assert {each["port"] for rule in spec["ingress"] for each in rule["ports"]} == {8000, 9100}
    assert not [rule for rule in spec["ingress"] if "from" in rule]
    assert [len(rule["from"]) for rule in find(manifests["peers"], "NetworkPolicy")["spec"]["ingress"]] == [2, 1]


def test_workers_scale_by_the_age_of_their_queues(manifests: dict[str, list[Json]], tmp_path: Path) -> None:
    for option in ("hpa", "keda"):
        assert "replicas" not in find(manifests[option], "Deployment", "-worker")["spec"]
    metrics = [each["external"] for each in find(manifests["hpa"], "HorizontalPodAutoscaler")["spec"]["metrics"]]
    assert {each["metric"]["name"] for each in metrics} == {"exports_queue_oldest_due_seconds"}
    queues = [each["metric"]["selector"]["matchLabels"]["queue"] for each in metrics]
    assert queues == ["exports.steps", "exports.documents"]
    queries = [each["metadata"]["query"] for each in find(manifests["keda"], "ScaledObject")["spec"]["triggers"]]
    check_expressions(queries, tmp_path)
    assert [f'queue="{queue}"' in query for queue, query in zip(queues, queries, strict=True)] == [True, True]


def test_jobs_of_the_monitor_are_those_of_the_alerts(manifests: dict[str, list[Json]]) -> None:
    endpoints = find(manifests["monitor"], "PodMonitor")["spec"]["podMetricsEndpoints"]
    jobs = {each["port"]: each["relabelings"][0]["replacement"] for each in endpoints}
    assert jobs == {"http": "exports-web", "metrics": "exports-processes"}


def test_chart_has_the_version_of_the_service() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert f'version = "{chart["appVersion"]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
