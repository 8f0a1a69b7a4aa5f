"""clients/typescript: generated, strict, packed as others install it, and on the real service."""

import inspect
import json
import re
import shutil
import tarfile
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

import pytest
from standardwebhooks import Webhook

from pipeline.accounts.secrets import generate_secret
from pipeline.client.methods import ApiMethods, Operation
from pipeline.client.request import RetryWhen
from pipeline.deliveries.submissions.signature import build_signature_headers
from pipeline.interfaces.contracts.examples.catalog import read_example
from tests.client.test_client_samples import iterate_samples
from tests.conftest import skip_or_fail
from tests.support import typescript_client
from tests.support.command_line import ROOT, Commands, run_program
from tests.support.typescript_client import FOLDER

#: On a machine with much work, the compiler takes minutes.
pytestmark = [pytest.mark.timeout(600), pytest.mark.system]

#: The files of the package, as npm packs them.
PACKED: Final = {"package.json", "README.md", "LICENSE"} | {
    f"dist/{name}.{end}"
    for name in {"schema", "problems", *(path.stem for path in (FOLDER / "src").glob("*.ts"))}
    for end in ("js", "d.ts")
}

SNIPPETS: Final = re.findall(r"^```ts\n(.*?)^```$", (FOLDER / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)


def find_program(name: str) -> str:
    """Return the path of a program of Node.js; without it, skip the test, and fail in CI."""
    program = shutil.which(name)
    if program is None:
        skip_or_fail(f"{name} is not installed; the Debian packages are nodejs and npm")
    if not (FOLDER / "node_modules" / "typescript").is_dir():
        skip_or_fail("the packages of the TypeScript client are not installed; run `make kits`")
    return program


def compile_project(folder: Path) -> None:
    run_program(
        [find_program("node"), str(FOLDER / "node_modules/typescript/bin/tsc"), "--project", str(folder)], folder
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the packed client among its packages; its types fit the tests, the page, and the API's samples."""
    assert len(SNIPPETS) == 6
    npm = find_program("npm")
    find_program("node")
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("project")
    for name in ("package.json", "README.md", "LICENSE", "tsconfig.json"):
        shutil.copy(FOLDER / name, source)
    shutil.copytree(FOLDER / "src", source / "src")
    (source / "node_modules").symlink_to(FOLDER / "node_modules")
    assert typescript_client.write(source) == 0
    run_program([npm, "pack", "--offline", "--loglevel=error"], source)

    packages = folder / "node_modules"
    packages.mkdir()
    with tarfile.open(next(source.glob("*.tgz"))) as archive:
        archive.extractall(packages, filter="data")
    (packages / "package").rename(packages / "exports-client")
    for each in (FOLDER / "node_modules").iterdir():
        if each.name not in {".bin", ".package-lock.json"}:
            (packages / each.name).symlink_to(each)
    shutil.copytree(FOLDER / "test", folder / "test")
    # Other pages use the same key on the same service.
    page = "".join(SNIPPETS).replace("order-run-481", "order-of-the-typescript-page")
    (folder / "test" / "page.ts").write_text(page)
    for _, name, samples in iterate_samples("https://exports.example"):
        (folder / "test" / f"sample-{name}.ts").write_text(samples["TypeScript"])
    shutil.copy(FOLDER / "tsconfig.json", folder)
    (folder / "package.json").write_text('{"type": "module"}')
    compile_project(folder / "test")
    return folder


def run_tests(project: Path, name: str, **environment: str) -> None:
    run_program([find_program("node"), "--test", f"test/build/{name}.test.js"], project, **environment)


def test_package_has_its_files_licence_and_types(project: Path) -> None:
    package = project / "node_modules" / "exports-client"
    facts = json.loads((package / "package.json").read_text())
    service = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()} == PACKED
    assert (package / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (facts["version"], facts["license"]) == (service["version"], service["license"])
    assert all((package / path).is_file() for path in facts["exports"]["."].values())


def test_calls_against_a_scripted_server(project: Path) -> None:
    run_tests(project, "calls")


def test_webhooks_that_the_service_signed(project: Path) -> None:
    event, secret = read_example("exports.package.recorded.v1"), generate_secret()
    body = json.dumps(event)
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    old = {
        "webhook-id": event["id"],
        "webhook-timestamp": str(int(hour_ago.timestamp())),
        "webhook-signature": Webhook(secret).sign(event["id"], hour_ago, body),
    }
    headers = build_signature_headers(event["id"], body.encode(), secret)
    signed = project / "signed.json"
    signed.write_text(json.dumps({"body": body, "headers": headers, "secret": secret, "older": old}))

    run_tests(project, "webhooks", SIGNED=str(signed))


def read_plan(service: Commands, batch: str) -> dict[str, Any]:
    plan: dict[str, Any] = json.loads(service("plans", "example", "cookware").stdout)
    return plan | {"batchId": batch}


def test_real_service_executes_follows_and_fetches(project: Path, service: Commands) -> None:
    plan = project / "service.json"
    plan.write_text(json.dumps(read_plan(service, "batch_of_typescript")))

    run_tests(project, "service", PLAN=str(plan), **service.environment)


def test_example_of_the_page_runs(project: Path, service: Commands) -> None:
    folder = project / "page"
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps(read_plan(service, "batch_of_the_typescript_page")))

    printed = run_program([find_program("node"), "../test/build/page.js"], folder, **service.environment)

    assert re.match(r"exp_\w+ executed ", printed)
    assert "EXPORT_EXECUTED" in printed
    assert len(list(folder.glob("*.pdf"))) > 1


def test_lock_matches_the_installation_and_names_no_registry() -> None:
    packages = json.loads((FOLDER / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert packages[""]["dependencies"] == json.loads((FOLDER / "package.json").read_text())["dependencies"]
    installed = {name: each for name, each in packages.items() if name}
    assert "node_modules/openapi-fetch" in installed
    assert all(each["integrity"].startswith("sha512-") and "resolved" not in each for each in installed.values())


def list_repeatable_calls() -> set[str]:
    """Return the changing calls that the Python client repeats, as `post /api/exports/{id}/acknowledge`."""
    found = set()
    for method in vars(ApiMethods).values():
        if isinstance(method, Operation):
            parameters = inspect.signature(method._describe).parameters.values()
            hints = get_type_hints(method._describe)
            needed = [each for each in parameters if each.default is each.empty and each.kind != each.VAR_KEYWORD]
            named = {each.name: "m-1" for each in needed if each.kind == each.KEYWORD_ONLY}
            given = [make_argument(each.name, hints[each.name]) for each in needed if each.kind != each.KEYWORD_ONLY]
            call = method._describe(*given, **named)
            if call.retry_when is RetryWhen.ALWAYS and call.method != "GET":
                found.add(f"{call.method.lower()} /{call.path.replace('~', '{id}')}")
    assert found
    return found


def make_argument(name: str, kind: Any) -> Any:
    """Return some value of a parameter's type; ids are `~`, which stays as it is in a path."""
    if kind is str:
        return "a.pdf" if name == "filename" else "~"
    if kind is datetime:
        return datetime.now(UTC)
    model = next(iter(get_args(kind)), kind)  # of a union, its first
    return model.model_construct(id="~") if hasattr(model, "model_construct") else {}


def test_calls_that_may_be_repeated_are_those_of_the_python_client() -> None:
    table = (FOLDER / "src" / "retries.ts").read_text(encoding="utf-8")
    typescript = set(re.findall(r'^  "((?:post|patch|delete) \S+)",$', table, re.MULTILINE))
    assert typescript == list_repeatable_calls()
