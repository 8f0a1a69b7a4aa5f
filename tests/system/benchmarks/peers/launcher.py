"""The side of a peer: it inserts a round's exports, sends their first tasks, and waits until all are done."""

import os
import sys
import time

import psycopg

from pipeline.core.ids import new_id
from pipeline.exports.plans import canonical_json
from tests.system.benchmarks.exports import LIMIT_SECONDS, POLL_SECONDS, make_plan
from tests.system.benchmarks.interleave import run_rounds
from tests.system.benchmarks.peers import work

_ADD_EXPORT = "INSERT INTO peer_exports (id, plan) VALUES (%s, %s)"
_COUNT_PENDING = "SELECT count(*) FROM peer_exports WHERE id = ANY(%s) AND done_at IS NULL"


def main(peer: str, count: int) -> None:
    """Run `count` exports a round by the peer `celery` or `procrastinate`."""
    if peer == "celery":
        from tests.system.benchmarks.peers import celery_app  # noqa: PLC0415 - only its own side has it configured

        send = celery_app.send
    else:
        from tests.system.benchmarks.peers import procrastinate_app  # noqa: PLC0415 - may not be installed

        send = procrastinate_app.open_sender()
    connection = psycopg.connect(os.environ["DATABASE_URL"].replace("+psycopg", ""), autocommit=True)
    ids: list[str] = []

    def prepare() -> None:
        ids[:] = [new_id("peer") for _ in range(count)]
        for each in ids:
            plan = canonical_json(make_plan()["units"][0]) if work.WITH_DOCUMENTS else None
            connection.execute(_ADD_EXPORT, (each, plan))

    def run() -> None:
        for each in ids:
            send(each)
        deadline = time.monotonic() + LIMIT_SECONDS
        while connection.execute(_COUNT_PENDING, (ids,)).fetchone() != (0,):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the peer did not end after {LIMIT_SECONDS:g} s")
            time.sleep(POLL_SECONDS)

    run_rounds(prepare, run)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
