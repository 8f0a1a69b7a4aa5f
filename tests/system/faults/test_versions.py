"""An older and a newer version side by side, as in every upgrade: each runs only the steps that it knows."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.support.fork_server import ROOT, ForkServer, start_fork_server
from tests.support.ports import LOOPBACK, free_port
from tests.support.servers import poll
from tests.system.faults.case import Case, open_case
from tests.system.faults.fork_server import MODULE
from tests.system.faults.matrix import REDIS, SERVED, fault
from tests.system.faults.site import START_SECONDS, Program, Site, answers

#: No lease expires because the machine is busy.
LONG_LEASE = {"lease_seconds": "20"}

#: The step that only the newer version has, in the middle of a unit's chain.
NEW = "screen_parties"

#: The end of the row of the step before, and the new row after it.
BEFORE = """        write=treatment.attach_treatment,
        opens=("render_documents",),
    ),
"""
STEP = f"""        write=treatment.attach_treatment,
        opens=("{NEW}",),
    ),
    StepSpec(name="{NEW}", text="Screening", event=EventType.TREATMENT_ATTACHED, opens=("render_documents",)),
"""
MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{newest}"


def upgrade():
    op.create_table("screenings", sa.Column("id", sa.String(), primary_key=True))
    with op.batch_alter_table("exports") as batch_op:
        batch_op.add_column(sa.Column("screened_by", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("screenings", sa.Integer(), nullable=False, server_default="0"))
"""


@pytest.fixture(scope="module")
def newer_version(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """The processes of a version with one more step and migration."""
    root = tmp_path_factory.mktemp("newer")
    for folder in ("config", "pipeline", "tasks", "templates", "tests"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    steps = root / "pipeline/workflow/steps.py"
    before = steps.read_text()
    assert before.count(BEFORE) == 1
    steps.write_text(before.replace(BEFORE, STEP))
    newest = max(path.name for path in (root / "pipeline/ops/migrations/versions").glob("0*.py"))[:4]
    (root / "pipeline/ops/migrations/versions/9999_newer.py").write_text(MIGRATION.format(newest=newest))
    with start_fork_server(tmp_path_factory.mktemp("newer-fork-server"), module=MODULE, root=root) as parent:
        yield parent


def start_beside(site: Site, newer_version: ForkServer, role: str, command: str, **changes: str) -> Program:
    """Start a program of the newer version beside those of this one."""
    program = site.programs[f"newer-{role}"] = Program(site, f"newer-{role}", command)
    program.fork_server = newer_version
    program.start(**changes)
    return program


def list_made(program: Program) -> set[str]:
    """Return the exports whose steps a program ran."""
    records = [json.loads(line) for line in program.log().splitlines() if line.startswith("{")]
    return {record["export_id"] for record in records if record["event"] == "step_done"}


def list_steps(one: Case, export_id: str) -> Counter[str]:
    return Counter(row["name"] for row in one.snapshot().tables["steps"] if row["export_id"] == export_id)


@fault("F36", everyday=(REDIS,), long=SERVED, on="own_site")
def test_rolling_upgrade(own_site: Site, newer_version: ForkServer, tmp_path: Path) -> None:
    site = own_site
    port = free_port()
    with open_case(site, tmp_path) as one:
        site["worker"].start(**LONG_LEASE)
        olds = [one.accepted()]
        one.wait_until_finished(olds)

        # The schema is newer, but no program of that version runs yet: this version is ready and continues.
        release = start_beside(site, newer_version, "release", "exports migrate")
        assert release.child is not None
        assert release.child.wait(120) == 0, release.log()
        del site.programs[release.name]
        ready = httpx.get(f"{site.url}/readyz", timeout=30, trust_env=False)
        assert ready.status_code == 200, ready.text
        olds += [one.accepted(one.client.plan(units=2)) for _ in range(2)]
        one.wait_until_finished(olds)

        # Both versions run, and each takes its own work.
        web = start_beside(site, newer_version, "web", f"{site['web'].command} --port {port}")
        url = f"http://{LOOPBACK}:{port}"
        poll(lambda: answers(url), START_SECONDS, f"the newer API did not start\n{web.log()}")
        worker = start_beside(site, newer_version, "worker", site["worker"].command, **LONG_LEASE)
        theirs = replace(
            one.client, http=httpx.Client(base_url=url, headers=one.client.http.headers, timeout=120, trust_env=False)
        )
        news = []
        with theirs.http:
            new = replace(one, client=theirs)
            for _ in range(4):
                news.append(new.accepted(theirs.plan(units=2)))
                olds.append(one.accepted(one.client.plan(units=2)))
            one.wait_until_finished([*olds, *news])

            # The older version's programs end; the newer version continues.
            for role in ("web", "worker"):
                site[role].kill()
            more = new.accepted(theirs.plan())
            new.wait_until_finished([more])
            news.append(more)

        assert list_made(site["worker"]) == {*olds}, "this version ran an unknown step, or not all of its own"
        assert list_made(worker) == {*news}
        assert {list_steps(one, each)[NEW] for each in olds} == {0}
        assert {list_steps(one, each)[NEW] for each in news[:-1]} == {2}
        history = one.check(again=[olds[-1], news[-1]])
        assert {row["attempts"] for row in history.snapshot.tables["steps"]} == {1}
        assert one.partner_stub.count_repeats() == 0
        assert set(one.list_states()) == {"executed"}
        assert "sweep_raised" not in site["worker"].log()
