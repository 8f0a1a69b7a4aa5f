"""S12: what it costs to start commands, to make a first delivery, and to wait for work."""

import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Final

import psutil

from config.celery import app
from config.logs import configure_logs
from config.settings import get_settings
from pipeline.core.runtime import open_runtime, process_runtime
from pipeline.deliveries.streams import sender
from tests.deliveries.support import exports
from tests.support import factories
from tests.support.ports import LOOPBACK, accepts, free_port
from tests.support.servers import poll
from tests.system.acceptance.programs import Program
from tests.system.benchmarks.environments import EMBEDDED, BenchmarkServers, create_key
from tests.system.benchmarks.exports import accept_exports, make_plan, wait_until_delivered
from tests.system.benchmarks.goals import Extent, Goal, at_most
from tests.system.benchmarks.interleave import build_environment, run_module

_EXPORTS: Final = str(Path(sys.executable).with_name("exports"))


def measure(servers: BenchmarkServers, extent: Extent) -> list[Goal]:
    """Measure starts, the first delivery, an idle service and, in a whole run, the demo."""
    stack = servers.stack(EMBEDDED)
    folder = servers.make_folder()
    plain = build_environment(stack, {})
    help_seconds = _measure_command([_EXPORTS, "--help"], plain, folder, extent.starts)
    port = free_port()
    service = Program("service", f"exports serve --port {port}", stack.environment, folder)
    key = create_key(stack.settings)
    with closing(open_runtime(stack.settings)) as runtime:
        (export_id,) = accept_exports(runtime, 1)
        service.start()
        try:
            # The sweeper finds the export, which nobody published.
            wait_until_delivered(runtime, [export_id])
            poll(lambda: accepts(port), 30, f"the service did not start\n{service.log()}")
            client = {"EXPORTS_API_URL": f"http://{LOOPBACK}:{port}", "EXPORTS_API_KEY": key}
            inspect = [_EXPORTS, "inspect", export_id]
            inspect_seconds = _measure_command(inspect, plain | client, folder, extent.starts)
            idle = _measure_idle(service.running().pid, extent)
        finally:
            service.stop()
    first = median(_measure_first_delivery(servers) for _ in range(extent.starts))
    goals = [
        at_most("S12", "processor s of `exports --help`", 0.3, help_seconds),
        at_most("S12", "processor s of `exports inspect`", 0.6, inspect_seconds),
        at_most("S12", "processor s of the first delivery of a fresh process", 0.2, first),
        at_most("S12", "% of a core of an idle `exports serve`", 1, idle * 100),
    ]
    if extent.demo:
        demo = [_measure_wall([_EXPORTS, "demo", "--home", str(folder / "demo")], plain, folder) for _ in range(2)][1]
        goals.append(at_most("S12", "wall s of the second demo", 4, demo))
    return goals


def _measure_command(command: Sequence[str], environment: Mapping[str, str], folder: Path, times: int) -> float:
    """Return the median processor seconds of a command; its first run, which compiles modules, does not count."""
    seconds = []
    for _ in range(times + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return median(seconds[1:])


def _measure_wall(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def _measure_idle(pid: int, extent: Extent) -> float:
    """Return the share of a core that the service and its children use while nothing is due."""
    time.sleep(extent.settle_seconds)
    before = _read_all_seconds(pid)
    time.sleep(extent.idle_seconds)
    return (_read_all_seconds(pid) - before) / extent.idle_seconds


def _read_all_seconds(pid: int) -> float:
    root = psutil.Process(pid)
    return sum(sum(each.cpu_times()[:2]) for each in (root, *root.children(recursive=True)))


def _measure_first_delivery(servers: BenchmarkServers) -> float:
    """Return the processor seconds of the first delivery of a process that has imported what a worker imports."""
    stack = servers.stack(EMBEDDED)
    with closing(open_runtime(stack.settings)) as runtime:
        made = exports.prepare_export(runtime, make_plan())
        exports.hand_off(runtime, made)
    return float(run_module(__name__, (made.export_id,), stack))


def main(export_id: str) -> None:
    """Make the export's first delivery and print its processor seconds."""
    configure_logs(get_settings())
    app.loader.init_worker()
    began = time.process_time()
    report = sender.deliver_stream(process_runtime(), export_id, factories.WAREHOUSE, "queue")
    seconds = time.process_time() - began
    if not report.delivered:
        raise RuntimeError("nothing was delivered")
    sys.stdout.write(f"{seconds}\n")


if __name__ == "__main__":
    main(sys.argv[1])
