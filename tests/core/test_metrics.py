"""Metrics of one process, and of processes that share a folder and may be killed."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.errors import MetricsNotServed
from pipeline.core.metrics import serve_metrics
from pipeline.core.metrics_folder import share_metrics
from tests.support.metrics_text import parse, scrape, value
from tests.support.ports import LOOPBACK, free_port

ROOT = Path(__file__).resolve().parents[2]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_program(tmp_path: Path) -> Run:
    """Runs a Python program whose temporary folder is the test's; fails if it does not end in a minute."""

    def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


#: A parent with two children that count and are killed, and then a third.
POOL = """
import os, signal, sys
from pathlib import Path
from pipeline.core.metrics_folder import find_shared_folder, share_metrics

with share_metrics():
    from prometheus_client import generate_latest
    from pipeline.core.metrics import build_registry, count, observe, set_gauge
    from pipeline.exports.metrics import LAST_SWEEP, LEASES_LOST, STEP_SECONDS

    def fork():
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            count(LEASES_LOST, "step", by=3)
            observe(STEP_SECONDS, 0.2, "hand_off", "done")
            set_gauge(LAST_SWEEP, 1e9 + os.getpid())
            os.write(write, b"x")
            signal.pause()
        os.read(read, 1)
        return pid

    def page():
        return generate_latest(build_registry()).decode()

    count(LEASES_LOST, "step")
    pids = [fork(), fork()]
    both = page()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    after = page()
    (find_shared_folder() / f"counter_{pids[0]}.db").touch()  # a process that was killed as it opened its file
    pids = [fork()]
    last = page()
    files = sorted(path.name for path in find_shared_folder().iterdir())
    os.kill(pids[0], signal.SIGKILL)
    folder = find_shared_folder()
    for each in (both, after, last):
        print(each, end="---")
    print(" ".join(files).replace(str(os.getpid()), "PARENT").replace(str(pids[0]), "CHILD"))
print(folder.exists())
"""


@pytest.mark.system
def test_killed_children_stay_in_the_sums_and_their_files_go(run_program: Run) -> None:
    ran = run_program(POOL)
    assert ran.returncode == 0, ran.stderr
    *pages, rest = ran.stdout.split("---")
    files, exists = rest.split("\n")[:2]
    counted = [parse(page) for page in pages]
    lost = [value(page, "exports_leases_lost_total", work="step") for page in counted]
    assert lost == [7, 7, 10]
    steps = [value(page, "exports_step_seconds_count", step="hand_off", result="done") for page in counted]
    assert steps == [2, 2, 3]
    below = [value(page, "exports_step_seconds_bucket", step="hand_off", le="0.25") for page in counted]
    assert below == [2, 2, 3]
    assert value(counted[2], "exports_step_seconds_sum") == pytest.approx(0.6)
    swept = [value(page, "exports_sweep_last_success_timestamp_seconds") for page in counted]
    assert swept[0] > 1e9
    assert swept[1] == 0, "a gauge of a dead process is not shown"
    kinds = ("counter", "gauge_livemax", "histogram")
    ended = ["counter_ended.db", "histogram_ended.db"]
    expected = [f"{kind}_{who}.db" for kind in kinds for who in ("CHILD", "PARENT")] + ended + ["lock", "owner"]
    assert sorted(files.split()) == sorted(expected)
    assert exists == "False"


#: Threads of the parent count all the time while it forks children that count once.
FORKS = """
import os, sys, threading
from pipeline.core.metrics_folder import share_metrics

with share_metrics():
    from pipeline.core.metrics import count
    from pipeline.exports.metrics import SWEPT

    ended = threading.Event()

    def count_on():
        while not ended.is_set():
            count(SWEPT, "step")

    threads = [threading.Thread(target=count_on) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(150):
        pid = os.fork()
        if pid == 0:
            count(SWEPT, "step")
            os._exit(0)
        os.waitpid(pid, 0)
    ended.set()
print("ended")
"""


@pytest.mark.system
def test_child_that_was_forked_during_an_update_can_count(run_program: Run) -> None:
    ran = run_program(FORKS)
    assert (ran.returncode, ran.stdout) == (0, "ended\n"), ran.stderr


#: The parent is killed: its folder stays until another pool starts, which is not before it is a minute old.
KILLED = """
import os, signal
from pipeline.core.metrics_folder import share_metrics
with share_metrics():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_folder_of_a_killed_pool_is_deleted_by_the_next(run_program: Run, tmp_path: Path) -> None:
    for _ in range(2):
        assert run_program(KILLED).returncode < 0
    assert len(list(tmp_path.iterdir())) == 2, "it is new, so its owner may not have locked it yet"
    for folder in tmp_path.iterdir():
        os.utime(folder, (0, 0))
    foreign = tmp_path / "exports-metrics-link"
    foreign.symlink_to(ROOT)
    assert (
        run_program("from pipeline.core.metrics_folder import share_metrics\nwith share_metrics(): pass").returncode
        == 0
    )
    assert list(tmp_path.iterdir()) == [foreign]
    assert (ROOT / "pipeline").is_dir()


def test_folder_of_a_living_pool_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with share_metrics():
        (own,) = tmp_path.iterdir()
        os.utime(own, (0, 0))
        with share_metrics():
            assert own.exists()
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    reason = "cannot make a folder for the metrics: Not a directory; set TMPDIR"
    with pytest.raises(MetricsNotServed, match=reason), share_metrics():
        pass


#: Files may have a kilobyte, as on a full disk.
FULL = """
import os, resource, sys
from pipeline.core.metrics_folder import share_metrics
from pipeline.core.errors import MetricsNotServed

def fill():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

if sys.argv[1] == "parent":
    fill()
try:
    with share_metrics():
        from pipeline.core.metrics import count
        from pipeline.exports.metrics import LEASES_LOST
        fill()
        pid = os.fork()
        count(LEASES_LOST, "step")
        if pid == 0:
            os._exit(0)
        print("child ended with", os.waitpid(pid, 0)[1])
except MetricsNotServed as error:
    print(error)
print(os.listdir(os.environ["TMPDIR"]))
"""


def test_full_disk_stops_the_start_but_no_child(run_program: Run) -> None:
    ran = run_program(FULL, "child")
    logged, *printed = ran.stdout.splitlines()
    assert "metrics_not_counted" in logged, ran.stderr
    assert printed == ["child ended with 0", "[]"]
    ran = run_program(FULL, "parent")
    assert ran.stdout.startswith("cannot make a folder for the metrics: File too large; set TMPDIR"), ran.stderr
    assert ran.stdout.endswith("[]\n")


def test_page_is_served_while_the_block_runs() -> None:
    port = free_port()
    with serve_metrics(LOOPBACK, port) as served:
        assert served == port
        families = scrape(port)
        assert value(families, "exports_build_info") == 1
        assert families["process_resident_memory_bytes"].samples[0].value > 1_000_000
    with socket.create_server((LOOPBACK, port)):
        pass


def test_taken_port_is_named() -> None:
    with serve_metrics(LOOPBACK, 0) as port:
        with pytest.raises(MetricsNotServed) as raised, serve_metrics(LOOPBACK, port):
            pass
        assert str(raised.value) == (
            f"cannot serve the metrics at 127.0.0.1:{port}: Address already in use; another process may use the port, so"
            " give each process its own by --metrics-port, or set EXPORTS_METRICS_PORT=0"
        )
