"""A copy taken while exports are under way brings each to its end when it is put back, told under the ids of before."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlmodel import SQLModel, col

from config.settings import Settings
from pipeline import accounts, audit, backup, delivery, migrations, partners
from pipeline.acceptance import accept
from pipeline.accounts import Caller
from pipeline.claims import claim
from pipeline.errors import Fenced, InvalidState
from pipeline.execution import SPECS, Wake, advance, owed_again
from pipeline.migrations import Standing
from pipeline.models import Artifact, Delivery, Export, Notification
from pipeline.runtime import Runtime, open_runtime
from pipeline.schemas.execution import ExecuteRequest
from pipeline.schemas.partners import NewPartner
from tests import builders
from tests.conftest import SERVERS
from tests.execution.conftest import House
from tests.servers import PostgreSQL, poll

CALLER = Caller(builders.ACCOUNT, "key_test", "test", frozenset({"execute", "read", "operate"}))
#: How far each export has come when the copy is taken: nothing, one step, a step that is held, documents, all but the telling.
STAGES: Sequence[Sequence[tuple[int, str]]] = (
    (),
    ((1, "record_packages"),),
    ((1, "record_packages"),),
    ((1, "record_packages"), (1, "render_documents")),
    ((1, "record_packages"), (1, "render_documents"), (0, "notify_warehouse")),
)
HELD = 2

Open = Callable[[str, str], Runtime]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Open a service on a database and a store; its leases are short."""
    runtimes: list[Runtime] = []

    def start(database_url: str, artifacts_url: str) -> Runtime:
        settings = {"lease_seconds": 0.3, "stalled_seconds": 0.05, "step_retry_seconds": 0.05}
        urls = {"database_url": database_url, "artifacts_url": artifacts_url, "secret_key": "of the tests alone"}
        runtimes.append(open_runtime(Settings.model_validate(urls | settings)))
        return runtimes[-1]

    yield start
    for runtime in runtimes:
        runtime.close()


def take(runtime: Runtime, name: str) -> str:
    plan = builders.plan(batch=name, invoice=name.upper())
    body = {"accountId": plan["accountId"], "batchId": plan["batchId"], "plan": plan}
    request = ExecuteRequest.model_validate(body)
    return accept(runtime, CALLER, request, raw_plan=plan, idempotency_key=None).export_id


def under_way(runtime: Runtime) -> list[str]:
    """Have exports at every stage, one of them held by a worker; return their ids."""
    accounts.create_account(runtime, builders.ACCOUNT, "Maple Goods Ltd", gs1_prefix="0614141")
    for partner_id, kind in ((builders.BROKER, "customs_broker"), (builders.WAREHOUSE, "warehouse")):
        facts = {"id": partner_id, "kind": kind, "name": "of a test", "test": True, "live": True}
        partners.create(runtime, builders.ACCOUNT, NewPartner.model_validate(facts))
    exports = []
    for number, stage in enumerate(STAGES):
        export_id = take(runtime, f"a{number}")
        for unit_no, step in stage:
            assert step in advance(runtime, export_id, unit_no, step).did
        exports.append(export_id)
    assert claim(runtime, exports[HELD], 1, "render_documents", begins=False, among=SPECS) is not None
    return exports


def state(runtime: Runtime, export_id: str) -> str:
    with runtime.db.read() as session:
        return session.get_one(Export, export_id).state


def finish(runtime: Runtime, exports: Sequence[str]) -> None:
    """Sweep as workers do until all exports are executed and nothing is owed."""

    def swept() -> bool:
        wakes: list[Wake] = owed_again(runtime)
        while wakes:
            wake = wakes.pop()
            if wake.step is not None:
                wakes += advance(runtime, wake.export_id, wake.unit_no, wake.step).wakes
            elif wake.partner_id and wake.channel:
                with suppress(Fenced):  # leases are short here: on a busy machine one may be over, and it is owed again
                    delivery.deliver(runtime, wake.export_id, wake.partner_id, wake.channel)
        return all(state(runtime, each) == "executed" for each in exports) and not owed(runtime)

    poll(swept, 60, "they did not end")


def owed(runtime: Runtime) -> int:
    with runtime.db.read() as session:
        return len(session.scalars(select(col(Delivery.id)).where(col(Delivery.state) == "pending")).all())


def ids(runtime: Runtime, table: type[SQLModel], exports: Sequence[str], state: str | None = None) -> set[str]:
    wanted = table.__table__.c  # type: ignore[attr-defined]  # SQLModel's own
    query = select(wanted.id).where(wanted.export_id.in_(exports))
    with runtime.db.read() as session:
        return set(session.scalars(query if state is None else query.where(wanted.state == state)))


def held_to_its_promises(original: Runtime, restored: Runtime, exports: Sequence[str], delivered: set[str]) -> None:
    """The restored service brings every export to its end, with the same messages, and repeats none that it knows of."""
    attempts_before = tries(restored)
    finish(restored, exports)
    finish(original, exports)
    assert ids(restored, Notification, exports) == ids(original, Notification, exports)
    assert {row: count for row, count in tries(restored).items() if row in delivered} == {
        row: count for row, count in attempts_before.items() if row in delivered
    }
    assert audit.survey(restored).intact
    with restored.db.read() as session:
        for sha256 in set(session.scalars(select(col(Artifact.sha256)))):
            restored.store.get(sha256)


def tries(runtime: Runtime) -> dict[str, int]:
    with runtime.db.read() as session:
        return {row.id: row.attempts for row in session.scalars(select(Delivery))}


def test_sqlite_is_copied_while_exports_are_accepted_and_goes_on_from_the_copy(
    opened: Open, sqlite_url: str, tmp_path: Path
) -> None:
    original = opened(sqlite_url, f"file:{tmp_path / 'artifacts'}")
    exports = under_way(original)
    delivered = ids(original, Delivery, exports, "delivered")
    assert len(delivered) == 2
    over = threading.Event()
    late: list[str] = []

    def accept_more() -> None:
        while not over.is_set():
            late.append(take(original, f"late{len(late)}"))

    writer = threading.Thread(target=accept_more)
    writer.start()
    try:
        poll(lambda: len(late) > 1, 30, "nothing is accepted")
        made = backup.take(original, tmp_path / "copy")
        accepted = len(late)
        poll(lambda: len(late) > accepted, 30, "nobody could write after the copy")
    finally:
        over.set()
        writer.join()
    assert len(exports) <= made.exports <= len(exports) + len(late)
    assert made.documents > 0

    home = tmp_path / "restored"
    shutil.copytree(tmp_path / "copy", home)
    restored = opened(f"sqlite:///{home / backup.DATABASE}", f"file:{home / backup.DOCUMENTS}")
    assert migrations.standing(restored.db) is Standing.CURRENT
    held_to_its_promises(original, restored, exports, delivered)


def test_copy_goes_nowhere_else_than_into_a_folder_of_its_own(house: House, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    backup.take(house.runtime, folder)
    before = (folder / backup.DATABASE).read_bytes()
    with pytest.raises(InvalidState, match="is not empty"):
        backup.take(house.runtime, folder)
    assert (folder / backup.DATABASE).read_bytes() == before


def test_copy_without_a_document_is_none(house: House, tmp_path: Path) -> None:
    export_id = house.accept().export_id
    house.step(export_id, 1, "record_packages")
    house.step(export_id, 1, "render_documents")
    with house.runtime.db.read() as session:
        sha256 = session.scalars(select(col(Artifact.sha256))).first()
    (lost,) = (tmp_path / "artifacts").rglob(str(sha256))
    lost.unlink()
    with pytest.raises(Exception, match=f"document {sha256} cannot be read"):
        backup.take(house.runtime, tmp_path / "copy")
    assert not (tmp_path / "copy" / backup.DATABASE).exists()


@SERVERS
def test_postgresql_is_dumped_while_exports_are_under_way_and_goes_on_from_the_dump(
    opened: Open, postgres_server: PostgreSQL, postgres_template: str, tmp_path: Path
) -> None:
    url = postgres_server.fresh_url(postgres_template)
    original = opened(url, f"file:{tmp_path / 'artifacts'}")
    exports = under_way(original)
    delivered = ids(original, Delivery, exports, "delivered")
    with pytest.raises(InvalidState, match="pg_dump"):
        backup.take(original, tmp_path / "copy")

    programs = Path(postgres_server.program).parent
    plain = url.replace("+psycopg", "")
    dump = tmp_path / "exports.dump"
    subprocess.run([programs / "pg_dump", "--format=custom", f"--file={dump}", f"--dbname={plain}"], check=True)
    shutil.copytree(tmp_path / "artifacts", tmp_path / "copied")  # after the dump
    back = postgres_server.fresh_url()
    subprocess.run(
        [programs / "pg_restore", "--exit-on-error", f"--dbname={back.replace('+psycopg', '')}", dump], check=True
    )
    restored = opened(back, f"file:{tmp_path / 'copied'}")
    assert migrations.standing(restored.db) is Standing.CURRENT
    held_to_its_promises(original, restored, exports, delivered)
